"""The two jitted kernels every run is made of: `select` (resample if due) and `reweight`.

They act on `(n,)` or `(problems, n)` arrays alike, are the same for traceable and host-driven models,
and move nothing but log-weights and ancestors between host and device.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import logsumexp
from jaxtyping import Array, Float, Int

from smcgen.core import weights
from smcgen.core._types import Ancestors, LogG, LogWeights, Mask, PerProblem, RandomKey
from smcgen.core.resampling import Adaptive, Multinomial, Transform, conditional, weighted
from smcgen.core.resampling.fixed import double_uniforms
from smcgen.core.resampling.multinomial import draw, scaled_weights
from smcgen.core.status import Status


class Selection(NamedTuple):
    """What `select` decided."""

    ancestors: Ancestors
    log_weights: LogWeights
    resampled: Mask
    same_parent: (
        PerProblem  # sum_a (weight that a's children have now)^2; 0 where there was no resampling
    )
    propagate: RandomKey


def _step_keys(key: RandomKey, t: Any) -> Any:
    """The keys of step t: for resampling, for moving, and for the reference's ancestor."""
    return jax.random.split(jax.random.fold_in(key, t), 3)


@partial(jax.jit, static_argnames="resampler")
def select(
    key: RandomKey,
    t: Int[Array, ""] | int,
    log_weights: LogWeights,
    ess: PerProblem,
    active: Mask,
    resampler: Adaptive,
    pinned: Int[Array, "*problems"] | None = None,
) -> Selection:
    """Resample each active problem whose turn it is; split its key for the transition to come.

    The key of step t is `fold_in(key, t)`, split once into one for each purpose, so a run can stop and go
    on at any step, and no key is used twice. `pinned` is the ancestor that particle 0 must get (conditional SMC).
    """
    n, mapped = log_weights.shape[-1], log_weights.ndim > 1
    due = active & resampler.due(t, ess, n)
    split = partial(_step_keys, t=t)
    keys = (jax.vmap(split) if mapped else split)(key)

    def one(key: Any, log_weights: Any, ess: Any, due: Any, pinned: Any) -> tuple[Any, Any, Any]:
        if pinned is None:
            drawn, new = weighted(resampler.scheme, key, log_weights)
        else:
            fixed = jax.lax.stop_gradient(log_weights)
            drawn = conditional(resampler.scheme)(key, fixed, pinned)
            new = jnp.full_like(log_weights, -jnp.log(n))
        stay = jnp.arange(n, dtype=jnp.int32)
        shared = jnp.where(due, same_parent(resampler.scheme, ess, drawn, new), 0.0)
        return jnp.where(due, drawn, stay), jnp.where(due, new, log_weights), shared

    def draw() -> tuple[Any, Any, Any]:
        run = jax.vmap(one) if mapped else one
        return run(keys[..., 0], log_weights, ess, due, pinned)

    def keep() -> tuple[Any, Any, Any]:
        stay = jnp.broadcast_to(jnp.arange(n, dtype=jnp.int32), log_weights.shape)
        return stay, log_weights, jnp.zeros_like(log_weights[..., 0])

    # most steps of an adaptive run do not resample, and then need no draw
    ancestors, new, shared = jax.lax.cond(jnp.any(due), draw, keep)
    return Selection(ancestors, new, due, shared, keys[..., 1])


def same_parent(
    scheme: Any,
    ess: Float[Array, ""],
    ancestors: Int[Array, " n"],
    new: Float[Array, " n"],
) -> Float[Array, ""]:
    """How probable it is that two particles drawn by their new weights have the same parent.

    `sum_a (sum_{k: A_k = a} W'_k)^2`; for multinomial resampling its mean, `1/n + (1 - 1/n) sum_a W_a^2`.
    """
    if isinstance(scheme, Transform):
        return jnp.asarray(jnp.nan, new.dtype)
    ess, new = jax.lax.stop_gradient((ess, new))
    if isinstance(scheme, Multinomial):
        n = len(ancestors)
        return 1 / n + (1 - 1 / n) / jnp.maximum(ess, 1.0)
    children = jnp.zeros_like(new).at[ancestors].add(jnp.exp(new))
    return jnp.sum(children**2)


@jax.jit
def ancestor_of_reference(
    key: RandomKey, t: Int[Array, ""] | int, log_weights: LogWeights, log_continue: LogG
) -> Int[Array, "*problems"]:
    """Ancestor sampling: a past for the reference's future, `P(i) ∝ W_{t-1}^i exp(log_continue_i)`.

    Lindsten, Jordan and Schön (2014). Drawn before the other ancestors, given which they have the
    scheme's conditional law; so any scheme with such a law will do.
    """

    def one(key: Any, log_weights: Any, log_continue: Any) -> Any:
        uniforms = double_uniforms(_step_keys(key, t)[2], (1,))
        total = jnp.where(log_weights > -jnp.inf, log_weights + log_continue, -jnp.inf)
        with jax.enable_x64(True):
            return draw(uniforms, scaled_weights(total))[0]

    return (one if log_weights.ndim == 1 else jax.vmap(one))(key, log_weights, log_continue)


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
