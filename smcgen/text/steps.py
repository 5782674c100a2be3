"""When a step of a text ends.

A step is what one transition of the state-space model writes: a line, a paragraph, k tokens, or
whatever a function says. Resampling happens between steps.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal

from smcgen.errors import InvalidArgument


@dataclass(frozen=True)
class Step:
    """A step ends at the first of: a delimiter, `tokens` tokens, or `when(...)` being true.

    Attributes:
        delimiters: strings, or one; a step ends with the token that completes one of them, also when the
            delimiter is split over several tokens.
        tokens: most tokens in a step, or None for no limit but the text's own.
        when: called after each token with the step so far (as text, or as token ids if
            `on="ids"`); the step ends when it returns True.
        ess: the step ends for all particles of a problem once the effective sample size of the
            weights that its tokens have gained falls below this fraction of n. With token factors
            (constraints, experts) and `smc(..., ess_threshold=ess)` that is token-level SMC which
            stops to resample only when a resampling is due.
    """

    delimiters: tuple[str, ...] = ()
    tokens: int | None = None
    when: Callable[[Any], bool] | None = None
    on: Literal["text", "ids"] = "text"
    ess: float | None = None

    def __post_init__(self) -> None:
        given: Any = self.delimiters
        if isinstance(given, str | list):  # a bare string is one delimiter, not its characters
            given = (given,) if isinstance(given, str) else tuple(given)
            object.__setattr__(self, "delimiters", given)
        if any(not isinstance(d, str) or not d for d in self.delimiters):
            raise InvalidArgument("delimiters", self.delimiters, "non-empty strings")
        if self.tokens is not None and not _is_count(self.tokens):
            raise InvalidArgument("tokens", self.tokens, "None or an integer >= 1")
        if self.on not in ("text", "ids"):
            raise InvalidArgument("on", self.on, "'text' or 'ids'")
        if self.ess is not None and not (_is_number(self.ess) and 0 < self.ess <= 1):
            raise InvalidArgument("ess", self.ess, "None or a number in (0, 1]")
        if not self.delimiters and self.tokens is None and self.when is None and self.ess is None:
            raise InvalidArgument("step", self, "a delimiter, a number of tokens, or a function")


def as_step(step: Any) -> Step:
    """A delimiter, several delimiters, a number of tokens or a function on the text, as a `Step`."""
    if isinstance(step, Step):
        return step
    if _is_count(step):
        return Step(tokens=int(step))
    if callable(step):
        when: Any = step
        return Step(when=when)
    delimiters = (step,) if isinstance(step, str) else step
    if isinstance(delimiters, Iterable):
        delimiters = tuple(delimiters)
        if delimiters and all(isinstance(d, str) and d for d in delimiters):
            return Step(delimiters=delimiters)
    raise InvalidArgument(
        "step",
        step,
        "a delimiter (a string that is not empty) or several, a number of tokens >= 1, a function, or a Step",
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
