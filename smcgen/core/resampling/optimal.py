"""Optimal resampling: keep what is heavy with its weight, thin out the rest."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Float64, Int32, Int64

from smcgen.core._types import RandomKey
from smcgen.core.resampling.fixed import fraction_bits, random_fraction, random_words
from smcgen.core.resampling.multinomial import scaled_weights
from smcgen.core.resampling.systematic import teeth_below
from smcgen.errors import InvalidArgument


@dataclass(frozen=True)
class Optimal:
    """From n weighted particles to `m = n / copies` of them, each then split into `copies` slots.

    With the threshold c that solves `sum_i min(W_i / c, 1) = m`, a particle heavier than c is kept with its weight;
    of the others `m - #{W_i > c}` are kept by systematic resampling, each with weight c. No particle is kept
    twice, weights stay unbiased, `E[W'_i] = W_i`, and of all such ways to have m particles this has the least
    `E[sum_i (W'_i - W_i)^2]`. If no more than m weights are positive all are kept, and nothing is lost.

    Slot k holds copy `k % copies` of its particle, so that a model may send each copy somewhere else: over a
    finite state space, each to one state, which is the discrete particle filter (`smcgen.core.finite.FiniteChain`).
    Weights come out uneven: a scheme of another kind (`Weighted`), with no conditional law. Use it with
    `ess_threshold=1`.

    Fearnhead and Clifford (2003), section 3; for texts, Lew et al. (2023).
    """

    copies: int = 1

    def weighted(
        self, key: RandomKey, log_weights: Float[Array, " n"]
    ) -> tuple[Int32[Array, " n"], Float[Array, " n"]]:
        n, m = len(log_weights), len(log_weights) // max(self.copies, 1)
        if self.copies < 1 or m * self.copies != n:
            raise InvalidArgument(
                "copies", self.copies, f"a divisor of the number of particles, {n}"
            )
        words = random_words(key, ())
        with jax.enable_x64(True):
            weights = scaled_weights(lax.stop_gradient(log_weights))
            kept, new = thinned(weights, m, random_fraction(words, fraction_bits(n)))
            slot = jnp.arange(n, dtype=jnp.int32) // self.copies
            log_new = jnp.log(new[slot] / (n * self.copies)).astype(log_weights.dtype)
            return kept[slot], log_new


def thinned(
    weights: Float64[Array, " n"], m: int, offset: Int64[Array, ""]
) -> tuple[Int32[Array, " m"], Float64[Array, " m"]]:
    """Which m particles are kept, in order, and their weights; weight zero where there is none to keep."""
    n, bits = len(weights), fraction_bits(len(weights))
    heaviest = jnp.sort(weights)[::-1]
    rest = jnp.cumsum(heaviest[::-1])[::-1][:m]  # of all but the k heaviest, k = 0..m-1
    threshold = rest / (m - jnp.arange(m))
    fits = heaviest[:m] <= threshold  # the heaviest of the rest is thinned
    before = jnp.sum(lax.cummax(fits.astype(jnp.int32)) == 0, dtype=jnp.int32)
    c = jnp.where(before < m, threshold[jnp.minimum(before, m - 1)], 0.0)
    sure = weights > c
    chance = jnp.where(sure | (c == 0), 0.0, jnp.minimum(weights / c, 1.0))
    upto = teeth_below(jnp.rint(chance * 2.0**bits).astype(jnp.int64), offset, bits)
    drawn = jnp.diff(upto, prepend=jnp.int32(0)) > 0
    keep = (sure | drawn) & (weights > 0)
    last = jnp.max(jnp.where(weights > 0, jnp.arange(n, dtype=jnp.int32), -1))
    (kept,) = jnp.nonzero(keep, size=m, fill_value=last)
    there = jnp.arange(m) < jnp.sum(keep)
    return kept.astype(jnp.int32), jnp.where(there, jnp.maximum(weights[kept], c), 0.0)
