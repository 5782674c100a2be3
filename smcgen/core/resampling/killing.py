"""Killing: a particle survives with probability W_i / max W, or is replaced by a multinomial draw."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float64, Int, Int32

from smcgen.core._types import RandomKey
from smcgen.core.resampling.base import double_uniforms, first_slot, scaled_weights
from smcgen.core.resampling.multinomial import draw


@dataclass(frozen=True)
class Killing:
    """`A_i = i` with probability `W_i / max_j W_j`, else `A_i ~ W`, independently.

    With even weights almost nothing is copied. Del Moral (2004), section 1.4.4; Karppinen, Singh and Vihola
    (2023).
    """

    def __call__(self, key: RandomKey, log_weights: Float[Array, " n"]) -> Int32[Array, " n"]:
        uniforms = double_uniforms(key, (2, len(log_weights)))
        with jax.enable_x64(True):
            return survivors(scaled_weights(log_weights), uniforms)

    def conditional(
        self, key: RandomKey, log_weights: Float[Array, " n"], pinned: Int[Array, ""]
    ) -> Int32[Array, " n"]:
        """Slot j that gets b: `P(j) ∝ P(A_j = b) ∝ 1 - W_j / max W + [j = b] / max W`; the others as ever.

        Karppinen, Singh and Vihola (2023), algorithm 4.
        """
        n = len(log_weights)
        uniforms = double_uniforms(key, (2 * n + 1,))
        with jax.enable_x64(True):
            weights = scaled_weights(log_weights)
            top = jnp.maximum(jnp.max(weights), 1.0)  # the mean is 1, unless no weight is positive
            slot = draw(uniforms[2 * n :], (1 - weights / top).at[pinned].add(n / top))[0]
            ancestors = survivors(weights, uniforms[: 2 * n].reshape(2, n))
            return first_slot(ancestors, slot, pinned)


def survivors(weights: Float64[Array, " n"], uniforms: Float64[Array, "2 n"]) -> Int32[Array, " n"]:
    """Each particle, or what is drawn in its stead."""
    survives = uniforms[0] * jnp.max(weights) < weights
    index = jnp.arange(len(weights), dtype=jnp.int32)
    ancestors = jnp.where(survives, index, draw(uniforms[1], weights))
    return jnp.where(jnp.max(weights) > 0, ancestors, -1).astype(jnp.int32)
