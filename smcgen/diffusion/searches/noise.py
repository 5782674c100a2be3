"""Search over the noise that a sample starts from: random, or around the best so far."""

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from smcgen.core._types import RandomKey
from smcgen.core.cost import Cost, Meter
from smcgen.diffusion.backends.base import PerRow, Tensor
from smcgen.diffusion.candidates import split_keys
from smcgen.diffusion.model import DiffusionModel
from smcgen.diffusion.searches.base import Found, Search, denoised, grouped


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NoiseState:
    """The pivot of each problem, what it became, and the rewards of the latest candidates, shape (rows,)."""

    pivot: Tensor
    found: Found
    rewards: PerRow
    meter: Meter | None = field(default=None, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NoiseSearch(Search[NoiseState]):
    """Zero-order search (Ma et al. 2025, section 3.2): n candidates around the pivot, each denoised to the end.

    The best of them is the new pivot if it is better; otherwise the pivot is kept. With `size` 1 the candidates do
    not depend on the pivot: random search, and in one round best-of-n.

    Attributes:
        model: the model without a twist.
        rounds: how many.
        size: how far from the pivot a candidate is, from 0 to 1, see `Kernel.perturb`.
    """

    model: DiffusionModel
    rounds: int = field(metadata={"static": True})
    size: Any = 0.3

    @property
    def num_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Rounds after the first."""
        return self.rounds - 1

    def init(self, key: RandomKey, n: int) -> tuple[NoiseState, Any]:
        rows = n * (self.num_problems or 1)
        noise_key, way_key = split_keys(key, 2)
        return self._tried(way_key, self.model.kernel.draw_prior(noise_key, rows), None)

    def step(self, key: RandomKey, t: Any, state: NoiseState) -> tuple[NoiseState, Any]:
        kernel, rows = self.model.kernel, len(state.rewards)
        noise_key, way_key = split_keys(key, 2)
        problems = self.num_problems or 1
        around = kernel.backend.take(state.pivot, np.repeat(np.arange(problems), rows // problems))
        if isinstance(self.size, int | float) and self.size == 1:
            noise = kernel.draw_prior(noise_key, rows)
        else:
            noise = kernel.perturb(noise_key, around, self.size)
        return self._tried(way_key, noise, state)

    def _tried(self, key: RandomKey, noise: Tensor, before: NoiseState | None) -> tuple[Any, Any]:
        """Denoise all; keep the best, and what there was if that is no worse."""
        model, backend = self.model, self.model.kernel.backend
        xp, problems = backend.xp, self.num_problems or 1
        with backend.inference():
            start = model.from_noise(key, noise, None if before is None else before.meter)
            end = denoised(model, key, start, 0, model.num_steps)
            rewards = grouped(end.value, problems)
            best = xp.argmax(rewards, axis=1) + xp.arange(problems) * rewards.shape[1]
            pivot, data, reward = backend.take((noise, end.x, end.value), best)
            if before is not None:
                better = reward > before.found.reward
                rows = xp.arange(problems)
                pick = xp.where(better, rows, rows + problems)
                both = lambda new, old: backend.take(backend.concatenate([new, old]), pick)
                pivot, data = both(pivot, before.pivot), both(data, before.found.data)
                reward = xp.where(better, reward, before.found.reward)
        state = NoiseState(pivot, Found(data, reward), end.value, end.meter)
        return state, self._log_g(end.value)

    def record(self, state: NoiseState) -> Any:
        """The rewards of a round's candidates."""
        return self._per_problem(state.rewards)

    def particles(self, state: NoiseState) -> Found:
        """The best so far of each problem."""
        return state.found

    def work(self, n: int) -> Cost:
        """What the search will cost."""
        rows = n * (self.num_problems or 1) * self.rounds
        return Cost(nfe=rows * self.model.num_steps, reward_calls=rows)
