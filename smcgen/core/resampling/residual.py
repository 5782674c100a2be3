"""Residual resampling: floor(n W_i) copies for certain, the rest drawn."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float64, Int, Int32

from smcgen.core._types import RandomKey
from smcgen.core.resampling.base import (
    a_copy,
    double_uniforms,
    first_slot,
    from_counts,
    scaled_weights,
)
from smcgen.core.resampling.multinomial import draw


@dataclass(frozen=True)
class Residual:
    """`floor(n W_i)` copies, then `R = n - sum floor(n W_i)` multinomial draws by `n W_i - floor(n W_i)`.

    Liu and Chen (1998).
    """

    def __call__(self, key: RandomKey, log_weights: Float[Array, " n"]) -> Int32[Array, " n"]:
        uniforms = double_uniforms(key, log_weights.shape)
        with jax.enable_x64(True):
            weights = scaled_weights(log_weights)
            return completed(weights, draw(uniforms, weights - jnp.floor(weights)))

    def conditional(
        self, key: RandomKey, log_weights: Float[Array, " n"], pinned: Int[Array, ""]
    ) -> Int32[Array, " n"]:
        """With probability `floor(n W_b) / (n W_b)` one of b's certain copies, else one of the draws is b."""
        uniforms = double_uniforms(key, (len(log_weights) + 2,))
        with jax.enable_x64(True):
            weights = scaled_weights(log_weights)
            certain = jnp.floor(weights)
            drawn = draw(uniforms[2:], weights - certain)
            forced = uniforms[0] * weights[pinned] >= certain[pinned]
            drawn = drawn.at[0].set(jnp.where(forced, pinned.astype(jnp.int32), drawn[0]))
            ancestors = completed(weights, drawn)
            return first_slot(ancestors, a_copy(ancestors, uniforms[1], pinned), pinned)


def completed(weights: Float64[Array, " n"], drawn: Int32[Array, " n"]) -> Int32[Array, " n"]:
    """Certain copies, and as many of the draws as are left; sorted."""
    n = len(weights)
    certain = jnp.floor(weights).astype(jnp.int32)
    used = jnp.arange(n) < n - jnp.sum(certain, dtype=jnp.int32)
    return from_counts(certain.at[drawn].add(used.astype(jnp.int32)), weights)
