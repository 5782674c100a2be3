"""Best-first search: the population is a frontier, of which the best text is continued at each step."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float64

from smcgen.core.arguments import check_counts
from smcgen.scaling.base import Rewarded
from smcgen.scaling.job import Job
from smcgen.scaling.waiting import Waiting, searching
from smcgen.text.state import TextState
from smcgen.text.steer import steered
from smcgen.text.texts import Finish


@dataclass(frozen=True, kw_only=True)
class BestFirst(Rewarded):
    """The text of the highest score among n is continued `width` times; the search ends when that text is finished.

    A*-decoding (Chatziveroglou 2025, arXiv:2505.13672) with the process reward's score as a text's priority: unlike
    a beam it may go back to a text that was left behind. The continuations take the place of the text and of the worst
    ones, so that no more than n are held. There are at most `n * steps` continuations, as many as n whole texts have
    steps. So that they end with an answer, what a text needs to its end is kept back until one is finished, and then
    the longest text goes on alone. It targets nothing.

    Texts are limited by `max_tokens`: `Writing.max_steps` limits the work, not a single text.

    Attributes:
        width: continuations of a text.
    """

    width: int = 4

    name: ClassVar[str] = "a-star"

    def __post_init__(self) -> None:
        check_counts(width=self.width)

    def write(self, job: Job) -> None:
        steps = job.writing.steps
        n = job.budget.texts(job.writing.max_tokens, steps)
        width = min(self.width, n)
        frontier = searching(partial(Frontier, width=width), n * steps, steps, width)
        potential = steered(job.reward, self.strength, None, self.scale)
        job.write(n, potential, model=frontier, ess_threshold=0.0)


@dataclass(frozen=True)
class Held(TextState):
    """Rows that hold the texts of a frontier; rows without a token are free."""

    drawn: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # by problem


@dataclass(frozen=True)
class Frontier(Waiting):
    """Texts of which a step continues the best unfinished one of each problem, in `width` rows; the others wait.

    All potentials are 1: a search weights nothing.
    """

    width: int = 4

    def init(self, key: Any, n: int) -> tuple[TextState, Any]:
        state, log_g = super().init(key, n)
        return Held(**vars(state), drawn=np.zeros(len(self.prompts), np.int64)), log_g

    def priority(self, state: TextState) -> Float64[np.ndarray, "problems n"]:
        """log psi of each text; -inf for free rows and impossible texts."""
        texts = state.texts
        real = (texts.lengths > 0) & (texts.finish != Finish.DEAD)
        return np.where(real, state.log_psi, -np.inf).reshape(len(self.prompts), -1)

    def over(self, state: Held) -> Bool[np.ndarray, " problems"]:
        """Problems whose best text is finished, or all of whose texts are, or whose draws are made."""
        priority, ended = self.priority(state), state.texts.ended.reshape(len(self.prompts), -1)
        best = priority.argmax(1)[:, None]
        found = np.take_along_axis(ended & (priority > -np.inf), best, 1)[:, 0]
        return found | ended.all(1) | (state.drawn >= self.work)

    def step(self, key: Any, t: Any, state: Held) -> tuple[TextState, Any]:
        n = state.texts.n
        running = ~state.texts.ended.reshape(-1, n)
        depths = (np.diff(state.texts.step_ends, prepend=0) > 0).sum(1).reshape(-1, n)
        ancestors, waiting = self.nobody(state)
        priority, over, drawn = self.priority(state), self.over(state), state.drawn.copy()
        for b in np.flatnonzero(~over).tolist():
            # unfinished texts from the worst on; free rows come first
            order = np.lexsort([-np.arange(n), priority[b], ~running[b]])[: int(running[b].sum())]
            left = self.work - int(drawn[b])
            finished = (~running[b] & (priority[b] > -np.inf)).any()
            room = left if finished else self.room(int(drawn[b]), int(depths[b, order[-1]]))
            if room >= min(self.width, left):
                slots = [order[-1], *order[: min(self.width, left) - 1]]
            else:  # the longest, the better of those that are as long: it stays the same one
                slots = [order[np.lexsort([np.arange(len(order)), depths[b, order]])[-1]]]
            ancestors[b, slots], waiting[b, slots] = slots[0], False
            drawn[b] += len(slots)
        state, log_g = self.continued(key, t, state, ancestors, waiting)
        log_g = np.where(np.isnan(np.asarray(log_g)), np.nan, np.zeros(np.shape(log_g)))
        return replace(state, drawn=drawn), log_g
