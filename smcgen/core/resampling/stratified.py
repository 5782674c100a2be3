"""Stratified resampling: one independent draw in each of n strata."""

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
class Stratified:
    """`#{k: k + U_k < n (W_1 + ... + W_i)}` draws fall on the first i particles, U_k independent.

    Offspring counts lie within 2 of `n W_i` (Kitagawa 1996).
    """

    def __call__(self, key: RandomKey, log_weights: Float[Array, " n"]) -> Int32[Array, " n"]:
        n = len(log_weights)
        words, bits = random_words(key, (n,)), fraction_bits(n)
        with jax.enable_x64(True):
            below = draws_below(expected_copies(log_weights), random_fraction(words, bits), bits)
            return or_none(log_weights, from_counts_below(below))

    def conditional(
        self, key: RandomKey, log_weights: Float[Array, " n"], pinned: Int[Array, ""]
    ) -> Int32[Array, " n"]:
        """One draw is uniform on the pinned particle's interval, in whose stratum it is the only one."""
        n, bits = len(log_weights), fraction_bits(len(log_weights))
        turn_key, place_key, key = jax.random.split(key, 3)
        turn = jax.random.randint(turn_key, (), 0, n, jnp.int32)
        words, uniform = random_words(key, (n,)), double_uniforms(place_key, ())
        with jax.enable_x64(True):
            copies, here = expected_copies(jnp.roll(log_weights, turn)), (pinned + turn) % n
            stratum, place = point_within(copies, uniform, here)
            offsets = random_fraction(words, bits).at[stratum].set(place)
            ancestors = from_counts_below(draws_below(copies, offsets, bits))
            return or_none(log_weights, first_slot((ancestors - turn) % n, stratum, pinned))


def draws_below(
    copies: Int64[Array, " n"], offsets: Int64[Array, " n"], bits: int
) -> Int32[Array, " n"]:
    """How many of the points `k + offsets[k]` fall on particles 0..i."""
    whole, rest = whole_and_fraction(prefix_sum(copies), bits)
    # the strata below `whole` lie wholly under the edge; only one is cut by it
    return whole + (rest > offsets[jnp.minimum(whole, len(copies) - 1)]).astype(jnp.int32)
