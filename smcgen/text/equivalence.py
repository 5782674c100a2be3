"""When two answers are the same one: written differently, they share a vote.

| name | equal are |
|---|---|
| exact | equal strings |
| string | equal strings but for case, spaces and a final full stop |
| numeric | equal numbers (1,000 = 1000.0 = 1e3, 1/2 = `\\frac{1}{2}` = 0.5 = 50%, $3 = 3), else as "string" |
| math | equal mathematical expressions in LaTeX (extra `math`: the package math-verify), else as "numeric" |
"""

import logging
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

from smcgen.errors import InvalidArgument, MissingExtra, UnknownName

Equivalent = Callable[[str, str], bool]

_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?")
_THOUSANDS = re.compile(r"(?<=\d)(?:,|\{,\}|,?\\!|\\,)(?=\d{3}(?!\d))")
_FRAC = re.compile(r"([-+]?)\\[dt]?frac\s*(?:\{(-?\d+)\}|(\d))\s*(?:\{(\d+)\}|(\d))")


def exact(a: str, b: str) -> bool:
    """Equal strings."""
    return a == b


def _plain(answer: str) -> str:
    return " ".join(answer.split()).casefold().rstrip(".")


def string(a: str, b: str) -> bool:
    """Equal strings but for case, spaces and a final full stop."""
    return _plain(a) == _plain(b)


def number_of(answer: str) -> Fraction | None:
    """The number that an answer is: integers, decimals, powers of ten, fractions, per cent, a currency sign."""
    text = answer.strip().rstrip(".").replace("\\$", "").strip("$ ").replace("\u2212", "-")
    text = _THOUSANDS.sub("", text)
    if fraction := _FRAC.fullmatch(text):
        sign, *parts = fraction.groups()
        text = sign + "/".join(part for part in parts if part is not None)
    percent = text.endswith("%")
    text = text.rstrip("%").rstrip("\\").strip()
    upper, slash, lower = text.partition("/")
    parts = [upper.strip(), lower.strip()] if slash else [upper.strip()]
    if not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    value = Fraction(parts[0])
    if slash:
        divisor = Fraction(parts[1])
        if divisor == 0:
            return None
        value /= divisor
    return value / 100 if percent else value


def numeric(a: str, b: str) -> bool:
    """Equal numbers, exactly; answers that are no numbers as `string`."""
    x, y = number_of(a), number_of(b)
    return string(a, b) if x is None or y is None else x == y


@lru_cache(maxsize=10_000)
def _parsed(answer: str) -> Any:
    try:
        from math_verify import LatexExtractionConfig, parse
    except ImportError as error:
        raise MissingExtra("equivalence 'math'", "math-verify", "math") from error
    for part in ("parser", "grader"):  # they warn that there is no timeout
        logging.getLogger(f"math_verify.{part}").setLevel(logging.ERROR)
    # LaTeX only: its grammar is parsed; plain expressions would be evaluated. No timeout, which needs the main thread.
    none: Any = None
    return parse(f"${answer}$", [LatexExtractionConfig()], parsing_timeout=none)


def mathematical(a: str, b: str) -> bool:
    """Equal mathematical expressions in LaTeX."""
    if numeric(a, b):
        return True
    from math_verify import verify

    x, y = _parsed(a), _parsed(b)
    return bool(x and y and verify(x, y, timeout_seconds=None))


EQUIVALENCES: dict[str, Equivalent] = {
    "exact": exact,
    "string": string,
    "numeric": numeric,
    "math": mathematical,
}


def as_equivalence(equivalent: str | Equivalent) -> Equivalent:
    """A rule by its name, or a function of two answers.

    Raises:
        MissingExtra: "math" without the package math-verify.
    """
    if isinstance(equivalent, str):
        if equivalent not in EQUIVALENCES:
            raise UnknownName("equivalent", equivalent, EQUIVALENCES)
        if equivalent == "math":
            _parsed("1")
        return EQUIVALENCES[equivalent]
    if not callable(equivalent):
        raise InvalidArgument("equivalent", equivalent, "a function of two answers, or a name")
    return equivalent


def merged(answers: Sequence[str | None], equivalent: Equivalent) -> list[str | None]:
    """Each answer as the first one that it is equivalent to."""
    classes: dict[str, str] = {}
    for answer in answers:
        if answer is not None and answer not in classes:
            known = dict.fromkeys(classes.values())
            classes[answer] = next((c for c in known if equivalent(c, answer)), answer)
    return [None if answer is None else classes[answer] for answer in answers]
