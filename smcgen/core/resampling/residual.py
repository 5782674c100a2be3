"""Residual resampling: floor(n W_i) copies for certain, the rest drawn."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from smcgen.core._types import RandomKey
from smcgen.core.resampling.base import double_uniforms, from_counts, scaled_weights
from smcgen.core.resampling.multinomial import draw


@dataclass(frozen=True)
class Residual:
    """`floor(n W_i)` copies, then `R = n - sum floor(n W_i)` multinomial draws by `n W_i - floor(n W_i)`.

    Liu and Chen (1998).
    """

    def __call__(self, key: RandomKey, log_weights: Float[Array, " n"]) -> Int32[Array, " n"]:
        n = log_weights.shape[0]
        uniforms = double_uniforms(key, (n,))
        with jax.enable_x64(True):
            weights = scaled_weights(log_weights)
            certain = jnp.floor(weights)
            left = n - jnp.sum(certain.astype(jnp.int32), dtype=jnp.int32)
            drawn = draw(uniforms, weights - certain)
            used = (jnp.arange(n) < left).astype(jnp.int32)
            counts = certain.astype(jnp.int32).at[drawn].add(used)
            return from_counts(counts, weights)
