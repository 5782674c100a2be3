"""Resampling: replace weighted particles by equally weighted ones.

A scheme draws ancestors `A_1..A_n` with `E[#{k: A_k = i}] = n W_i`. All schemes here are unbiased; they
differ in the variance of the offspring counts and in their cost:

| scheme | offspring of i | notes |
|---|---|---|
| multinomial | any | independent draws; largest variance; the one most proofs are about |
| stratified | within 2 of n W_i | one draw per stratum |
| systematic | floor or ceil of n W_i | one uniform for all; the default: cheapest, smallest variance |
| residual | at least floor(n W_i) | floor copies, the rest multinomial |
| ssp | floor or ceil of n W_i | pivotal sampling; consistent without any order of particles |
| killing | any | a particle survives with probability W_i / max W: few copies when weights are even |

Schemes act on one problem; `smcgen.core.select` maps them over problems. Inside, weights are
double precision even where JAX's default is single: in float32 a cumulative sum over 10^7 particles loses
whole particles, and `k + u` loses u above 2^23.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Float64, Int, Int32

from smcgen.core._types import RandomKey


@runtime_checkable
class Resampling(Protocol):
    """A resampling scheme.

    Args:
        key: a JAX key.
        log_weights: shape (n,), in nats, not necessarily normalised; -inf is weight zero.

    Returns:
        Ancestors, shape (n,), int32. Never an index of weight zero. All -1 if no weight is positive.
    """

    def __call__(self, key: RandomKey, log_weights: Float[Array, " n"]) -> Int32[Array, " n"]: ...


@runtime_checkable
class Weighted(Protocol):
    """A scheme whose ancestors come with weights of their own, `E[sum_k W'_k [A_k = i]] = W_i`."""

    def weighted(
        self, key: RandomKey, log_weights: Float[Array, " n"]
    ) -> tuple[Int32[Array, " n"], Float[Array, " n"]]:
        """Ancestors, and the log-weights that the particles have then, normalised."""
        ...


@runtime_checkable
class Transform(Protocol):
    """A scheme that draws nothing: each new particle is a mean of the old ones, and all have weight 1/n."""

    def plan(
        self, log_weights: Float[Array, " n"], points: Float[Array, "n d"]
    ) -> Float[Array, "n n"]:
        """Row i: the weights of old particles in new particle i, of sum 1; the columns have sums `n W_j`."""
        ...


Scheme = Resampling | Weighted | Transform


def weighted(
    scheme: Scheme, key: RandomKey, log_weights: Float[Array, " n"]
) -> tuple[Int32[Array, " n"], Float[Array, " n"]]:
    """Ancestors by any kind of scheme, and the weights they have then: even, for most schemes.

    A transform has no ancestors: -1.
    """
    n = len(log_weights)
    if isinstance(scheme, Weighted):
        return scheme.weighted(key, log_weights)
    even = jnp.full_like(log_weights, -jnp.log(n))
    if isinstance(scheme, Transform):
        return jnp.full(n, -1, jnp.int32), even
    return scheme(key, lax.stop_gradient(log_weights)), even


ConditionalLaw = Callable[[RandomKey, Float[Array, " n"], Int[Array, ""]], Int32[Array, " n"]]


@runtime_checkable
class Conditional(Protocol):
    """A scheme whose law, given that slot 0 gets the ancestor `pinned`, can be drawn from exactly.

    It is the law of the *rotated* scheme: particles turned by a uniform number of places before the
    draw (where the scheme's law depends on where the first one is), ancestors turned by another after
    it. Then slot 0 has marginal law W, and turning the particles turns the law, so that conditional
    SMC may keep its reference in slot 0 at all times. Uniformly permuting the ancestors alone gives the first
    property and not the second: with stratified resampling the reference would always be in the first
    stratum. Chopin and Singh (2015), section 5; Karppinen, Singh and Vihola (2023).
    """

    def conditional(
        self, key: RandomKey, log_weights: Float[Array, " n"], pinned: Int[Array, ""]
    ) -> Int32[Array, " n"]:
        """Ancestors with `ancestors[0] == pinned`; if `pinned` has weight zero, the others follow no law.

        All -1 if no weight is positive.
        """
        ...


def double_uniforms(key: RandomKey, shape: tuple[int, ...]) -> Float64[Array, "..."]:
    """Uniforms strictly inside (0, 1) with 52 random bits; call it outside `enable_x64`."""
    bits = jax.random.bits(key, (*shape, 2), jnp.uint32)
    with jax.enable_x64(True):
        high = (bits[..., 0] >> 6).astype(jnp.float64)
        low = (bits[..., 1] >> 6).astype(jnp.float64)
        # a 53rd bit would leave no room for the half, and round the largest uniform up to 1
        return (high * 67108864.0 + low + 0.5) * 2.0**-52


def scaled_weights(log_weights: Float[Array, " n"]) -> Float64[Array, " n"]:
    """`n W_i` in double precision; exactly 1 for equal weights. Call it inside `enable_x64`."""
    lw = log_weights.astype(jnp.float64)
    top = jnp.max(lw)
    w = jnp.exp(lw - jnp.where(jnp.isfinite(top), top, 0.0))
    return w * (lw.shape[0] / jnp.sum(w))


def cumulative(weights: Float64[Array, " n"]) -> Float64[Array, " n"]:
    """Cumulative sums that do not decrease and do not rise at a weight of zero.

    A parallel prefix sum adds in another order for each entry, so neighbours can differ by rounding
    alone; without the running maximum such a step would be an ancestor of weight zero.
    """
    return lax.cummax(jnp.where(weights > 0, jnp.cumsum(weights), 0.0))


def from_counts_below(below: Int[Array, " n"], weights: Float64[Array, " n"]) -> Int32[Array, " n"]:
    """Sorted ancestors from `below[i]`, the number of draws that fall on particles 0..i.

    Draws that rounding leaves over or short go to the last particle of positive weight.
    """
    n = below.shape[0]
    index = jnp.arange(n, dtype=jnp.int32)
    last = jnp.max(jnp.where(weights > 0, index, -1))
    below = lax.cummax(jnp.where(weights > 0, jnp.clip(below, 0, n), 0).astype(jnp.int32))
    edges = jnp.where(index >= last, n, below).astype(jnp.int32)
    starts = jnp.zeros(n + 1, jnp.int32).at[edges].add(jnp.int32(1))
    ancestors = jnp.cumsum(starts, dtype=jnp.int32)[:n]
    return jnp.where(last >= 0, ancestors, -1).astype(jnp.int32)


def from_counts(counts: Int[Array, " n"], weights: Float64[Array, " n"]) -> Int32[Array, " n"]:
    """Sorted ancestors from offspring counts that sum to n."""
    return from_counts_below(jnp.cumsum(counts.astype(jnp.int32), dtype=jnp.int32), weights)


def first_slot(
    ancestors: Int32[Array, " n"], slot: Int[Array, ""], pinned: Int[Array, ""]
) -> Int32[Array, " n"]:
    """Ancestors turned so that `slot`, one of those that hold `pinned`, comes first."""
    turned = jnp.roll(ancestors, -slot)
    return jnp.where(ancestors[0] >= 0, turned.at[0].set(pinned.astype(jnp.int32)), -1)


def a_copy(
    ancestors: Int32[Array, " n"], uniform: Float64[Array, ""], pinned: Int[Array, ""]
) -> Int[Array, ""]:
    """One of the slots of `pinned` among sorted ancestors, each with the same probability."""
    first, end = jnp.searchsorted(ancestors, jnp.stack([pinned, pinned + 1]).astype(jnp.int32))
    return jnp.clip(first + jnp.floor(uniform * (end - first)).astype(first.dtype), 0, end - 1)


def point_within(
    weights: Float64[Array, " n"], uniform: Float64[Array, ""], pinned: Int[Array, ""]
) -> tuple[Int[Array, ""], Float64[Array, ""]]:
    """A uniform point of the interval of length `weights[pinned]` in the cumulated weights: whole part, rest."""
    edge = cumulative(weights)
    left = jnp.where(pinned > 0, edge[pinned - 1], 0.0)
    point = left + uniform * (edge[pinned] - left)
    inside = jnp.clip(point, left, jnp.nextafter(edge[pinned], 0.0))
    whole = jnp.clip(jnp.floor(inside), 0, len(weights) - 1)
    return whole.astype(jnp.int32), inside - whole
