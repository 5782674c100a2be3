"""The two jitted kernels every run is made of: `select` (resample if due) and `reweight`.

They act on `(n,)` or `(problems, n)` arrays alike, are the same for traceable and host-driven models,
and move nothing but log-weights and ancestors between host and device.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import logsumexp
from jaxtyping import Array, Bool, Int

from smcgen.core import weights
from smcgen.core._types import Ancestors, LogG, LogWeights, Mask, PerProblem, RandomKey
from smcgen.core.resampling import Resampling
from smcgen.core.status import Status


@dataclass(frozen=True)
class Adaptive:
    """Resample when it is due: when `ESS < ess_threshold * n`; always at 1, never at 0.

    Wraps any scheme. A skipped resampling keeps the weights.
    """

    scheme: Resampling
    ess_threshold: float = 0.5

    def due(self, ess: PerProblem, n: int) -> Bool[Array, "*problems"]:
        """Whether a population of n with this effective sample size is resampled."""
        return (ess < self.ess_threshold * n) | (self.ess_threshold >= 1)


class Selection(NamedTuple):
    """What `select` decided."""

    ancestors: Ancestors
    log_weights: LogWeights
    resampled: Mask
    propagate: RandomKey


@partial(jax.jit, static_argnames="resampler")
def select(
    key: RandomKey,
    t: Int[Array, ""] | int,
    log_weights: LogWeights,
    ess: PerProblem,
    active: Mask,
    resampler: Adaptive,
) -> Selection:
    """Resample each active problem whose turn it is; split its key for the transition to come.

    The key of step t is `fold_in(key, t)`, split once into one for resampling and one for
    propagating, so a run can stop and go on at any step, and no key is used twice.
    """
    n = log_weights.shape[-1]

    def one(key, log_weights, ess, active):
        resample, propagate = jax.random.split(jax.random.fold_in(key, t))
        due = active & resampler.due(ess, n)
        drawn = resampler.scheme(resample, jax.lax.stop_gradient(log_weights))
        ancestors = jnp.where(due, drawn, jnp.arange(n, dtype=jnp.int32))
        flat = jnp.full_like(log_weights, -jnp.log(n))
        return Selection(ancestors, jnp.where(due, flat, log_weights), due, propagate)

    return (one if log_weights.ndim == 1 else jax.vmap(one))(key, log_weights, ess, active)


class Reweighting(NamedTuple):
    """What `reweight` computed; a failed problem keeps its old weights."""

    log_weights: LogWeights
    increment: PerProblem  # log of the estimated ratio Z_t / Z_{t-1}
    ess: PerProblem
    status: Int[Array, "*problems"]
    particle: Int[
        Array, "*problems"
    ]  # the first offender, if a potential is not finite; else the best


@jax.jit
def reweight(log_weights: LogWeights, log_g: LogG) -> Reweighting:
    """Multiply weights by potentials, normalise, and say what is wrong if anything is."""
    log_g = log_g.astype(log_weights.dtype)
    # a particle of weight zero is out, whatever its potential
    bad = (jnp.isnan(log_g) | (log_g == jnp.inf)) & (log_weights > -jnp.inf)
    log_g = jnp.where(bad | (log_weights == -jnp.inf), 0.0, log_g)
    # relative to the largest: in float32 a log G of -1e5 would leave two digits of the weights
    top = jnp.max(jnp.where(log_weights > -jnp.inf, log_g, -jnp.inf), axis=-1)
    broken, dead = jnp.any(bad, axis=-1), top == -jnp.inf
    top = jax.lax.stop_gradient(jnp.where(dead, 0.0, top))
    new = log_weights + (log_g - top[..., None])
    # where no weight is left, the gradient of logsumexp is NaN; that of a constant is zero
    total = logsumexp(jnp.where(dead[..., None], 0.0, new), axis=-1)
    increment = jnp.where(dead, -jnp.inf, top + total)
    failed = broken | dead
    status = jnp.where(
        broken, Status.NON_FINITE_POTENTIAL, jnp.where(dead, Status.ALL_WEIGHTS_ZERO, 0)
    )
    kept = jnp.where(failed[..., None], log_weights, new - total[..., None])
    particle = jnp.argmax(jnp.where(broken[..., None], bad, log_weights), axis=-1)
    return Reweighting(
        kept,
        jnp.where(broken, jnp.nan, increment),
        weights.ess(kept),
        status.astype(jnp.int32),
        particle.astype(jnp.int32),
    )
