"""Stratified resampling: one independent draw in each of n strata."""

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
class Stratified:
    """`#{k: k + U_k < n (W_1 + ... + W_i)}` draws fall on the first i particles, U_k independent.

    Offspring counts lie within 2 of `n W_i` (Kitagawa 1996).
    """

    def __call__(self, key: RandomKey, log_weights: Float[Array, " n"]) -> Int32[Array, " n"]:
        uniforms = double_uniforms(key, log_weights.shape)
        with jax.enable_x64(True):
            return one_each(scaled_weights(log_weights), uniforms)

    def conditional(
        self, key: RandomKey, log_weights: Float[Array, " n"], pinned: Int[Array, ""]
    ) -> Int32[Array, " n"]:
        """One draw is uniform on the pinned particle's interval, in whose stratum it is the only one."""
        n = log_weights.shape[0]
        turn_key, key = jax.random.split(key)
        turn = jax.random.randint(turn_key, (), 0, n, jnp.int32)
        uniforms = double_uniforms(key, (n + 1,))
        with jax.enable_x64(True):
            weights, here = scaled_weights(jnp.roll(log_weights, turn)), (pinned + turn) % n
            stratum, place = point_within(weights, uniforms[n], here)
            drawn = one_each(weights, uniforms[:n].at[stratum].set(place))
            back = jnp.where(drawn >= 0, (drawn - turn) % n, -1)
            return first_slot(back, stratum, pinned)


def one_each(weights: Float64[Array, " n"], uniforms: Float64[Array, " n"]) -> Int32[Array, " n"]:
    """Draw k lies at `k + uniforms[k]` of the cumulated weights, which end at n."""
    n = len(weights)
    edge = cumulative(weights)
    whole = jnp.floor(edge)
    # the strata below `whole` lie wholly under the edge; only one is cut by it
    stratum = jnp.clip(whole.astype(jnp.int32), 0, n - 1)
    below = whole.astype(jnp.int32) + (edge - whole > uniforms[stratum])
    return from_counts_below(below, weights)
