"""Killing: a particle survives with probability W_i / max W, or is replaced by a multinomial draw."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Float64, Int, Int32, Int64

from smcgen.core._types import RandomKey
from smcgen.core.resampling.fixed import (
    count_upto,
    double_uniforms,
    expected_copies,
    fraction_bits,
    or_none,
    prefix_sum,
    random_words,
    roomy,
    sorted_points,
)
from smcgen.core.resampling.multinomial import draw
from smcgen.core.resampling.slots import first_slot, from_counts_below


@dataclass(frozen=True)
class Killing:
    """`A_i = i` with probability `W_i / max_j W_j`, else `A_i` is a draw by W, independently.

    With even weights almost nothing is copied. The draws are handed to the killed in ascending order. Del
    Moral (2004), section 1.4.4; Karppinen, Singh and Vihola (2023).
    """

    def __call__(self, key: RandomKey, log_weights: Float[Array, " n"]) -> Int32[Array, " n"]:
        n = len(log_weights)
        words = lax.optimization_barrier(random_words(key, (roomy(n + 1),)))
        with jax.enable_x64(True):
            copies = expected_copies(log_weights)
            killed = ~survives(copies, (words[:n, 0].astype(jnp.float64) + 0.5) * 2.0**-32)
            upto = prefix_sum(killed.astype(jnp.int32))
            points = sorted_points(words[:, 1], upto[-1], n << fraction_bits(n))
            drawn = from_counts_below(count_upto(points, prefix_sum(copies) - 1, n))
            index = jnp.arange(n, dtype=jnp.int32)
            # the k-th of the killed has the k-th draw
            return or_none(log_weights, jnp.where(killed, drawn[jnp.maximum(upto - 1, 0)], index))

    def conditional(
        self, key: RandomKey, log_weights: Float[Array, " n"], pinned: Int[Array, ""]
    ) -> Int32[Array, " n"]:
        """Slot j that gets b: `P(j) ∝ P(A_j = b) ∝ 1 - W_j / max W + [j = b] / max W`; the others as ever.

        Karppinen, Singh and Vihola (2023), algorithm 4.
        """
        n = len(log_weights)
        uniforms = double_uniforms(key, (2 * n + 1,))
        with jax.enable_x64(True):
            copies = expected_copies(log_weights)
            weights = copies.astype(jnp.float64)
            top = jnp.max(weights)
            index = jnp.arange(n, dtype=jnp.int32)
            alive = survives(copies, uniforms[:n])
            ancestors = jnp.where(alive, index, draw(uniforms[n : 2 * n], weights))
            chance = (1 - weights / top).at[pinned].add(jnp.sum(weights) / top)
            slot = draw(uniforms[2 * n :], chance)[0]
            return or_none(log_weights, first_slot(ancestors, slot, pinned))


def survives(copies: Int64[Array, " n"], uniforms: Float64[Array, " n"]) -> Bool[Array, " n"]:
    """Whether each particle stays; the heaviest one does."""
    weights = copies.astype(jnp.float64)
    return uniforms * jnp.max(weights) < weights
