"""Independent texts: SMC without resampling. They differ in how one of them is chosen."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from smcgen.scaling.base import Rewarded, Strategy
from smcgen.scaling.job import Job
from smcgen.scaling.waves import write_sizes, write_waves
from smcgen.text.potentials.base import Potential


class Independent(Strategy):
    """n independent texts, weighted by a potential at their ends.

    A budget of tokens is spent in waves, see `smcgen.scaling.waves`: n is what it allows at full length at least.
    """

    calls: ClassVar[int] = 0  # of the reward, for each text

    def potential(self, job: Job) -> Potential | None:
        """What weights the texts; None: nothing."""
        return None

    @property
    def writes(self) -> tuple[Any, ...]:
        """How they are chosen among makes no difference to independent texts."""
        kind = type(self)
        return kind.write, kind.potential, self.calls, self.options

    def write(self, job: Job) -> None:
        n = job.budget.texts(job.writing.max_tokens, self.calls)
        write_waves(job, self.calls, n, partial(write_sizes, job, self.potential(job)))


@dataclass(frozen=True, kw_only=True)
class Sample(Independent):
    """n texts of the model itself, each a draw of its own; the first is chosen: pass@1 whatever n."""

    name: ClassVar[str] = "sample"
    rule: ClassVar[str] = "first"


@dataclass(frozen=True, kw_only=True)
class Majority(Sample):
    """Self-consistency: n texts of the model itself, the most frequent answer. Wang et al. (2023)."""

    name: ClassVar[str] = "majority"
    needs_answer: ClassVar[bool] = True
    rule: ClassVar[str] = "majority"


@dataclass(frozen=True, kw_only=True)
class BestOfN(Rewarded, Independent):
    """n independent texts; the one of the highest score.

    The reward is asked once for each text, at its end. The weights are `W_i ∝ psi(x_i)`: importance sampling of the
    target `p(x) psi(x)`, though the arg max targets nothing: as n grows it goes to the mode of psi.
    """

    name: ClassVar[str] = "best-of-n"
    calls: ClassVar[int] = 1

    def potential(self, job: Job) -> Potential | None:
        return self.at_the_end(job.reward)


@dataclass(frozen=True, kw_only=True)
class WeightedBestOfN(BestOfN):
    """n independent texts; the answer with the most weight `sum of psi(x_i)`, its best text. Li et al. (2023).

    With a process reward on its own (log) scale psi is the score, so that answers are weighted by the sum of scores.
    """

    name: ClassVar[str] = "weighted-best-of-n"
    needs_answer: ClassVar[bool] = True
    rule: ClassVar[str] = "weighted"
