"""Particle filters with the target as stated: `pi(x) ∝ p(x) psi(x)`, whatever guides them on the way."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from smcgen.core.arguments import check_counts
from smcgen.core.resampling import Annealed
from smcgen.errors import InvalidArgument
from smcgen.scaling.base import Rewarded
from smcgen.scaling.job import Job
from smcgen.scaling.lookahead import looking_ahead
from smcgen.text.potentials.aggregate import Aggregate
from smcgen.text.potentials.base import Potential
from smcgen.text.potentials.tilt import Tilt
from smcgen.text.steer import steered


@dataclass(frozen=True, kw_only=True)
class ParticleFilter(Rewarded):
    """n particles, resampled when their weights have become uneven.

    Attributes:
        twist: what guides before the end, see `smcgen.text.Tilt`: "value" (the last score), "product" (of all
            scores), ...; None: the reward's own. The target is the same for all.
        resampling, ess_threshold: see `smcgen.smc`.
        warmup: tempered guidance, see `smcgen.text.Tilt`: its strength rises over this many steps.
        lookahead: steps that a text is continued greedily before it is scored, see `smcgen.scaling.lookahead`.

    The answer is the most probable one by weight; without an extractor, the text of the highest score. With one
    particle it is a plain draw from the model. A budget of tokens buys the particles that it allows at full length;
    what shorter texts leave stays unspent, as with all strategies but those of independent texts and `mcts`.
    """

    twist: str | Aggregate | None = None
    resampling: Any = "systematic"
    ess_threshold: float = 0.5
    warmup: int = 0
    lookahead: int = 0

    name: ClassVar[str] = "particle-filter"

    def __post_init__(self) -> None:
        check_counts(0, warmup=self.warmup, lookahead=self.lookahead)

    def default_rule(self, answered: bool) -> str:
        return "weighted" if answered else "best"

    def write(self, job: Job) -> None:
        n = job.budget.texts(job.writing.max_tokens, job.writing.steps)
        potential = self.potential(job, self.strength)
        job.write(n, potential, resampling=self.resampling, ess_threshold=self.ess_threshold)

    def potential(self, job: Job, strength: float) -> Potential | None:
        """The reward as what guides and what is targeted."""
        reward = looking_ahead(job, self.lookahead) if self.lookahead else job.reward
        potential = steered(reward, strength, self.twist, self.scale)
        if not self.warmup:
            return potential
        if not isinstance(potential, Tilt):
            raise InvalidArgument("warmup", self.warmup, "0 for a product of potentials")
        return replace(potential, warmup=self.warmup)


@dataclass(frozen=True, kw_only=True)
class EntropicParticleFilter(ParticleFilter):
    """A particle filter that resamples by flattened weights and keeps the rest of the weight: the same target.

    Overconfident early scores then cost fewer particles, see `smcgen.core.resampling.Annealed`. Giannone et al. (2025),
    arXiv:2510.05825, flatten the weights as well, by another temperature (`ESS / n / (1 - t / T)`) and without keeping
    the rest, so that what their filter targets depends on the population; this is the version whose law can be stated.
    """

    resampling: Any = field(default=Annealed())

    name: ClassVar[str] = "particle-filter-entropic"


@dataclass(frozen=True, kw_only=True)
class TemperedParticleFilter(ParticleFilter):
    """A particle filter whose guidance sets in slowly: the same target."""

    warmup: int = 4

    name: ClassVar[str] = "particle-filter-tempered"
