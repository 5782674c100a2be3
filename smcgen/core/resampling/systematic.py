"""Systematic resampling: a comb of n teeth with one random offset."""

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
class Systematic:
    """`#{k: k + U < n (W_1 + ... + W_i)}` draws fall on the first i particles, U uniform.

    Offspring counts are floor or ceil of `n W_i` (Kitagawa 1996; Carpenter, Clifford, Fearnhead 1999).
    """

    def __call__(self, key: RandomKey, log_weights: Float[Array, " n"]) -> Int32[Array, " n"]:
        offset = double_uniforms(key, ())
        with jax.enable_x64(True):
            weights = scaled_weights(log_weights)
            edge = cumulative(weights)
            whole = jnp.floor(edge)
            below = whole.astype(jnp.int32) + (edge - whole > offset)
            return from_counts_below(below, weights)
