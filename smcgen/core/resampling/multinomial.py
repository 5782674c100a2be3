"""Multinomial resampling: n independent draws."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float64, Int, Int32

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
from smcgen.core.resampling.slots import from_counts_below


@dataclass(frozen=True)
class Multinomial:
    """Ancestors are independent draws with `P(i) = W_i`, in ascending order."""

    def __call__(self, key: RandomKey, log_weights: Float[Array, " n"]) -> Int32[Array, " n"]:
        n = len(log_weights)
        words = random_bits(key, roomy(n + 1))
        with jax.enable_x64(True):
            edges = prefix_sum(expected_copies(log_weights))
            points = sorted_points(words, n, n << fraction_bits(n))
            return or_none(log_weights, from_counts_below(count_upto(points, edges - 1, n)))

    def conditional(
        self, key: RandomKey, log_weights: Float[Array, " n"], pinned: Int[Array, ""]
    ) -> Int32[Array, " n"]:
        """The others are independent draws still; in no order."""
        uniforms = double_uniforms(key, log_weights.shape)
        with jax.enable_x64(True):
            ancestors = draw(uniforms, scaled_weights(log_weights))
            return or_none(log_weights, ancestors.at[0].set(pinned.astype(jnp.int32)))


def scaled_weights(log_weights: Float[Array, " n"]) -> Float64[Array, " n"]:
    """`n W_i` in double precision; call it inside `enable_x64`."""
    lw = log_weights.astype(jnp.float64)
    top = jnp.max(lw)
    w = jnp.exp(lw - jnp.where(jnp.isfinite(top), top, 0.0))
    return w * (lw.shape[0] / jnp.sum(w))


def cumulative(weights: Float64[Array, " n"]) -> Float64[Array, " n"]:
    """Right edges of the particles' intervals: they never fall, and no step is at a weight of zero.

    Sums of a parallel prefix sum are rounded each on its own, and might do both.
    """
    return jax.lax.cummax(jnp.where(weights > 0, jnp.cumsum(weights), 0.0))


def draw(uniforms: Float64[Array, " m"], weights: Float64[Array, " n"]) -> Int32[Array, " m"]:
    """Index i with probability proportional to `weights[i]`, one per uniform, in their order, by inversion."""
    edges = cumulative(weights)
    index = jnp.arange(weights.shape[0], dtype=jnp.int32)
    last = jnp.max(jnp.where(weights > 0, index, -1))
    # side="right" passes over leading particles of weight zero even at u = 0
    found = jnp.searchsorted(edges, uniforms * edges[-1], side="right")
    return jnp.minimum(found.astype(jnp.int32), last).astype(jnp.int32)
