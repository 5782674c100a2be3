"""The error of waste-free SMC's evidence, from one run."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from smcgen.samplers.base import Scalar


def chain_variance(log_g: Float[Array, "chains length"], independent: bool = False) -> Scalar:
    """Variance of `log mean_{m,p} g(x^{m,p})` from M chains of P points (Dau and Chopin 2022, section 4).

    For long chains the terms of log Z-hat are uncorrelated, and each has the variance of an MCMC average,

        v / (M P),   v = rho_0 + 2 sum_{k >= 1} rho_k,

    rho_k the autocovariance of g / mean(g), pooled over the chains and cut off by Geyer's (1992) initial monotone
    sequence. With `independent` points v = rho_0. The run's variance is the sum over its steps.
    """
    chains, length = log_g.shape
    top = jnp.max(log_g)
    g = jnp.exp(log_g - jnp.where(jnp.isfinite(top), top, 0.0))
    h = g / jnp.mean(g) - 1
    if independent:
        return jnp.mean(h * h) / (chains * length)
    spectrum = jnp.fft.rfft(h, 2 * length, axis=-1)
    products = jnp.fft.irfft(jnp.abs(spectrum) ** 2, 2 * length, axis=-1)[:, :length]
    covariance = jnp.sum(products, 0) / (chains * length)
    pairs = covariance[: length // 2 * 2].reshape(-1, 2).sum(-1)
    positive = jnp.cumprod(pairs > 0)
    kept = jnp.where(positive > 0, jax.lax.cummin(pairs), 0.0)
    v = jnp.maximum(2 * jnp.sum(kept) - covariance[0], covariance[0] / length)
    return v / (chains * length)
