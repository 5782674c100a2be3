"""Stratified resampling: one independent draw in each of n strata."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from smcgen.core._types import RandomKey
from smcgen.core.resampling.base import (
    cumulative,
    double_uniforms,
    from_counts_below,
    scaled_weights,
)


@dataclass(frozen=True)
class Stratified:
    """`#{k: k + U_k < n (W_1 + ... + W_i)}` draws fall on the first i particles, U_k independent.

    Offspring counts lie within 2 of `n W_i` (Kitagawa 1996).
    """

    def __call__(self, key: RandomKey, log_weights: Float[Array, " n"]) -> Int32[Array, " n"]:
        n = log_weights.shape[0]
        uniforms = double_uniforms(key, (n,))
        with jax.enable_x64(True):
            weights = scaled_weights(log_weights)
            edge = cumulative(weights)
            whole = jnp.floor(edge)
            # the strata below `whole` lie wholly under the edge; only one is cut by it
            stratum = jnp.clip(whole.astype(jnp.int32), 0, n - 1)
            below = whole.astype(jnp.int32) + (edge - whole > uniforms[stratum])
            return from_counts_below(below, weights)
