"""The variance of an average over chains."""

import jax
import jax.numpy as jnp
import numpy as np

from smcgen.samplers.variance import chain_variance


def test_of_autoregressive_chains():
    """g = exp(x), x an AR(1): rho_k of g / E g is exp(s^2 phi^k) - 1."""
    rng = np.random.default_rng(0)
    phi, s, chains, length = 0.6, 0.5, 300, 500
    x = np.zeros((chains, length))
    x[:, 0] = s * rng.normal(size=chains)
    for p in range(1, length):
        x[:, p] = phi * x[:, p - 1] + s * np.sqrt(1 - phi**2) * rng.normal(size=chains)
    rho = np.exp(s**2 * phi ** np.arange(200)) - 1
    exact = (2 * rho.sum() - rho[0]) / (chains * length)
    log_g = jnp.asarray(x - 300.0, jnp.float32)  # far from zero: only ratios count
    estimate = float(chain_variance(log_g))
    assert (
        abs(estimate / exact - 1) < 0.1
    )  # 150 000 points; the wrong sum, rho_0 alone, is off by a factor of 3.6
    independent = float(chain_variance(log_g, independent=True))
    assert abs(independent / (rho[0] / (chains * length)) - 1) < 0.1


def test_degenerate_chains():
    assert chain_variance(jnp.zeros((3, 4))) == 0
    assert np.isfinite(chain_variance(jnp.full((3, 4), -jnp.inf).at[0, 0].set(1.0)))
    assert np.isfinite(jax.jit(chain_variance)(jax.random.normal(jax.random.key(0), (2, 3))))
