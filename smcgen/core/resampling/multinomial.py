"""Multinomial resampling: n independent draws."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float64, Int, Int32

from smcgen.core._types import RandomKey
from smcgen.core.resampling.base import cumulative, double_uniforms, first_slot, scaled_weights


def draw(uniforms: Float64[Array, " m"], weights: Float64[Array, " n"]) -> Int32[Array, " m"]:
    """Index i with probability proportional to `weights[i]`, one per uniform, by inversion."""
    edges = cumulative(weights)
    index = jnp.arange(weights.shape[0], dtype=jnp.int32)
    last = jnp.max(jnp.where(weights > 0, index, -1))
    # side="right" passes over leading particles of weight zero even at u = 0
    found = jnp.searchsorted(edges, uniforms * edges[-1], side="right")
    return jnp.minimum(found.astype(jnp.int32), last).astype(jnp.int32)


@dataclass(frozen=True)
class Multinomial:
    """Ancestors independent with `P(A_k = i) = W_i`, in no order."""

    def __call__(self, key: RandomKey, log_weights: Float[Array, " n"]) -> Int32[Array, " n"]:
        uniforms = double_uniforms(key, log_weights.shape)
        with jax.enable_x64(True):
            return draw(uniforms, scaled_weights(log_weights))

    def conditional(
        self, key: RandomKey, log_weights: Float[Array, " n"], pinned: Int[Array, ""]
    ) -> Int32[Array, " n"]:
        """The other draws do not depend on the first."""
        return first_slot(self(key, log_weights), jnp.zeros((), jnp.int32), pinned)
