"""One Gaussian kernel for DDPM, DDIM and flow matching.

With `x_t = alpha_t data + sigma_t noise`, the denoiser's prediction of the data at x_{t-1} and the noise it implies, a
step from (alpha, sigma) to (alpha', sigma') is

    x_t = alpha' data + sqrt(sigma'^2 - tau^2) noise + tau z,
    tau^2 = eta^2 sigma'^2 (1 - alpha^2 sigma'^2 / (alpha'^2 sigma^2)).

eta = 1 is DDPM's posterior step (Ho et al. 2020) on a variance-preserving schedule, and on any other the one that
keeps the marginals; eta = 0 is DDIM (Song et al. 2021) and the ODE of flow matching, deterministic; between them
DDIM-eta. For flow matching this is an SDE with the flow's marginals, up to the step size.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import jax
import numpy as np

from smcgen.core._types import PyTree, RandomKey
from smcgen.diffusion.backends import backend_of
from smcgen.diffusion.backends.base import Backend, Index, PerRow, Tensor, at
from smcgen.diffusion.base import Denoiser, Kernel
from smcgen.diffusion.schedules import Schedule
from smcgen.errors import InvalidArgument, UnknownName

Predicts = Literal["eps", "data", "v", "velocity", "score"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gaussian(Kernel):
    """The reverse process of a Gaussian diffusion or flow model.

    Attributes:
        denoiser: `fn(x, time)`; `fn(x, time, problem)` if `conditional`.
        schedule: alpha, sigma and the denoiser's time at t = 0..T.
        shape: of one sample, without rows.
        predicts: what the denoiser gives: "eps" (the noise), "data", "v" (`alpha eps - sigma data`; Salimans and Ho
            2022), "velocity" (`eps - data`, as flow models of diffusers do) or "score".
        eta: 0 deterministic, 1 as random as keeps the marginals; or one for each step, T numbers.
        conditional: whether the denoiser wants the problem's index of each row.
        clip: predicted data is clipped to [-clip, clip]; None: not.
        data_scale: standard deviation of the data, for approximate draws given x_t:
            `N(prediction, 1 / (1 / data_scale^2 + alpha^2 / sigma^2))`.
        decoder: data as rewards and people see it, see `Kernel.decode`.
        backend: default: torch, on the device of its parameters, for a torch module; else JAX.
        prompts: what each of several problems is about (a class, a text), for rewards that read it; None: one problem.
    """

    denoiser: Denoiser
    schedule: Schedule = field(metadata={"static": True})
    shape: tuple[int, ...] = field(metadata={"static": True})
    predicts: Predicts = field(default="eps", metadata={"static": True})
    eta: float | tuple[float, ...] = field(default=1.0, metadata={"static": True})
    conditional: bool = field(default=False, metadata={"static": True})
    clip: float | None = field(default=None, metadata={"static": True})
    data_scale: float = field(default=1.0, metadata={"static": True})
    decoder: Callable[[Any], Any] | None = field(default=None, metadata={"static": True})
    backend: Backend = field(default=None, metadata={"static": True})  # pyright: ignore[reportAssignmentType]
    prompts: tuple[Any, ...] | None = field(default=None, metadata={"static": True})

    def __post_init__(self) -> None:
        if self.predicts not in get_args(Predicts):
            raise UnknownName("predicts", self.predicts, get_args(Predicts))
        object.__setattr__(self, "shape", _checked_shape(self.shape))
        eta = np.asarray(self.eta, np.float64)
        if eta.shape not in ((), (self.num_steps,)) or not np.all((eta >= 0) & (eta <= 1)):
            allowed = f"a number in [0, 1], or {self.num_steps} of them, one for each step"
            raise InvalidArgument("eta", self.eta, allowed)
        if self.predicts in ("eps", "score") and self.schedule.alpha[0] == 0:
            allowed = (
                "'data', 'v' or 'velocity' where alpha_0 = 0: pure noise says nothing of the data"
            )
            raise InvalidArgument("predicts", self.predicts, allowed)
        if self.backend is None:
            object.__setattr__(self, "backend", backend_of(self.denoiser))

    @property
    def num_problems(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """One for each prompt; None without prompts."""
        return None if self.prompts is None else len(self.prompts)

    @property
    def num_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """T."""
        return len(self.schedule.alpha) - 1

    @cached_property
    def _steps(self) -> dict[str, np.ndarray]:
        """Coefficients of step t at index t: `mean = of_x x + of_data data`, and tau; index 0 is unused."""
        alpha, sigma = self.schedule.alpha, self.schedule.sigma
        a, s, a1, s1 = alpha[:-1], sigma[:-1], alpha[1:], sigma[1:]
        tau2 = np.asarray(self.eta) ** 2 * s1**2 * (1 - (a * s1 / (a1 * s)) ** 2)
        tau = np.sqrt(np.maximum(tau2, 0))
        of_noise = np.sqrt(np.maximum(s1**2 - tau**2, 0))
        rows = {"of_x": of_noise / s, "of_data": a1 - of_noise * a / s, "tau": tau}
        return {k: np.concatenate([[0.0], v]) for k, v in rows.items()}

    @cached_property
    def deterministic(self) -> tuple[bool, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps with tau = 0: all with eta = 0, and the last if it ends at sigma = 0."""
        return tuple(bool(tau == 0) for tau in self._steps["tau"][1:])

    def draw_prior(self, key: RandomKey, rows: int) -> Tensor:
        return self.schedule.prior_scale * self.backend.normal(key, rows, self.shape)

    def predict(self, t: Any, x: Tensor, problem: Index, before: PyTree) -> Tensor:
        """The predicted data, whatever the denoiser predicts."""
        a, s = at(self.schedule.alpha, t), at(self.schedule.sigma, t)
        time = at(self.schedule.time, t)
        out = self.denoiser(x, time, problem) if self.conditional else self.denoiser(x, time)
        self.backend.check(out)
        if tuple(np.shape(out)) != tuple(x.shape):
            came = f"one that returned shape {tuple(np.shape(out))}"
            raise InvalidArgument("denoiser", came, f"shape {tuple(x.shape)}, as its argument has")
        data = {
            "data": lambda: out,
            "eps": lambda: (x - s * out) / a,
            "v": lambda: (a * x - s * out) / (a * a + s * s),
            "velocity": lambda: (x - s * out) / (a + s),
            "score": lambda: (x + s * s * out) / a,
        }[self.predicts]()
        return data if self.clip is None else data.clip(-self.clip, self.clip)

    def _mean(self, t: Any, x: Tensor, prediction: Tensor) -> Tensor:
        return at(self._steps["of_x"], t) * x + at(self._steps["of_data"], t) * prediction

    def draw(self, key: RandomKey, t: Any, x: Tensor, prediction: Tensor) -> Tensor:
        tau, mean = at(self._steps["tau"], t), self._mean(t, x, prediction)
        if isinstance(tau, float) and tau == 0:
            return mean
        return mean + tau * self.backend.normal(key, len(x), self.shape)

    def log_prob(self, t: Any, x: Tensor, prediction: Tensor, new: Tensor) -> PerRow:
        backend, variance = self.backend, self.step_variance(t)
        square = backend.per_row(backend.sum((new - self._mean(t, x, prediction)) ** 2))
        size, xp = math.prod(self.shape), backend.xp
        random = xp.asarray(variance) > 0
        safe = xp.where(random, variance, 1.0)
        density = -0.5 * square / safe - 0.5 * size * xp.log(2 * xp.pi * safe)
        # without noise, "the same" is up to rounding
        same = square <= 1e-10 * (1 + backend.per_row(backend.sum(new**2)))
        return xp.where(random, density, xp.where(same, 0.0, -xp.inf))

    def data(self, t: Any, x: Tensor, prediction: Tensor) -> Tensor:
        return prediction

    def draw_data(self, key: RandomKey, t: Any, x: Tensor, prediction: Tensor, k: int) -> Tensor:
        alpha, sigma = self.schedule.alpha, self.schedule.sigma
        scale = sigma * self.data_scale / np.sqrt(sigma**2 + (alpha * self.data_scale) ** 2)
        rows = len(x) * k
        mean = self.backend.take(prediction, np.repeat(np.arange(len(x)), k))
        return mean + at(scale, t) * self.backend.normal(key, rows, self.shape)

    def perturb(self, key: RandomKey, x: Tensor, size: Any) -> Tensor:
        """`sqrt(1 - size^2) x + size noise`."""
        noise = self.schedule.prior_scale * self.backend.normal(key, len(x), self.shape)
        return (1 - size * size) ** 0.5 * x + size * noise

    def renoise(self, key: RandomKey, t: Any, back: Any, x: Tensor) -> Tensor:
        ratio, scale = self.schedule.noising(t, back)
        return ratio * x + scale * self.backend.normal(key, len(x), self.shape)

    def step_variance(self, t: Any) -> Any:
        return at(self._steps["tau"] ** 2, t)

    def log_shift(
        self, t: Any, x: Tensor, prediction: Tensor, new: Tensor, shift: Tensor
    ) -> PerRow:
        """`(|shift|^2 / 2 - shift (new - mean)) / tau^2`: no difference of large numbers."""
        xp, variance = self.backend.xp, self.step_variance(t)
        inner = self.backend.sum(shift * (0.5 * shift - (new - self._mean(t, x, prediction))))
        safe = xp.where(xp.asarray(variance) > 0, variance, 1.0)
        return self.backend.per_row(inner) / safe

    def decode(self, data: Tensor) -> Any:
        return data if self.decoder is None else self.decoder(data)


def _checked_shape(shape: Any) -> tuple[int, ...]:
    listed = isinstance(shape, tuple | list)
    if not listed or not all(isinstance(s, int | np.integer) and s >= 1 for s in shape):
        raise InvalidArgument("shape", shape, "sizes of one sample, without rows: (64,)")
    return tuple(int(s) for s in shape)
