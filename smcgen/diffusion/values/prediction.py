"""The reward of the predicted data."""

from dataclasses import dataclass
from typing import Any

import jax

from smcgen.core._types import PyTree, RandomKey
from smcgen.diffusion.backends.base import Index, Tensor
from smcgen.diffusion.base import Kernel, Scorer


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AtPrediction:
    """`v_t = r(E[data | x_t])`, the denoiser's prediction: one call of the reward, no further call of the denoiser."""

    def __call__(
        self,
        key: RandomKey,
        t: Any,
        x: Tensor,
        prediction: PyTree,
        problem: Index,
        kernel: Kernel,
        score: Scorer,
        strength: Any,
    ) -> Any:
        return score(kernel.data(t, x, prediction), problem)

    def reward_calls(self, rows: int) -> int:
        return rows
