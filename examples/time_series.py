"""A classical particle filter: stochastic volatility, its evidence with an error, and a gradient.

python examples/time_series.py
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

import smcgen


@jax.tree_util.register_dataclass
@dataclass
class StochasticVolatility(smcgen.FeynmanKac):
    """x_t = mu + rho (x_{t-1} - mu) + sigma e_t, y_t ~ N(0, exp(x_t)). A pytree: no recompilation."""

    returns: jax.Array
    mu: Any = -1.0
    rho: Any = 0.95
    sigma: Any = 0.3

    @property
    def num_steps(self):
        return len(self.returns) - 1

    def init(self, key, n):
        spread = self.sigma / jnp.sqrt(1 - self.rho**2)
        x = self.mu + spread * jax.random.normal(key, (n,))
        return x, norm.logpdf(self.returns[0], 0, jnp.exp(x / 2))

    def step(self, key, t, x):
        x = self.mu + self.rho * (x - self.mu) + self.sigma * jax.random.normal(key, x.shape)
        return x, norm.logpdf(self.returns[t], 0, jnp.exp(x / 2))


returns = 0.6 * jax.random.normal(jax.random.key(1), (200,))
result = smcgen.smc(StochasticVolatility(returns), key=0, n_particles=2000)
print(result)
print("E[x_T | y]:", result.expectation())

# one run is one jitted program: it maps over keys and differentiates in its parameters
evidence = jax.jit(
    jax.vmap(
        lambda key, rho: smcgen.smc(StochasticVolatility(returns, rho=rho), key, 500).log_evidence
    )
)
keys = jax.random.split(jax.random.key(2), 5)
print("log evidence at rho = .5 ... .99:", evidence(keys, jnp.array([0.5, 0.7, 0.9, 0.95, 0.99])))
