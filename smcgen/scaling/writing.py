"""How texts are written, whichever strategy writes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smcgen.text.answers import Extract, as_extractor
from smcgen.text.equivalence import Equivalent, as_equivalence
from smcgen.text.sampling import Sampling


@dataclass(frozen=True)
class Writing:
    """What all strategies have in common: the base law, the steps, and how an answer is read.

    Attributes:
        step: when a step ends, see `smcgen.text.Step`: rewards are asked, and particles move, between steps.
        max_steps, max_tokens: a text is cut off there.
        temperature, top_p, top_k: the base law.
        stop: strings, any of which ends a text; they stay in the text.
        answer: "number", "boxed", "line", "json:FIELD", a regex with one group, or a function of a text; None: texts
            have no answer, and strategies that vote cannot be used.
        equivalent: when two answers count as one: "exact", "string", "numeric", "math", or a function of two.
    """

    step: Any = "\n"
    max_steps: int | None = None
    max_tokens: int = 1024
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    stop: str | Sequence[str] = ()
    answer: str | Extract | None = None
    equivalent: str | Equivalent = "exact"

    @property
    def sampling(self) -> Sampling:
        """The base law."""
        return Sampling(self.temperature, self.top_k, self.top_p)

    @property
    def extract(self) -> Extract | None:
        """How an answer is read."""
        return None if self.answer is None else as_extractor(self.answer)

    @property
    def same(self) -> Equivalent:
        """When two answers count as one."""
        return as_equivalence(self.equivalent)

    @property
    def steps(self) -> int:
        """Steps of a text at most: a step has at least one token."""
        return self.max_tokens if self.max_steps is None else self.max_steps
