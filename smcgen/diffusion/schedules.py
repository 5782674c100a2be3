"""Schedules: alpha and sigma of `x_t = alpha_t data + sigma_t noise` at t = 0..T, noise first."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from smcgen.diffusion.backends.base import at
from smcgen.errors import InvalidArgument, UnknownName

Betas = Literal["linear", "scaled_linear", "cosine"]


@dataclass(frozen=True, eq=False)
class Schedule:
    """Equal to another of the same numbers.

    Attributes:
        alpha, sigma: shape (T + 1,), from noise to data; `alpha_t > 0` for t > 0, `sigma_t > 0` for t < T, and
            `alpha / sigma` rises.
        time: what the denoiser is told at each t, shape (T + 1,).
        prior_scale: standard deviation of x_0; default: `sigma_0`.
    """

    alpha: Any
    sigma: Any
    time: Any
    prior_scale: float | None = None

    def __post_init__(self) -> None:
        for name in ("alpha", "sigma", "time"):
            value = np.asarray(getattr(self, name))
            value = value if name == "time" else value.astype(np.float64)
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        if self.alpha.ndim != 1 or len(self.alpha) < 2:
            raise InvalidArgument("alpha", self.alpha.shape, "shape (T + 1,), T >= 1")
        for name in ("sigma", "time"):
            if getattr(self, name).shape != self.alpha.shape:
                raise InvalidArgument(name, getattr(self, name).shape, f"shape {self.alpha.shape}")
        if not np.all(self.sigma[:-1] > 0) or self.sigma[-1] < 0:
            raise InvalidArgument("sigma", self.sigma, "positive numbers; the last may be 0")
        if not np.all(self.alpha[1:] > 0) or self.alpha[0] < 0:
            raise InvalidArgument("alpha", self.alpha, "positive numbers; the first may be 0")
        if not np.all(self.alpha[:-1] * self.sigma[1:] <= self.alpha[1:] * self.sigma[:-1]):
            raise InvalidArgument(
                "sigma", self.sigma, "alpha / sigma that rises: noise comes first"
            )
        if self.prior_scale is None:
            object.__setattr__(self, "prior_scale", float(self.sigma[0]))

    def noising(self, t: Any, back: Any) -> tuple[Any, Any]:
        """`x_back = ratio x_t + scale noise` for back <= t: (ratio, scale)."""
        ratio = at(self.alpha, back) / at(self.alpha, t)
        variance = at(self.sigma, back) ** 2 - (ratio * at(self.sigma, t)) ** 2
        return ratio, (variance * (variance > 0)) ** 0.5  # rounding can take it below 0

    def _identity(self) -> tuple[Any, ...]:
        arrays = (self.alpha, self.sigma, self.time)
        return (*(x.tobytes() for x in arrays), str(self.time.dtype), self.prior_scale)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())


def ddpm(
    num_steps: int,
    *,
    betas: Betas = "linear",
    train_steps: int = 1000,
    begin: float = 1e-4,
    end: float = 0.02,
) -> Schedule:
    """A variance-preserving schedule in `num_steps` steps, evenly spaced among `train_steps` (Ho et al. 2020).

    `alpha^2 = prod(1 - beta)`, sigma^2 = 1 - alpha^2; the denoiser's time is the training step, an integer.

    Args:
        num_steps: T.
        betas: "linear" from `begin` to `end`; "scaled_linear", linear in their square roots (Stable Diffusion: .00085
            to .012); "cosine" (Nichol and Dhariwal 2021).
        train_steps: betas there are.
    """
    if not 1 <= num_steps <= train_steps:
        raise InvalidArgument("num_steps", num_steps, f"an integer from 1 to {train_steps}")
    if betas == "linear":
        beta = np.linspace(begin, end, train_steps)
    elif betas == "scaled_linear":
        beta = np.linspace(begin**0.5, end**0.5, train_steps) ** 2
    elif betas == "cosine":
        bar = np.cos((np.arange(train_steps + 1) / train_steps + 0.008) / 1.008 * np.pi / 2) ** 2
        beta = np.minimum(1 - bar[1:] / bar[:-1], 0.999)
    else:
        raise UnknownName("betas", betas, ("linear", "scaled_linear", "cosine"))
    steps = np.round(np.linspace(train_steps - 1, 0, num_steps)).astype(int)
    return variance_preserving(np.cumprod(1 - beta), steps)


def variance_preserving(alphas_cumprod: Any, timesteps: Any) -> Schedule:
    """The schedule of a trained model: the `timesteps`, noise first, of its training steps' `alphas_cumprod`.

    The last step ends at the data: alpha 1, sigma 0.
    """
    steps = np.asarray(timesteps)
    bar = np.append(np.asarray(alphas_cumprod, np.float64)[steps], 1.0)
    return Schedule(np.sqrt(bar), np.sqrt(1 - bar), np.append(steps, 0), prior_scale=1.0)


def edm(
    num_steps: int, *, sigma_max: float = 80.0, sigma_min: float = 0.002, rho: float = 7.0
) -> Schedule:
    """alpha = 1, `sigma^(1/rho)` linear from `sigma_max` to `sigma_min`, then 0 (Karras et al. 2022, eq. 5).

    The denoiser's time is sigma.
    """
    if num_steps < 1:
        raise InvalidArgument("num_steps", num_steps, "an integer >= 1")
    ramp = np.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), num_steps) ** rho
    sigma = np.append(ramp, 0.0)
    return Schedule(np.ones_like(sigma), sigma, sigma)


def rectified_flow(num_steps: int, *, shift: float = 1.0) -> Schedule:
    """alpha = 1 - sigma, sigma from 1 to 0 (Liu et al. 2023); the denoiser's time is sigma.

    Args:
        num_steps: T.
        shift: `sigma = shift s / (1 + (shift - 1) s)` of evenly spaced s (Esser et al. 2024).
    """
    if num_steps < 1:
        raise InvalidArgument("num_steps", num_steps, "an integer >= 1")
    s = np.linspace(1, 0, num_steps + 1)
    sigma = shift * s / (1 + (shift - 1) * s)
    return Schedule(1 - sigma, sigma, sigma, prior_scale=1.0)
