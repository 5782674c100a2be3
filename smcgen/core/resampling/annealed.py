"""Resampling by flattened weights, with the rest of the weight kept: nothing is lost, and fewer particles are."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32

from smcgen.core._types import RandomKey
from smcgen.core.resampling.base import Resampling
from smcgen.core.resampling.systematic import Systematic
from smcgen.core.weights import ess
from smcgen.errors import InvalidArgument

_HALVINGS = 30


@dataclass(frozen=True)
class Annealed:
    """Ancestors by `q_i ∝ W_i^beta`, weights after it `W'_k = W_{A_k} / (n q_{A_k}) ∝ W_{A_k}^(1 - beta)`.

    beta is the largest number in [0, 1] for which the effective sample size of q is at least `floor * n`. So that few
    particles are lost when the weights are very uneven, and `E[sum_k W'_k [A_k = i]] = W_i` holds as for any scheme:
    the target stays what it is. `W'` sums to 1 on average, not always.

    Liu and Chen (1998), section 3.2, weights to a power. Giannone et al. (2025) anneal the resampling of a particle
    filter on texts in this way without the correction, which is another target.
    """

    floor: float = 0.5
    scheme: Resampling = field(default=Systematic())

    def __post_init__(self) -> None:
        if not 0 < self.floor <= 1:
            raise InvalidArgument("floor", self.floor, "a number in (0, 1]")

    def weighted(
        self, key: RandomKey, log_weights: Float[Array, " n"]
    ) -> tuple[Int32[Array, " n"], Float[Array, " n"]]:
        n = len(log_weights)
        lw = lax.stop_gradient(log_weights)
        lw = lw - jax.nn.logsumexp(lw)
        possible = lw > -jnp.inf
        flattened = lambda beta: jnp.where(possible, beta * jnp.where(possible, lw, 0.0), -jnp.inf)
        # no power makes more particles count than are possible
        wanted = jnp.minimum(self.floor * n, jnp.sum(possible) * (1 - 1e-5))

        def halve(_, ends):
            low, high = ends
            middle = (low + high) / 2
            q = flattened(middle)
            enough = ess(q - jax.nn.logsumexp(q)) >= wanted
            return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

        low = lax.fori_loop(0, _HALVINGS, halve, (jnp.zeros_like(lw[0]), jnp.ones_like(lw[0])))[0]
        beta = jnp.where(ess(lw) >= wanted, 1.0, low)
        log_q = flattened(beta)
        log_q = log_q - jax.nn.logsumexp(log_q)
        ancestors = self.scheme(key, log_q)
        return ancestors, (lw - log_q)[ancestors] - jnp.log(n).astype(lw.dtype)
