"""From counts and edges to ancestors, one in each slot."""

import jax.numpy as jnp
from jaxtyping import Array, Float64, Int, Int32, Int64

from smcgen.core.resampling.fixed import fraction_bits, prefix_sum, roomy


def from_counts_below(below: Int[Array, " n"]) -> Int32[Array, " n"]:
    """Sorted ancestors from `below[i]`, the number of draws that fall on particles 0..i; in order, ends at n."""
    n = len(below)
    edges = jnp.clip(below, 0, n).astype(jnp.int32)
    starts = jnp.zeros(roomy(n + 1), jnp.int32).at[edges].add(1, indices_are_sorted=True)
    return prefix_sum(starts)[:n]


def from_counts(counts: Int32[Array, " n"]) -> Int32[Array, " n"]:
    """Sorted ancestors from offspring counts that sum to n."""
    return from_counts_below(prefix_sum(counts))


def first_slot(
    ancestors: Int32[Array, " n"], slot: Int[Array, ""], pinned: Int[Array, ""]
) -> Int32[Array, " n"]:
    """Ancestors turned so that `slot`, one of those that hold `pinned`, comes first."""
    return jnp.roll(ancestors, -slot).at[0].set(pinned.astype(jnp.int32))


def a_copy(
    ancestors: Int32[Array, " n"], uniform: Float64[Array, ""], pinned: Int[Array, ""]
) -> Int[Array, ""]:
    """One of the slots of `pinned` among sorted ancestors, each with the same probability."""
    first, end = jnp.searchsorted(ancestors, jnp.stack([pinned, pinned + 1]).astype(jnp.int32))
    return jnp.clip(first + jnp.floor(uniform * (end - first)).astype(first.dtype), 0, end - 1)


def point_within(
    copies: Int64[Array, " n"], uniform: Float64[Array, ""], pinned: Int[Array, ""]
) -> tuple[Int64[Array, ""], Int64[Array, ""]]:
    """A uniform point of the particle's interval among the cumulated copies: whole part, fraction."""
    n = len(copies)
    bits, size = fraction_bits(n), copies[pinned]
    left = prefix_sum(copies)[pinned] - size
    offset = jnp.floor(uniform * size.astype(jnp.float64)).astype(jnp.int64)
    point = jnp.minimum(left + jnp.clip(offset, 0, jnp.maximum(size - 1, 0)), (n << bits) - 1)
    return point >> bits, point & ((1 << bits) - 1)


def whole_and_fraction(
    x: Int64[Array, " n"], bits: int
) -> tuple[Int32[Array, " n"], Int64[Array, " n"]]:
    """Integer part and the rest, in units of 2^-bits."""
    return (x >> bits).astype(jnp.int32), x & ((1 << bits) - 1)
