"""Guidance by the gradient of the value, weighted exactly."""

from dataclasses import dataclass
from typing import Any

import jax

from smcgen.core._types import PyTree, RandomKey
from smcgen.diffusion.backends.base import Tensor
from smcgen.diffusion.base import Kernel
from smcgen.diffusion.strengths import check_finite


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Guided:
    """`x_t = y + scale * tau^2 * grad`, `y ~ p(. | x_{t-1})`, grad of `lambda_{t-1} v(x_{t-1})` through the denoiser.

    For a Gaussian step this is `N(mean + scale tau^2 grad, tau^2)`, the proposal of the twisted diffusion sampler
    (Wu et al. 2023, eq. 9 and algorithm 1) and, with a ladder of strengths that rises from 0, of DAS (Kim et
    al. 2025). The weight is p / q, so the target is exact for any scale and any value.

    Guidance acts where the value is evaluated (`DiffusionModel.steps`), and costs a backward pass there.

    Attributes:
        scale: 1 is the locally optimal shift; 0 is the base law.
    """

    scale: Any = 1.0

    guided = True

    def __post_init__(self) -> None:
        check_finite("guidance", self.scale)

    def draw(
        self,
        key: RandomKey,
        t: Any,
        x: Tensor,
        prediction: PyTree,
        gradient: Tensor,
        kernel: Kernel,
    ) -> Tensor:
        return kernel.draw(key, t, x, prediction) + self._shift(t, gradient, kernel)

    def log_ratio(
        self,
        t: Any,
        x: Tensor,
        prediction: PyTree,
        gradient: Tensor,
        new: Tensor,
        kernel: Kernel,
    ) -> Any:
        return kernel.log_shift(t, x, prediction, new, self._shift(t, gradient, kernel))

    def _shift(self, t: Any, gradient: Tensor, kernel: Kernel) -> Tensor:
        return self.scale * kernel.step_variance(t) * gradient
