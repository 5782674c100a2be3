"""Stop-gradient resampling: derivatives that know that the ancestors were drawn by weight."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from smcgen.core._types import RandomKey
from smcgen.core.resampling.base import Resampling, Weighted, weighted


@dataclass(frozen=True)
class StopGradient:
    """Any scheme, with weights `w_a / stop_grad(w_a)` of the ancestors a for derivatives.

    Values are those of the scheme, bit for bit. Differentiated, `E[grad Z-hat] = grad Z` at every n: the choice of
    ancestors depends on the weights, and the quotient carries `grad log w_a` to the descendants of a (the
    score-function estimator, each choice credited with its own descendants only). `grad log Z-hat` is then the
    particle estimate of the score by Fisher's identity along the surviving paths, consistent and of a variance
    that grows with T^2; without the correction it is biased at every n. Scibior and Wood (2021).
    """

    scheme: Resampling | Weighted

    def weighted(
        self, key: RandomKey, log_weights: Float[Array, " n"]
    ) -> tuple[Int32[Array, " n"], Float[Array, " n"]]:
        ancestors, new = weighted(self.scheme, key, jax.lax.stop_gradient(log_weights))
        possible = jnp.isfinite(jax.lax.stop_gradient(log_weights))
        chosen = jnp.where(possible, log_weights, 0.0)[ancestors]
        return ancestors, new + (chosen - jax.lax.stop_gradient(chosen))
