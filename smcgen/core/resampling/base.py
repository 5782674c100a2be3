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

Schemes act on one problem; `smcgen.core.select` maps them over problems. Inside they count in integers
(`fixed.py`), so that nothing is lost at 10^7 particles where JAX's default is single precision.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Int32

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
