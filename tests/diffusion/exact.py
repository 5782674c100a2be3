"""Diffusion models whose answers are integrals: Gaussian mixtures with rewards of a coordinate each.

A 3x3 grid with spacing 4 and a ring of 8 with radius 4, each component with variance .3, and one standard normal.
Whatever can be is data and not structure, the kind of twist included, so that one compiled program serves all.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcgen import diffusion
from tests import _xla

# XLA compiles quickly, not well: these programs run once, and compiling them well takes most of their time
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    **_xla.OPTIONS,
}
quick_jit = partial(jax.jit, compiler_options=QUICK)


@dataclass(frozen=True)
class Toy:
    """A mixture with the reward `-a x^2 - b (y - c)^2 + d tanh(x - 1)`; integrals by quadrature, x and y apart."""

    means: np.ndarray
    variance: float
    a: float
    b: float
    c: float
    d: float = 0.0

    def _rewards(self, u):
        """Of each coordinate, on a grid of it."""
        return -self.a * u**2 + self.d * np.tanh(u - 1), -self.b * (u - self.c) ** 2

    def exact(self):
        """log Z, and E_pi of r, x and y."""
        u = np.linspace(-12, 12, 24001)
        density = np.exp(-((u - self.means[..., None]) ** 2) / (2 * self.variance))
        density *= (u[1] - u[0]) / np.sqrt(2 * np.pi * self.variance)  # (k, 2, grid)
        rewards = np.stack(self._rewards(u))
        tilted = density * np.exp(rewards)
        mass = tilted.sum(-1)  # (k, 2)
        own, other = (tilted * rewards).sum(-1), mass[:, ::-1]
        total = mass.prod(1).sum()
        means = [(own * other).sum(), *((tilted * u).sum(-1) * other).sum(0)]
        return np.log(total / len(self.means)), np.array(means) / total

    def draw_path(self, rng, schedule, num):
        """Exact draws of x_{0:T} ~ pi, for d = 0: x_T from the tilted mixture, then the noising process."""
        rate, centre = np.array([self.a, self.b]), np.array([0.0, self.c])
        v = 1 + 2 * rate * self.variance
        mass = np.exp(-(rate * (self.means - centre) ** 2 / v).sum(1))
        mean = (self.means + 2 * rate * self.variance * centre) / v
        k = rng.choice(len(mass), num, p=mass / mass.sum())
        path = [mean[k] + np.sqrt(self.variance / v) * rng.normal(size=(num, 2))]
        alpha, sigma = schedule.alpha, schedule.sigma
        for t in range(len(alpha) - 1, 0, -1):
            ratio = alpha[t - 1] / alpha[t]
            noise = np.sqrt(sigma[t - 1] ** 2 - (ratio * sigma[t]) ** 2)
            path.append(ratio * path[-1] + noise * rng.normal(size=(num, 2)))
        return np.stack(path[::-1], 1).astype(np.float32)  # (num, T + 1, 2)

    def arrays(self):
        """What makes this toy, as data of one shape: means, weights, scale, reward."""
        k = len(self.means)
        means = np.concatenate([self.means, np.zeros((9 - k, 2))])
        weights = np.concatenate([np.full(k, 1 / k), np.full(9 - k, 1e-30)])
        reward = np.array([self.a, self.b, self.c, self.d])
        numbers = (means, weights, np.sqrt(self.variance), reward)
        return tuple(jnp.asarray(x, jnp.float32) for x in numbers)


_ANGLES = 2 * np.pi * np.arange(8) / 8
TOYS = {
    "grid": Toy(
        np.array([(4.0 * i, 4.0 * j) for i in (-1, 0, 1) for j in (-1, 0, 1)]), 0.3, 0.01, 1, 0
    ),
    "ring": Toy(4 * np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1), 0.3, 1, 0.1, 1),
    "tanh": Toy(np.zeros((1, 2)), 1.0, 0, 0, 0, d=4.0),  # r = 2 tanh(x - 1), lambda = 2
}
TWISTS = ("difference", "immediate", "max", "sum")
_MEMBERS = (diffusion.Difference(), diffusion.Immediate(), diffusion.Max(), diffusion.Sum())


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AnyTwist:
    """The twist number `which` of `TWISTS`."""

    which: Any
    value: Any = diffusion.AtPrediction()

    def start(self, rows, xp):
        return tuple(m.start(rows, xp) for m in _MEMBERS)

    def update(self, strength, value, memory, log_psi, xp):
        each = [
            m.update(strength, value, own, log_psi, xp)
            for m, own in zip(_MEMBERS, memory, strict=True)
        ]
        return jnp.stack([log_psi for log_psi, _ in each])[self.which], tuple(m for _, m in each)


def reward_of(coefficients, x):
    a, b, c, d = coefficients
    return -a * x[:, 0] ** 2 - b * (x[:, 1] - c) ** 2 + d * jnp.tanh(x[:, 0] - 1)


def toy_model(arrays, schedule, twist, ladder=None, scale=None, **options):
    """A toy as a model; `scale` of the guidance, None for none."""
    means, weights, spread, coefficients = arrays
    kernel = diffusion.GaussianMixture(means, spread, schedule, weights)
    reward = diffusion.FunctionReward(
        jax.tree_util.Partial(reward_of, coefficients), traceable=True
    )
    if scale is not None:
        options["proposal"] = diffusion.Guided(scale)
    return diffusion.DiffusionModel(kernel, reward, 1.0, twist, ladder=ladder, **options)
