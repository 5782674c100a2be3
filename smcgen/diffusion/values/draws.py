"""The reward of several draws of the data."""

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from smcgen.core._types import PyTree, RandomKey
from smcgen.diffusion.backends.base import Index, Tensor
from smcgen.diffusion.base import Kernel, Scorer
from smcgen.errors import InvalidArgument


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ManyDraws:
    """`v_t = 1/lambda log 1/k sum_j exp(lambda r(d_j))` over k draws `d_j` of the data given x_t.

    With exact draws it is an estimate of the optimal value, and better than the reward of the mean where the reward
    is not linear in the data. Singhal et al. (2025), section 3.3. The draws are part of the randomness of the run, so
    the target stays exact whatever their law.

    Attributes:
        k: draws.
    """

    k: int = field(default=4, metadata={"static": True})

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int | np.integer) or self.k < 1:
            raise InvalidArgument("k", self.k, "an integer >= 1")

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
        data = kernel.draw_data(key, t, x, prediction, self.k)
        scores = score(data, np.repeat(problem, self.k))
        return kernel.backend.log_mean_exp(scores, self.k, strength)

    def reward_calls(self, rows: int) -> int:
        return rows * self.k
