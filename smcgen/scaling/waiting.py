"""Texts of which a step continues some, while the others wait: what searches over steps share."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from smcgen.text.model import TextModel
from smcgen.text.state import TextState
from smcgen.text.texts import Finish


def searching(
    kind: Callable[..., TextModel], work: int, text_steps: int, width: int
) -> Callable[..., TextModel]:
    """What makes a search of so many draws: they are made `width` at a time, in the end one by one.

    A step of the population is more than they can take, so that no text is cut off at a last one.
    """
    rounds = work // width + width + text_steps + 1
    own = {"work": work, "text_steps": text_steps, "max_steps": rounds}
    return lambda **parts: kind(**(parts | own))


@dataclass(frozen=True)
class Waiting(TextModel):
    """A text model that says when a problem's search is over, and whose steps continue the rows that it names.

    Attributes:
        work: draws of each problem: rows that are continued by a step, in all steps together.
        text_steps: steps that a text has at most.
    """

    work: int = 1
    text_steps: int = 1

    def room(self, drawn: int, depth: int) -> int:
        """Draws that may be spread out, where those that end a text of `depth` steps are kept back.

        A search that spreads out all of its draws may have many texts begun in the end and none finished.
        """
        return self.work - drawn - max(0, self.text_steps - depth - 1)

    @abstractmethod
    def over(self, state: Any) -> Bool[np.ndarray, " problems"]:
        """Problems in which nothing is to be continued."""

    def done(self, state: Any) -> Any:
        """As `over`, without an axis for a single prompt."""
        over = self.over(state)
        return over[0] if self.num_problems is None else over

    def continued(
        self,
        key: Any,
        t: Any,
        state: Any,
        ancestors: Int[np.ndarray, "problems n"],
        waiting: Bool[np.ndarray, "problems n"],
    ) -> tuple[Any, Any]:
        """Rows become copies of their ancestors, and those that do not wait go on by a step."""
        if (ancestors != np.arange(state.texts.n)).any():
            state = self.take(state, ancestors if self.num_problems is not None else ancestors[0])
        finish, wait = state.texts.finish, waiting.ravel()
        masked = np.where(wait & (finish == Finish.RUNNING), np.int8(Finish.LENGTH), finish)
        state = replace(state, texts=replace(state.texts, finish=masked))
        state, log_g = super().step(key, t, state)
        restored = np.where(wait, finish, state.texts.finish)
        return replace(state, texts=replace(state.texts, finish=restored)), log_g

    def nobody(
        self, state: TextState
    ) -> tuple[Int[np.ndarray, "problems n"], Bool[np.ndarray, "problems n"]]:
        """`ancestors` and `waiting` in which every row stays, and waits."""
        problems, n = len(self.prompts), state.texts.n
        return np.tile(np.arange(n, dtype=np.int32), (problems, 1)), np.ones((problems, n), bool)
