"""The base law as its own proposal."""

from dataclasses import dataclass
from typing import Any

import jax

from smcgen.core._types import PyTree, RandomKey
from smcgen.diffusion.backends.base import Tensor
from smcgen.diffusion.base import Kernel


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Base:
    """q = p."""

    guided = False

    def draw(
        self,
        key: RandomKey,
        t: Any,
        x: Tensor,
        prediction: PyTree,
        gradient: Tensor,
        kernel: Kernel,
    ) -> Tensor:
        return kernel.draw(key, t, x, prediction)

    def log_ratio(
        self,
        t: Any,
        x: Tensor,
        prediction: PyTree,
        gradient: Tensor,
        new: Tensor,
        kernel: Kernel,
    ) -> Any:
        return 0.0
