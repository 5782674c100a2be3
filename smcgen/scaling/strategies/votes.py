"""Independent texts of the model itself, whose answers are weighed against each other."""

from dataclasses import dataclass
from typing import ClassVar

from smcgen.errors import InvalidArgument
from smcgen.scaling.job import Job
from smcgen.scaling.strategies.independent import BestOfN, Majority
from smcgen.text.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class BestOfMajority(BestOfN):
    """n independent texts; of the answers that are frequent enough the one with the best text; for pass@k the k best.

    `Outcome.top(k)` are the k answers to submit. Di et al. (2025), arXiv:2510.03199.
    """

    name: ClassVar[str] = "best-of-majority"
    needs_answer: ClassVar[bool] = True
    rule: ClassVar[str] = "best-of-majority"


@dataclass(frozen=True, kw_only=True)
class RPC(Majority):
    """Reasoning-pruning perplexity consistency: the answer with the most probability among distinct texts.

    See `smcgen.scaling.rpc`. It needs no reward: the log-probability of a text is known from writing it.
    Zhou et al. (2025), arXiv:2502.00511.
    """

    name: ClassVar[str] = "rpc"
    rule: ClassVar[str] = "rpc"


@dataclass(frozen=True, kw_only=True)
class MultiTemperature(Majority):
    """n texts, an equal part of them at each of several temperatures; the most frequent answer of all.

    Attributes:
        temperatures: in the place of the writing's own. With fewer rollouts than temperatures the first are used.
    """

    temperatures: tuple[float, ...] = (0.6, 0.8, 1.0, 1.2)

    name: ClassVar[str] = "multi-temperature"

    def __post_init__(self) -> None:
        if not self.temperatures:
            raise InvalidArgument("temperatures", self.temperatures, "at least one temperature")

    def write(self, job: Job) -> None:
        n, k = job.budget.texts(job.writing.max_tokens, 0), len(self.temperatures)
        for i, temperature in enumerate(self.temperatures):
            part = n // k + (i < n % k)
            if part:
                law = Sampling(temperature, job.writing.top_k, job.writing.top_p)
                job.write(part, None, sampling=law, ess_threshold=0.0)
