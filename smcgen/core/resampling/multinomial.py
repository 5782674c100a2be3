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
    sorted_points,
)


@dataclass(frozen=True)
class Multinomial:
    """Ancestors are independent draws with `P(i) = W_i`, in ascending order."""

    def __call__(self, key: RandomKey, log_weights: Float[Array, " n"]) -> Int32[Array, " n"]:
        n = len(log_weights)
        words = jax.random.bits(key, (n + 1,), jnp.uint32)
        with jax.enable_x64(True):
            edges = prefix_sum(expected_copies(log_weights))
            points = sorted_points(words, n, n << fraction_bits(n))
            return or_none(log_weights, count_upto(edges, points, n))

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


def draw(uniforms: Float64[Array, " m"], weights: Float64[Array, " n"]) -> Int32[Array, " m"]:
    """Index i with probability proportional to `weights[i]`, one per uniform, in their order, by inversion."""
    # neighbours in a parallel prefix sum may differ by rounding: no step at a weight of zero
    edges = jax.lax.cummax(jnp.where(weights > 0, jnp.cumsum(weights), 0.0))
    index = jnp.arange(weights.shape[0], dtype=jnp.int32)
    last = jnp.max(jnp.where(weights > 0, index, -1))
    # side="right" passes over leading particles of weight zero even at u = 0
    found = jnp.searchsorted(edges, uniforms * edges[-1], side="right")
    return jnp.minimum(found.astype(jnp.int32), last).astype(jnp.int32)
