"""Answers: what texts conclude, and the weighted posterior over it."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from smcgen.errors import InvalidArgument, UnknownName

Extract = Callable[[str], str | None]

_NUMBER = re.compile(
    r"(?:(?<![\w)\]}])[-\u2212])?"  # a sign, not a minus between two terms
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])\.\d+)(?:[eE][-+]?\d+)?"
)
_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")


def last_number(text: str) -> str | None:
    """The last number in the text, thousands separators left out."""
    found = _NUMBER.findall(text)
    return found[-1].replace(",", "").replace("\u2212", "-") if found else None


def boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` or `\fbox{...}`, braces balanced, or the word behind a `\boxed`."""
    found = list(_BOX.finditer(text))
    if not found:
        return None
    begin = found[-1].end()
    if not text.startswith("{", begin):
        word = re.match(r"[^\s$]+", text[begin:])
        return word.group().rstrip(".,;") or None if word else None
    open_braces = 0
    for at in range(begin, len(text)):
        open_braces += {"{": 1, "}": -1}.get(text[at], 0)
        if open_braces == 0:
            return text[begin + 1 : at].strip()
    return None


def last_line(text: str) -> str | None:
    """The last line that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else None


def json_field(name: str) -> Extract:
    """The field `name` of the last JSON object in the text, a number or a string; dots go into nested objects."""

    def by_field(text: str) -> str | None:
        decoder, found, at = json.JSONDecoder(), None, text.find("{")
        while at >= 0:
            try:
                value, end = decoder.raw_decode(text, at)
                found = value
            except ValueError:
                end = at + 1
            at = text.find("{", end)
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if isinstance(found, bool) or not isinstance(found, str | int | float):
            return None
        return str(found)

    return by_field


EXTRACTORS: dict[str, Extract] = {"number": last_number, "boxed": boxed, "line": last_line}


def as_extractor(extract: str | Extract) -> Extract:
    """An extractor: "number", "boxed", "line", "json:FIELD", a regex with one group, or a function."""
    if callable(extract):
        return extract
    if extract.startswith("json:") and extract != "json:":
        return json_field(extract.removeprefix("json:"))
    if extract in EXTRACTORS:
        return EXTRACTORS[extract]
    try:
        pattern = re.compile(extract)
    except re.error as error:
        raise InvalidArgument("answer", extract, f"a regex ({error})") from error
    if pattern.groups != 1:
        raise UnknownName("answer", extract, [*EXTRACTORS, "json:FIELD", "a regex with one group"])

    def by_regex(text: str) -> str | None:
        found = pattern.findall(text)
        return found[-1] if found else None

    return by_regex


class AnswerPosterior(Mapping[str, float]):
    """Probability of each answer, most likely first: `sum of W_i over texts with that answer`.

    Texts without an answer count towards `none`, not towards any answer; probabilities sum to 1 - none.

    Args:
        answers: of each text; None where there is none.
        weights: of each text, not necessarily normalised.
        families: texts of the same number have a common ancestor and are no independent evidence; None: all
            texts are independent.
    """

    def __init__(
        self,
        answers: Sequence[str | None],
        weights: Sequence[float] | np.ndarray,
        families: Sequence[int] | np.ndarray | None = None,
    ):
        w = np.asarray(weights, np.float64)
        mass: dict[str | None, float] = {}
        for answer, weight in zip(answers, w.tolist(), strict=True):
            mass[answer] = mass.get(answer, 0.0) + weight
        total = sum(mass.values()) or 1.0
        self._answers, self._weights = list(answers), w / total
        self._families = np.arange(len(w)) if families is None else np.asarray(families)
        self.none = mass.pop(None, 0.0) / total
        ranked = sorted(mass.items(), key=lambda item: -item[1])
        self._mass = {str(answer): m / total for answer, m in ranked}

    @property
    def best(self) -> str | None:
        """The most likely answer; ties go to the one seen first; None if there is none."""
        return next(iter(self._mass), None)

    @property
    def entropy(self) -> float:
        """Entropy of the distribution, no answer being one, nats."""
        masses = (p for p in (*self._mass.values(), self.none) if p > 0)
        return -sum(p * math.log(p) for p in masses)

    def stderr(self, answer: str | None) -> float:
        """Standard error of an answer's probability p (None: of `none`), from this sample of texts:

            sqrt( sum over families of (sum of W_i ([a_i = answer] - p) in the family)^2 )

        which is sqrt(p (1 - p) / n) for n equal, independent texts. NaN if all texts are one family: then nothing
        says how another run would come out.
        """
        p = self.none if answer is None else self._mass.get(answer, 0.0)
        counted = self._weights > 0
        if len(np.unique(self._families[counted])) < 2:
            return math.nan
        hits = np.array([a == answer for a in self._answers], np.float64)
        _, number = np.unique(self._families, return_inverse=True)
        return float(np.sqrt((np.bincount(number, self._weights * (hits - p)) ** 2).sum()))

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
