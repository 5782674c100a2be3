"""When a step of a text ends.

A step is what one transition of the state-space model writes: a line, a paragraph, k tokens, or
whatever a function says. Resampling happens between steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from smcgen.errors import InvalidArgument


@dataclass(frozen=True)
class Step:
    """A step ends at the first of: a delimiter, `tokens` tokens, or `when(...)` being true.

    Attributes:
        delimiters: strings; a step ends with the token that completes one of them, also when the
            delimiter is split over several tokens.
        tokens: most tokens in a step, or None for no limit but the text's own.
        when: called after each token with the step so far (as text, or as token ids if
            `on="ids"`); the step ends when it returns True.
    """

    delimiters: tuple[str, ...] = ()
    tokens: int | None = None
    when: Callable[[Any], bool] | None = None
    on: Literal["text", "ids"] = "text"

    def __post_init__(self) -> None:
        if any(not isinstance(d, str) or not d for d in self.delimiters):
            raise InvalidArgument("delimiters", self.delimiters, "non-empty strings")
        if self.tokens is not None and self.tokens < 1:
            raise InvalidArgument("tokens", self.tokens, "None or an integer >= 1")
        if self.on not in ("text", "ids"):
            raise InvalidArgument("on", self.on, "'text' or 'ids'")
        if not self.delimiters and self.tokens is None and self.when is None:
            raise InvalidArgument("step", self, "a delimiter, a number of tokens, or a function")


def as_step(step: "Step | str | int | Callable[[str], bool] | Sequence[str]") -> Step:
    """A delimiter, several delimiters, a number of tokens or a function on the text, as a `Step`."""
    if isinstance(step, Step):
        return step
    if isinstance(step, bool):
        raise InvalidArgument(
            "step", step, "a delimiter, a number of tokens, a function, or a Step"
        )
    if isinstance(step, int):
        return Step(tokens=step)
    if isinstance(step, str):
        return Step(delimiters=(step,))
    if callable(step):
        return Step(when=step)
    return Step(delimiters=tuple(step))
