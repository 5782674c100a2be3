"""Systematic resampling: a comb of n teeth with one random offset."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int32, Int64

from smcgen.core._types import RandomKey
from smcgen.core.resampling.fixed import (
    double_uniforms,
    expected_copies,
    fraction_bits,
    or_none,
    prefix_sum,
    random_fraction,
    random_words,
)
from smcgen.core.resampling.slots import (
    first_slot,
    from_counts_below,
    point_within,
    whole_and_fraction,
)


@dataclass(frozen=True)
class Systematic:
    """`#{k: k + U < n (W_1 + ... + W_i)}` draws fall on the first i particles, U uniform.

    Offspring counts are floor or ceil of `n W_i` (Kitagawa 1996; Carpenter, Clifford, Fearnhead 1999).
    """

    def __call__(self, key: RandomKey, log_weights: Float[Array, " n"]) -> Int32[Array, " n"]:
        words, bits = random_words(key, ()), fraction_bits(len(log_weights))
        with jax.enable_x64(True):
            below = teeth_below(expected_copies(log_weights), random_fraction(words, bits), bits)
            return or_none(log_weights, from_counts_below(below))

    def conditional(
        self, key: RandomKey, log_weights: Float[Array, " n"], pinned: Int[Array, ""]
    ) -> Int32[Array, " n"]:
        """One tooth is uniform on the pinned particle's interval, and places the others.

        Chopin and Singh (2015), algorithm 4: there the offset is drawn first, biased by the number of
        teeth it puts on the particle, and then one of these teeth.
        """
        uniform, bits = double_uniforms(key, ()), fraction_bits(len(log_weights))
        with jax.enable_x64(True):
            copies = expected_copies(log_weights)
            tooth, offset = point_within(copies, uniform, pinned)
            ancestors = from_counts_below(teeth_below(copies, offset, bits))
            return or_none(log_weights, first_slot(ancestors, tooth, pinned))


def teeth_below(
    copies: Int64[Array, " n"], offset: Int64[Array, ""], bits: int
) -> Int32[Array, " n"]:
    """How many of the points `k + offset` fall on particles 0..i."""
    whole, rest = whole_and_fraction(prefix_sum(copies), bits)
    return whole + (rest > offset).astype(jnp.int32)
