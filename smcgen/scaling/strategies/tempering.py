"""Parallel tempering: particle Gibbs at several strengths of the reward, whose chains exchange texts."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int

from smcgen.errors import InvalidArgument
from smcgen.scaling.draws import uniforms
from smcgen.scaling.exchange import exchanged
from smcgen.scaling.job import Job
from smcgen.scaling.strategies.particle_gibbs import ParticleGibbs, purpose
from smcgen.text.potentials.tilt import Tilt
from smcgen.text.rewards.base import Reward


@dataclass(frozen=True, kw_only=True)
class ParallelTempering(ParticleGibbs):
    """Chains of particle Gibbs at a ladder of strengths; neighbours swap texts between sweeps.

    Chain k leaves `pi_k(x) ∝ p(x) psi(x) ** ladder_k` invariant, and a swap is accepted with the exact probability
    (`smcgen.scaling.exchange`), so that the product of the pi_k is invariant. Chains of less strength move freely and
    hand on what they find; the answer is that of the chain of full strength alone, the others' texts are what it costs.
    Each sweep has as many texts in each chain; even and odd neighbours take turns.

    A budget that is too small for a text in every chain is spent by the one of full strength.

    Attributes:
        ladder: parts of `strength`, rising, the last 1.

    Geyer (1991); on paths of conditional SMC: Andrieu, Doucet and Holenstein (2010), section 2.4.
    """

    ladder: tuple[float, ...] = (0.3, 1.0)

    name: ClassVar[str] = "parallel-tempering"

    def __post_init__(self) -> None:
        super().__post_init__()
        rising = all(a < b for a, b in zip((0.0, *self.ladder), self.ladder, strict=False))
        if not self.ladder or not rising or self.ladder[-1] != 1:
            raise InvalidArgument("ladder", self.ladder, "numbers > 0 that rise to 1")
        if self.strength == 0:
            raise InvalidArgument("strength", self.strength, "a number that is not 0")

    def write(self, job: Job) -> None:
        if not isinstance(job.reward, Reward | Tilt):
            raise InvalidArgument("reward", job.reward, f"one reward, with strategy {self.name!r}")
        super().write(job)

    def strengths(self, whole: int) -> list[float]:
        ladder = self.ladder[::-1] if whole >= len(self.ladder) else (1.0,)
        return [self.strength * part for part in ladder]

    def moved(
        self,
        job: Job,
        going: Int[np.ndarray, " p"],
        sweep: int,
        strengths: list[float],
        paths: list[Any],
    ) -> list[Any]:
        chains = len(strengths)
        log_psi = np.array([path[-1].log_psi for path in paths], np.float64)
        rewards = log_psi / np.array(strengths)[:, None]
        first = sweep % 2 if chains > 2 else 0
        numbers = [purpose(sweep, chains + c, chains) for c in range(chains)]
        draws = np.array([uniforms(job.keys_of(going, number)) for number in numbers])
        return exchanged(paths, strengths, rewards, first, draws)[0]

    def counted(self, runs: list[Any]) -> list[Any]:
        chains = len(self.ladder) if len(runs) >= len(self.ladder) else 1
        return super().counted(runs[::chains])
