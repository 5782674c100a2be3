"""Killing: a particle survives with probability W_i / max W, or is replaced by a multinomial draw."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from smcgen.core._types import RandomKey
from smcgen.core.resampling.base import double_uniforms, scaled_weights
from smcgen.core.resampling.multinomial import draw


@dataclass(frozen=True)
class Killing:
    """`A_i = i` with probability `W_i / max_j W_j`, else `A_i ~ W`, independently.

    With even weights almost nothing is copied. Del Moral (2004), section 1.4.4; Karppinen, Singh and Vihola
    (2023).
    """

    def __call__(self, key: RandomKey, log_weights: Float[Array, " n"]) -> Int32[Array, " n"]:
        n = log_weights.shape[0]
        uniforms = double_uniforms(key, (2, n))
        with jax.enable_x64(True):
            weights = scaled_weights(log_weights)
            survives = uniforms[0] * jnp.max(weights) < weights
            index = jnp.arange(n, dtype=jnp.int32)
            ancestors = jnp.where(survives, index, draw(uniforms[1], weights))
            return jnp.where(jnp.max(weights) > 0, ancestors, -1).astype(jnp.int32)
