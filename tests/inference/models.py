"""A linear-Gaussian model whose likelihood the Kalman filter gives, and its AR coefficient's posterior."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

import smcgen

Y = np.array([0.4, 1.3, 0.9, -0.2, -1.1, 0.3])
Q, R = 0.8, 0.6


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Autoregression(smcgen.Markov):
    """`x_0 ~ N(0, 1)`, `x_t ~ N(a x_{t-1}, Q^2)`, `y_t ~ N(x_t, R^2)`."""

    a: Any
    y: Any

    @property
    def num_steps(self):
        return self.y.shape[0] - 1

    def draw_initial(self, key, n):
        return jax.random.normal(key, (n,))

    def draw(self, key, t, x_prev):
        return self.a * x_prev + Q * jax.random.normal(key, x_prev.shape)

    def log_initial(self, x):
        return norm.logpdf(x)

    def log_m(self, t, x_prev, x):
        return norm.logpdf(x, self.a * x_prev, Q)

    def log_g(self, t, x_prev, x):
        return norm.logpdf(self.y[t], x, R)


def build(theta):
    return Autoregression(theta["a"], jnp.asarray(Y, jnp.float32))


def log_likelihood(a):
    """By the Kalman filter, in double precision."""
    mean, var, log_z = 0.0, 1.0, 0.0
    for t, y in enumerate(Y):
        if t:
            mean, var = a * mean, a * a * var + Q * Q
        s = var + R * R
        log_z += -0.5 * (np.log(2 * np.pi * s) + (y - mean) ** 2 / s)
        mean, var = mean + var / s * (y - mean), var * R * R / s
    return log_z


GRID = (
    np.linspace(-1, 1, 4001)[:-1] + 2.5e-4
)  # midpoints of the prior's support, uniform on (-1, 1)
LIKELIHOOD = np.exp([log_likelihood(a) for a in GRID])
LOG_EVIDENCE = float(np.log(LIKELIHOOD.mean()))
POSTERIOR = LIKELIHOOD / LIKELIHOOD.sum()
MEAN = float((GRID * POSTERIOR).sum())


def bins(count):
    """Edges of cells of equal posterior mass, and their masses."""
    below = np.concatenate([[0.0], POSTERIOR.cumsum()])
    cut = np.searchsorted(below, np.arange(1, count) / count)
    edges = np.concatenate([[-1.0], GRID[cut - 1] + 2.5e-4, [1.0]])
    return edges, np.diff(np.concatenate([[0.0], below[cut], [1.0]]))


def derivatives(a, step=1e-4):
    """First and second derivative of the log-likelihood."""
    low, middle, high = (log_likelihood(a + s) for s in (-step, 0.0, step))
    return (high - low) / (2 * step), (high - 2 * middle + low) / step**2
