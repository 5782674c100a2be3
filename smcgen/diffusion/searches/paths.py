"""Search over paths: noise partly, denoise again in several ways, keep the best."""

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from smcgen.core._types import RandomKey
from smcgen.core.cost import Cost
from smcgen.diffusion.backends.base import at
from smcgen.diffusion.candidates import split_keys
from smcgen.diffusion.model import DiffusionModel
from smcgen.diffusion.searches.base import Found, Search, denoised, grouped
from smcgen.diffusion.state import DiffusionState


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PathSearch(Search[DiffusionState]):
    """Search over paths (Ma et al. 2025, section 3.2): n paths, each continued in `branches` ways a round.

    A way is: noise goes back `back` steps from where the path is, then `back + advance` steps are denoised. The
    reward of the prediction there decides which n of the `n branches` paths go on. The last round ends at the data.

    Attributes:
        model: the model without a twist.
        rounds: how many; the first begins at step `T - rounds advance`.
        branches: ways to go on from each path.
        advance, back: steps won and steps lost in each round.
    """

    model: DiffusionModel
    rounds: int = field(metadata={"static": True})
    branches: int = field(default=4, metadata={"static": True})
    advance: int = field(default=1, metadata={"static": True})
    back: int = field(default=1, metadata={"static": True})

    @property
    def start(self) -> int:
        """The time at which the first round begins."""
        return self.model.num_steps - self.rounds * self.advance

    @property
    def num_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Rounds."""
        return self.rounds

    def init(self, key: RandomKey, n: int) -> tuple[DiffusionState, Any]:
        first, rest = split_keys(key, 2)
        state, log_g = self.model.init(first, n)
        with self.model.kernel.backend.inference():
            return denoised(self.model, rest, state, 0, self.start), log_g

    def step(self, key: RandomKey, t: Any, state: DiffusionState) -> tuple[DiffusionState, Any]:
        model, kernel = self.model, self.model.kernel
        backend, problems = kernel.backend, self.num_problems or 1
        rows, m = len(state.log_psi), self.branches
        here = self.start + (t - 1) * self.advance
        noise_key, way_key = split_keys(key, 2)
        with backend.inference():
            wide = backend.take(state, np.repeat(np.arange(rows), m))
            noisy = kernel.renoise(noise_key, here, here - self.back, wide.x)
            wide = model.predicted(way_key, here - self.back, noisy, wide)
            wide = denoised(model, way_key, wide, here - self.back, self.back + self.advance)
            is_last = at(np.arange(model.num_steps + 1) == model.num_steps, here + self.advance)
            promised = lambda state: model.valued(here + self.advance, state)
            wide = backend.switch(is_last * 1, [promised, lambda state: state], wide)
            log_g = self._log_g(wide.value.reshape(-1, m).max(1))
            ranks = backend.xp.argsort(-grouped(wide.value, problems), axis=1)[
                :, : rows // problems
            ]
            keep = ranks + backend.xp.arange(problems)[:, None] * (rows // problems * m)
            state = backend.take(wide, keep.reshape(-1))
        return state, log_g

    def record(self, state: DiffusionState) -> Any:
        """The rewards of the paths that go on."""
        return self._per_problem(state.value)

    def particles(self, state: DiffusionState) -> Found:
        """The best path of each problem."""
        problems = self.num_problems or 1
        best = grouped(state.value, problems).argmax(1)
        index = best + np.arange(problems) * (len(state.value) // problems)
        return Found(*self.model.kernel.backend.take((state.x, state.value), index))

    def work(self, n: int) -> Cost:
        """What the search will cost."""
        rows, wide = n * (self.num_problems or 1), n * (self.num_problems or 1) * self.branches
        a_round = wide * (1 + self.back + self.advance)
        nfe = rows * (1 + self.start) + a_round * self.rounds - wide  # none at the data
        return Cost(nfe=nfe, reward_calls=wide * self.rounds)
