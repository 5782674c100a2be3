"""Systematic resampling: a comb of n teeth with one random offset."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float64, Int, Int32

from smcgen.core._types import RandomKey
from smcgen.core.resampling.base import (
    cumulative,
    double_uniforms,
    first_slot,
    from_counts_below,
    point_within,
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
            return comb(scaled_weights(log_weights), offset)

    def conditional(
        self, key: RandomKey, log_weights: Float[Array, " n"], pinned: Int[Array, ""]
    ) -> Int32[Array, " n"]:
        """One tooth is uniform on the pinned particle's interval, and places the others.

        Chopin and Singh (2015), algorithm 4: there the offset is drawn first, biased by the number of
        teeth it puts on the particle, and then one of these teeth.
        """
        uniform = double_uniforms(key, ())
        with jax.enable_x64(True):
            weights = scaled_weights(log_weights)
            tooth, offset = point_within(weights, uniform, pinned)
            return first_slot(comb(weights, offset), tooth, pinned)


def comb(weights: Float64[Array, " n"], offset: Float64[Array, ""]) -> Int32[Array, " n"]:
    """Tooth k lies at `k + offset` of the cumulated weights, which end at n."""
    return from_counts_below(comb_below(weights, offset), weights)


def comb_below(weights: Float64[Array, " n"], offset: Float64[Array, ""]) -> Int32[Array, " n"]:
    """How many teeth fall on particles 0..i."""
    edge = cumulative(weights)
    whole = jnp.floor(edge)
    return whole.astype(jnp.int32) + (edge - whole > offset).astype(jnp.int32)
