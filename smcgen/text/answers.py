"""Answers: what texts conclude, and the weighted posterior over it."""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from smcgen.errors import InvalidArgument, UnknownName

Extract = Callable[[str], str | None]

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def last_number(text: str) -> str | None:
    """The last number in the text, thousands separators left out."""
    found = _NUMBER.findall(text)
    return found[-1].replace(",", "").rstrip(".") if found else None


def boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}`, braces balanced."""
    start = text.rfind(r"\boxed{")
    if start < 0:
        return None
    begin = depth = start + len(r"\boxed{")
    open_braces = 1
    for depth in range(begin, len(text)):
        open_braces += {"{": 1, "}": -1}.get(text[depth], 0)
        if open_braces == 0:
            return text[begin:depth].strip()
    return None


def last_line(text: str) -> str | None:
    """The last line that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else None


EXTRACTORS: dict[str, Extract] = {"number": last_number, "boxed": boxed, "line": last_line}


def as_extractor(extract: str | Extract) -> Extract:
    """An extractor by name ("number", "boxed", "line"), by a regex with one group, or a function."""
    if callable(extract):
        return extract
    if extract in EXTRACTORS:
        return EXTRACTORS[extract]
    try:
        pattern = re.compile(extract)
    except re.error as error:
        raise InvalidArgument("answer", extract, f"a regex ({error})") from error
    if pattern.groups != 1:
        raise UnknownName("answer", extract, [*EXTRACTORS, "a regex with one group"])

    def by_regex(text: str) -> str | None:
        found = pattern.findall(text)
        return found[-1] if found else None

    return by_regex


class AnswerPosterior(Mapping[str, float]):
    """Probability of each answer, most likely first: `sum of W_i over texts with that answer`.

    Texts without an answer count towards `none`, not towards any answer; probabilities sum to 1 - none.
    """

    def __init__(self, answers: Sequence[str | None], weights: Sequence[float] | np.ndarray):
        mass: dict[str | None, float] = {}
        for answer, weight in zip(answers, np.asarray(weights, np.float64).tolist(), strict=True):
            mass[answer] = mass.get(answer, 0.0) + weight
        total = sum(mass.values()) or 1.0
        self.none = mass.pop(None, 0.0) / total
        ranked = sorted(mass.items(), key=lambda item: -item[1])
        self._mass = {str(answer): m / total for answer, m in ranked}

    @property
    def best(self) -> str | None:
        """The most likely answer; ties go to the one seen first; None if there is none."""
        return next(iter(self._mass), None)

    def __getitem__(self, answer: str) -> float:
        return self._mass[answer]

    def __iter__(self):
        return iter(self._mass)

    def __len__(self) -> int:
        return len(self._mass)

    def __repr__(self) -> str:
        shown = ", ".join(f"{a!r}: {p:.3f}" for a, p in list(self._mass.items())[:5])
        more = ", ..." if len(self) > 5 else ""
        return f"AnswerPosterior({{{shown}{more}}}, none={self.none:.3f})"
