"""What tree searches have in common: a population that holds a tree of steps for each prompt."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from smcgen.core.arguments import check_counts
from smcgen.scaling.base import Rewarded
from smcgen.scaling.job import Job
from smcgen.scaling.rows import some_rows
from smcgen.scaling.searching import Searching
from smcgen.scaling.tree import Tree
from smcgen.text.potentials.base import Potential
from smcgen.text.potentials.tilt import Tilt
from smcgen.text.result import SteerResult
from smcgen.text.steer import steered
from smcgen.text.texts import Finish


@dataclass(frozen=True, kw_only=True)
class Search(Rewarded):
    """A search in the tree of steps of each prompt, whose nodes are rows of the population.

    There are as many draws as n whole texts have steps, a text counted with the steps of the longest one that was drawn
    (`Writing.max_steps` of them until one is finished); without a limit of rollouts as many as the other limits allow.
    Equal steps behind a text are one. Until a text is finished, what one needs to its end is kept back, so that there
    is an answer. At most `held * n` nodes are held; the worst make place for others. The candidates are the (at most n)
    finished texts. Texts are limited by `max_tokens`: `Writing.max_steps` limits the work, not a single text.

    Attributes:
        width: continuations that are drawn behind a node.
        leaves: nodes of each prompt that are expanded at once, in one call of the engine for all prompts.
        held: rows of the population for each rollout: more hold more of the tree.
    """

    width: int = 4
    leaves: int = 1
    held: int = 4

    exponent: ClassVar[bool] = False  # whether values are psi, for a reward that is a probability

    def __post_init__(self) -> None:
        check_counts(width=self.width, leaves=self.leaves, held=self.held)

    @abstractmethod
    def tree(self, width: int, top: float) -> Callable[[int], Tree]:
        """What makes a tree of so many rows; `top` bounds values."""

    def worth(self, run: SteerResult) -> np.ndarray:
        """By what finished texts are chosen."""
        return run.history[-1].log_psi

    def write(self, job: Job) -> None:
        steps, rollouts = job.writing.steps, job.budget.rollouts
        n = job.budget.texts(job.writing.max_tokens, steps)
        rows = n * self.held
        width = min(self.width, rows)
        limits = job.budget.tokens, job.budget.reward_calls
        work = n * steps
        if rollouts is None:
            # an expansion costs a token and a call for each row at least
            work = min(limit for limit in limits if limit is not None)
        potential = steered(job.reward, self.strength, None, self.scale)
        bounded = _is_power_of_a_probability(potential)
        exponent = bounded and self.exponent
        top = (1.0 if exponent else 0.0) if bounded else np.inf
        own: dict[str, Any] = {
            "tree": self.tree(width, top),
            "leaves": self.leaves,
            "work": work,
            "texts": None if rollouts is None else n,
            "text_steps": steps,
            "ledger": job.ledger,
            "exponent": exponent,
            # more than the work can take, so that no text is cut off at a last one
            "max_steps": work + steps + 1,
        }
        model = lambda **parts: Searching(**(parts | own))
        job.write(rows, potential, model=model, ess_threshold=0.0)

    def counted(self, runs: list[SteerResult]) -> list[SteerResult]:
        return [self._found(run, len(run.texts) // self.held) for run in runs]

    def _found(self, run: SteerResult, n: int) -> SteerResult:
        """The finished texts of a tree, at most n, the best ones; if there are none, those that could have gone on."""
        rows = np.flatnonzero(~np.isin(run.finish, (Finish.RUNNING, Finish.DEAD)))
        rows = rows if len(rows) else np.flatnonzero(run.finish == Finish.RUNNING)
        rows = rows if len(rows) else np.arange(len(run.texts))
        order = np.lexsort([-self.worth(run)[rows], ~run.population.whole[rows]])
        return some_rows(run, np.sort(rows[order[:n]]))


def _is_power_of_a_probability(potential: Potential | None) -> bool:
    """Whether psi is one, and so at most 1."""
    if not isinstance(potential, Tilt) or not potential.reward.probability:
        return False
    return potential.scale in (None, "log") and potential.strength >= 0
