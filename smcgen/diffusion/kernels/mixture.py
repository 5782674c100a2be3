"""Gaussian mixtures: a diffusion model whose reverse process is known exactly.

The data are `sum_k w_k N(m_k, s^2 I)`. Given x_{t-1} the component is k with probability r_k, and then x_t is
Gaussian, so the exact `p(x_t | x_{t-1})` is a mixture too. Whatever the number of steps, x_T has exactly the law of
the data: what a steered run gives can be compared with an integral.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import logsumexp

from smcgen.core._types import RandomKey
from smcgen.core.precision import full_precision
from smcgen.diffusion.backends.base import Index, PerRow, Tensor, at
from smcgen.diffusion.backends.jax import JAX, each_problem
from smcgen.diffusion.base import Kernel
from smcgen.diffusion.schedules import Schedule
from smcgen.errors import InvalidArgument


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GaussianMixture(Kernel):
    """The exact reverse process of a Gaussian mixture, in JAX. It has no denoiser to learn: all is in closed form.

    `predict` gives `log r_k`, up to a constant.

    Attributes:
        means: shape (components, d).
        scale: s, of every component.
        schedule: alpha and sigma.
        weights: shape (components,); None: equal.
    """

    means: Any
    scale: Any
    schedule: Schedule = field(metadata={"static": True})
    weights: Any = None

    backend = JAX()

    def __post_init__(self) -> None:
        for name in ("means", "weights"):
            if isinstance(value := getattr(self, name), list | tuple):
                object.__setattr__(self, name, np.asarray(value, np.float32))
        if hasattr(self.means, "shape") and len(self.means.shape) != 2:
            raise InvalidArgument("means", self.means.shape, "shape (components, d)")
        if hasattr(self.weights, "shape") and self.weights.shape != self.means.shape[:1]:
            raise InvalidArgument("weights", self.weights.shape, f"shape {self.means.shape[:1]}")

    @property
    def num_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """T."""
        return len(self.schedule.alpha) - 1

    @property
    def deterministic(self) -> tuple[bool, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """None of its steps is, unless its components are points."""
        return (False,) * self.num_steps

    @property
    def _log_weights(self) -> Any:
        if self.weights is None:
            return jnp.full(len(self.means), -math.log(len(self.means)))
        return jnp.log(jnp.asarray(self.weights))

    def _marginal(self, t: Any) -> tuple[Any, Any]:
        """Means (components, d) and variance of x_t's components."""
        a, s = at(self.schedule.alpha, t), at(self.schedule.sigma, t)
        return a * jnp.asarray(self.means), a * a * self.scale**2 + s * s

    def draw_prior(self, key: RandomKey, rows: int) -> Tensor:
        """The exact law of x_0: close to `N(0, sigma_0^2)`, and no closer."""
        means, variance = self._marginal(0)
        logits = jnp.broadcast_to(self._log_weights, (rows, len(means)))
        return self._drawn(key, logits, lambda k: means[k], variance)

    def predict(self, t: Any, x: Tensor, problem: Index, before: Any) -> Tensor:
        means, variance = self._marginal(t)
        square = jnp.sum((x[:, None] - means) ** 2, axis=-1)
        return self._log_weights - 0.5 * square / variance

    def _step(self, t: Any) -> tuple[Any, Any, Any]:
        """The law of x_t given x_{t-1} and k: mean `of_x x_{t-1} + of_mean m_k`, and its variance."""
        a, s = at(self.schedule.alpha, t - 1), at(self.schedule.sigma, t - 1)
        a1, s1 = at(self.schedule.alpha, t), at(self.schedule.sigma, t)
        ratio = a / a1
        noise = s * s - (ratio * s1) ** 2  # x_{t-1} = ratio x_t + noise
        prior = (a1 * self.scale) ** 2 + s1 * s1
        total = ratio**2 * prior + noise
        return ratio * prior / total, a1 * noise / total, prior * noise / total

    def draw(self, key: RandomKey, t: Any, x: Tensor, prediction: Tensor) -> Tensor:
        of_x, of_mean, variance = self._step(t)
        means = jnp.asarray(self.means)
        return self._drawn(key, prediction, lambda k: of_x * x + of_mean * means[k], variance)

    def log_prob(self, t: Any, x: Tensor, prediction: Tensor, new: Tensor) -> PerRow:
        of_x, of_mean, variance = self._step(t)
        centres = of_x * x[:, None] + of_mean * jnp.asarray(self.means)
        square = jnp.sum((new[:, None] - centres) ** 2, axis=-1)
        density = -0.5 * square / variance - 0.5 * x.shape[1] * jnp.log(2 * jnp.pi * variance)
        return logsumexp(jax.nn.log_softmax(prediction) + density, axis=1)

    def _data(self, t: Any) -> tuple[Any, Any, Any]:
        """The law of the data given x_t and k: mean `of_x x_t + of_mean m_k`, and its variance."""
        a, s = at(self.schedule.alpha, t), at(self.schedule.sigma, t)
        total = (a * self.scale) ** 2 + s * s
        return a * self.scale**2 / total, s * s / total, (s * self.scale) ** 2 / total

    @full_precision()
    def data(self, t: Any, x: Tensor, prediction: Tensor) -> Tensor:
        of_x, of_mean, _ = self._data(t)
        return of_x * x + of_mean * jax.nn.softmax(prediction) @ jnp.asarray(self.means)

    def draw_data(self, key: RandomKey, t: Any, x: Tensor, prediction: Tensor, k: int) -> Tensor:
        """Exact draws."""
        of_x, of_mean, variance = self._data(t)
        x, prediction = jnp.repeat(x, k, axis=0), jnp.repeat(prediction, k, axis=0)
        means = jnp.asarray(self.means)
        return self._drawn(key, prediction, lambda k: of_x * x + of_mean * means[k], variance)

    def step_variance(self, t: Any) -> Any:
        return self._step(t)[2]

    def _drawn(self, key: RandomKey, logits: Tensor, mean: Any, variance: Any) -> Tensor:
        """A component for each row, then a Gaussian about `mean(component)`."""
        rows, d = len(logits), np.shape(self.means)[1]
        component, noise = each_problem(_component_and_noise, key, rows, d, logits)
        return mean(component) + jnp.sqrt(variance) * noise


def _component_and_noise(key: RandomKey, rows: int, d: int, logits: Any) -> Any:
    of_component, of_noise = jax.random.split(key)
    drawn = jax.random.categorical(of_component, logits, axis=-1)
    return drawn, jax.random.normal(of_noise, (rows, d))
