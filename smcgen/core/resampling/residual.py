"""Residual resampling: floor(n W_i) copies for certain, the rest drawn."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int32, Int64, UInt32

from smcgen.core._types import RandomKey
from smcgen.core.resampling.fixed import (
    count_upto,
    double_uniforms,
    expected_copies,
    fraction_bits,
    or_none,
    prefix_sum,
    random_bits,
    roomy,
    sorted_points,
)
from smcgen.core.resampling.slots import a_copy, first_slot, from_counts_below, whole_and_fraction


@dataclass(frozen=True)
class Residual:
    """`floor(n W_i)` copies, then `R = n - sum floor(n W_i)` multinomial draws by `n W_i - floor(n W_i)`.

    Liu and Chen (1998).
    """

    def __call__(self, key: RandomKey, log_weights: Float[Array, " n"]) -> Int32[Array, " n"]:
        words = random_bits(key, roomy(len(log_weights) + 1))
        with jax.enable_x64(True):
            copies = expected_copies(log_weights)
            draws = len(log_weights) - _sure(copies)[-1]
            return or_none(log_weights, from_counts_below(drawn_below(copies, words, draws)))

    def conditional(
        self, key: RandomKey, log_weights: Float[Array, " n"], pinned: Int[Array, ""]
    ) -> Int32[Array, " n"]:
        """With probability `floor(n W_b) / (n W_b)` one of b's certain copies, else one of the draws is b."""
        n = len(log_weights)
        choice, key = jax.random.split(key)
        words = random_bits(key, roomy(n + 1))
        uniforms = double_uniforms(choice, (2,))
        with jax.enable_x64(True):
            copies, bits = expected_copies(log_weights), fraction_bits(n)
            mass = copies[pinned]
            forced = (uniforms[0] * mass >= mass >> bits << bits).astype(jnp.int32)
            below = drawn_below(copies, words, n - _sure(copies)[-1] - forced)
            below = below + jnp.where(jnp.arange(n) >= pinned, forced, 0)
            ancestors = from_counts_below(below)
            slot = a_copy(ancestors, uniforms[1], pinned)
            return or_none(log_weights, first_slot(ancestors, slot, pinned))


def _sure(copies: Int64[Array, " n"]) -> Int32[Array, " n"]:
    """Certain copies of particles 0..i."""
    return prefix_sum(whole_and_fraction(copies, fraction_bits(len(copies)))[0])


def drawn_below(
    copies: Int64[Array, " n"], words: UInt32[Array, " m"], draws: Int[Array, ""]
) -> Int32[Array, " n"]:
    """How many of the certain copies, and of so many draws by the fractions, fall on particles 0..i."""
    n, bits = len(copies), fraction_bits(len(copies))
    sure = _sure(copies)
    fractions = prefix_sum(copies) - (sure.astype(jnp.int64) << bits)
    points = sorted_points(words, draws, fractions[-1])
    return sure + count_upto(points, fractions - 1, n)
