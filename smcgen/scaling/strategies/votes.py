"""Independent texts of the model itself, whose answers are weighed against each other."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Int

from smcgen.errors import InvalidArgument
from smcgen.scaling.base import Strategy
from smcgen.scaling.job import Job
from smcgen.scaling.strategies.independent import BestOfN, Majority
from smcgen.scaling.waves import write_sizes, write_waves
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
class MultiTemperature(Strategy):
    """n texts, an equal part of them at each of several temperatures; the most frequent answer of all.

    A budget of tokens is spent in waves, see `smcgen.scaling.waves`; temperatures take turns there.

    Attributes:
        temperatures: in the place of the writing's own. With fewer rollouts than temperatures the first are used.
    """

    temperatures: tuple[float, ...] = (0.6, 0.8, 1.0, 1.2)

    name: ClassVar[str] = "multi-temperature"
    needs_answer: ClassVar[bool] = True
    rule: ClassVar[str] = "majority"

    def __post_init__(self) -> None:
        if not self.temperatures:
            raise InvalidArgument("temperatures", self.temperatures, "at least one temperature")

    def write(self, job: Job) -> None:
        k = len(self.temperatures)

        def write(sizes: Int[np.ndarray, " problems"]) -> None:
            before = job.written
            for i, temperature in enumerate(self.temperatures):
                law = Sampling(temperature, job.writing.top_k, job.writing.top_p)
                turns = lambda upto, i=i: (upto + k - 1 - i) // k  # of the first `upto` texts
                write_sizes(job, None, turns(before + sizes) - turns(before), sampling=law)

        write_waves(job, 0, job.budget.texts(job.writing.max_tokens, 0), write)
