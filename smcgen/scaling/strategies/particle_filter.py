"""Particle filters with the target as stated: `pi(x) ∝ p(x) psi(x)`, whatever guides them on the way."""

from dataclasses import dataclass
from typing import Any, ClassVar

from smcgen.scaling.base import Rewarded
from smcgen.scaling.job import Job
from smcgen.text.potentials.aggregate import Aggregate
from smcgen.text.steer import steered


@dataclass(frozen=True, kw_only=True)
class ParticleFilter(Rewarded):
    """n particles, resampled when their weights have become uneven.

    Attributes:
        twist: what guides before the end, see `smcgen.text.Tilt`: "value" (the last score), "product" (of all
            scores), ...; None: the reward's own. The target is the same for all.
        resampling, ess_threshold: see `smcgen.smc`.

    The answer is the most probable one by weight; without an extractor, the text of the highest score. With one
    particle it is a plain draw from the model.
    """

    twist: str | Aggregate | None = None
    resampling: Any = "systematic"
    ess_threshold: float = 0.5

    name: ClassVar[str] = "particle-filter"

    def default_rule(self, answered: bool) -> str:
        return "weighted" if answered else "best"

    def write(self, job: Job) -> None:
        n = job.budget.texts(job.writing.max_tokens, job.writing.steps)
        potential = steered(job.reward, self.strength, self.twist, self.scale)
        job.write(n, potential, resampling=self.resampling, ess_threshold=self.ess_threshold)
