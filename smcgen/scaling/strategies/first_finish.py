"""First-finish search: the first texts that end are right more often than the last."""

from dataclasses import dataclass
from typing import Any, ClassVar

from smcgen.core.arguments import check_counts
from smcgen.scaling.base import Strategy
from smcgen.scaling.job import Job
from smcgen.scaling.ledger import Ledger
from smcgen.text.model import TextModel
from smcgen.text.state import TextState
from smcgen.text.steps import Step


@dataclass(frozen=True, kw_only=True)
class FirstFinish(Strategy):
    """n texts are written side by side until the first k have ended; the others are cut off there.

    The shortest one is chosen; with `selection="majority"` the most frequent answer among the k. The cost is about n
    times the shortest length, not n times the mean: of a budget of tokens the rest stays unspent.
    Agarwal et al. (2025), arXiv:2505.18149.

    Attributes:
        k: how many texts must have ended.
        chunk: tokens that all texts write between two looks at which have ended, in the place of the writing's steps.
    """

    k: int = 1
    chunk: int = 16

    name: ClassVar[str] = "first-finish"
    rule: ClassVar[str] = "shortest"

    def __post_init__(self) -> None:
        check_counts(k=self.k, chunk=self.chunk)

    def write(self, job: Job) -> None:
        n = job.budget.texts(job.writing.max_tokens, 0)
        halting = lambda **parts: Halting(**parts, ledger=job.ledger, k=self.k)
        job.write(n, None, model=halting, step=Step(tokens=self.chunk), ess_threshold=0.0)


@dataclass(frozen=True)
class Halting(TextModel):
    """Texts of which no more are written for a prompt once k of its own have ended by themselves."""

    ledger: Ledger | None = None
    k: int = 1

    def step(self, key: Any, t: Any, state: TextState) -> tuple[TextState, Any]:
        state, log_g = super().step(key, t, state)
        assert self.ledger is not None
        ended = state.texts.whole.reshape(len(self.prompts), -1).sum(1)
        enough = ended >= min(self.k, state.texts.n)
        self.ledger.halted[self.ledger.numbers(self.prompts)[enough]] = True
        return state, log_g
