"""Best-first search: the population is a frontier, of which the best text is continued at each step."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float64

from smcgen.core.arguments import check_counts
from smcgen.scaling.base import Rewarded
from smcgen.scaling.job import Job
from smcgen.scaling.waiting import Waiting
from smcgen.text.state import TextState
from smcgen.text.steer import steered
from smcgen.text.texts import Finish


@dataclass(frozen=True, kw_only=True)
class BestFirst(Rewarded):
    """The text of the highest score among n is continued `width` times; the search ends when that text is finished.

    A*-decoding (Chatziveroglou 2025, arXiv:2505.13672) with the process reward's score as a text's priority: unlike
    a beam it may go back to a text that was left behind. The continuations take the place of the text and of the worst
    ones, so that no more than n are held. At most `n * steps / width` texts are continued, which is as much as n whole
    texts cost. It targets nothing.

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
        rounds = max(1, n * steps // width)

        def frontier(**parts: Any) -> Frontier:
            changed: dict[str, Any] = parts | {"max_steps": rounds, "width": width}
            return Frontier(**changed)

        potential = steered(job.reward, self.strength, None, self.scale)
        job.write(n, potential, model=frontier, ess_threshold=0.0)


@dataclass(frozen=True)
class Frontier(Waiting):
    """Texts of which a step continues the best unfinished one of each problem, in `width` rows; the others wait.

    Rows without a token are free. All potentials are 1: a search weights nothing.
    """

    width: int = 4

    def priority(self, state: TextState) -> Float64[np.ndarray, "problems n"]:
        """log psi of each text; -inf for free rows and impossible texts."""
        texts = state.texts
        real = (texts.lengths > 0) & (texts.finish != Finish.DEAD)
        return np.where(real, state.log_psi, -np.inf).reshape(len(self.prompts), -1)

    def over(self, state: TextState) -> Bool[np.ndarray, " problems"]:
        """Problems whose best text is finished, or all of whose texts are."""
        priority, ended = self.priority(state), state.texts.ended.reshape(len(self.prompts), -1)
        best = priority.argmax(1)[:, None]
        found = np.take_along_axis(ended & (priority > -np.inf), best, 1)[:, 0]
        return found | ended.all(1)

    def step(self, key: Any, t: Any, state: TextState) -> tuple[TextState, Any]:
        n = state.texts.n
        running = ~state.texts.ended.reshape(-1, n)
        ancestors, waiting = self.nobody(state)
        priority, over = self.priority(state), self.over(state)
        for b in np.flatnonzero(~over).tolist():
            # unfinished texts from the worst on; free rows come first
            order = np.lexsort([-np.arange(n), priority[b], ~running[b]])[: int(running[b].sum())]
            slots = [order[-1], *order[: self.width - 1]]
            ancestors[b, slots], waiting[b, slots] = order[-1], False
        state, log_g = self.continued(key, t, state, ancestors, waiting)
        return state, np.where(np.isnan(np.asarray(log_g)), np.nan, np.zeros(np.shape(log_g)))
