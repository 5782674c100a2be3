"""The law that tokens are drawn from."""

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from smcgen.errors import InvalidArgument


@dataclass(frozen=True)
class Sampling:
    """Temperature, then top-k, then top-p, applied to a model's next-token logits.

    The law is `softmax(logits / temperature)` restricted to the `top_k` most likely tokens, then to
    the smallest set of most likely tokens whose mass reaches `top_p`, and renormalised.
    `temperature=0` is greedy: all mass on the most likely token.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not _is(Real, self.temperature) or not self.temperature >= 0:
            raise InvalidArgument("temperature", self.temperature, "a number >= 0")
        if self.top_k is not None and (not _is(Integral, self.top_k) or self.top_k < 1):
            raise InvalidArgument("top_k", self.top_k, "None or an integer >= 1")
        if not _is(Real, self.top_p) or not 0 < self.top_p <= 1:
            raise InvalidArgument("top_p", self.top_p, "a number in (0, 1]")
        # NumPy's numbers as Python's: one law, one description
        object.__setattr__(self, "temperature", float(self.temperature))
        object.__setattr__(self, "top_k", None if self.top_k is None else int(self.top_k))
        object.__setattr__(self, "top_p", float(self.top_p))

    @property
    def truncates(self) -> bool:
        """Whether the law gives probability zero to tokens that the model allows."""
        return self.temperature == 0 or self.top_k is not None or self.top_p < 1


def covers(proposal: Sampling, base: Sampling) -> bool:
    """Whether every token that `base` allows can be drawn from `proposal`, whatever the logits."""
    if not proposal.truncates or base.temperature == 0:
        return True
    if proposal.temperature == 0:
        return False
    if proposal.top_k is not None and (base.top_k is None or proposal.top_k < base.top_k):
        return False
    same = proposal.temperature == base.temperature  # a nucleus depends on the temperature
    return proposal.top_p == 1 or (same and proposal.top_p >= base.top_p)


def _is(kind: type, value: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
