"""Bayes' rule for a Gaussian that is seen through a linear map with Gaussian noise: one step of a Kalman filter.

    x ~ N(m, L L'),   y | x ~ N(c + H x, R),   e = R^{-1/2} (y - c - H m),   B = R^{-1/2} H L,   S S' = (I + B'B)^{-1}
    p(x | y) = N(m + L S S' B' e, L S S' L')
    log p(y) = -|e|^2 / 2 + |S' B' e|^2 / 2 + log det S - log det R^{1/2} - k log(2 pi) / 2

H, c and R are the same for all particles, and often L: then so is all but e.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval
from jaxtyping import Array, Float

from smcgen.core._types import PyTree
from smcgen.ssm.gaussian import (
    cholesky,
    gaussian,
    inverse_root,
    is_gaussian,
    log_det,
    moments,
    solve_lower,
)


def posterior(
    prior: Any, shared_scale: Array | None, observe: Callable[[Any], Any], y: Any
) -> tuple[Any, Any] | None:
    """`p(x | y)` and `log p(y)`, where the law of y is provably linear and Gaussian in x; None where it is not.

    Args:
        prior: a Gaussian law of a scalar or a vector of d entries, batch shape (n,) or ().
        shared_scale: L, if it is the same for all; see `shared`.
        observe: the law of y given states of shape (k,) or (k, d).
        y: what was seen, in a vector perhaps with NaN where it was not.
    """
    m, own_scale = moments(prior)
    scale = own_scale if shared_scale is None else shared_scale
    origin = jnp.zeros((1, *prior.event_shape))
    law = observe(origin)
    if not is_gaussian(law) or jnp.shape(y) != law.event_shape:
        return None
    mean = lambda x: moments(observe(x))[0].reshape(-1)
    same = shared(lambda x: (jax.jacfwd(mean)(x), scale_of_one(observe(x))), origin)
    if same is None:
        return None
    slope, root = same
    return _update(prior, m, scale, mean(origin), slope.reshape(-1, m.shape[-1]), root, y)


def _update(
    prior: Any, m: Array, scale: Array, c: Array, h: Array, root: Float[Array, "k k"], y: Any
) -> tuple[Any, Any]:
    y = jnp.asarray(y).reshape(-1)
    gone = jnp.isnan(y)
    seen = jnp.where(gone, 0.0, 1.0)
    # what was not seen becomes independent, and exactly predicted
    noise = root @ root.T * seen[:, None] * seen + jnp.diag(1 - seen)
    root = cholesky(noise, shared=True)
    h = h * seen[:, None]
    innovation = jnp.where(gone, 0.0, y - c - m @ h.T)
    e = solve_lower(root, innovation[..., None], shared=True)[..., 0]
    b = solve_lower(root, h @ scale, shared=True)
    s = inverse_root(jnp.eye(m.shape[-1]) + jnp.swapaxes(b, -1, -2) @ b, shared=b.ndim == 2)
    explained = jnp.swapaxes(b @ s, -1, -2)  # S' B'
    u = jnp.einsum("...dk,...k->...d", explained, e)
    scale = scale @ s
    loc = m + jnp.einsum("...de,...e->...d", scale, u)
    constant = log_det(s) - log_det(root) - 0.5 * jnp.log(2 * jnp.pi) * jnp.sum(seen)
    log_normaliser = 0.5 * (jnp.sum(u * u, -1) - jnp.sum(e * e, -1)) + constant
    return gaussian(loc, scale, prior.event_shape), log_normaliser


def scale_of_one(law: Any) -> Float[Array, "d d"]:
    """The square root of the covariance of a single law."""
    scale = moments(law)[1]
    return scale.reshape(scale.shape[-2:])


def shared(function: Callable[[Any], Any], x: PyTree) -> Any:
    """`function(x)` if it is provably the same for every x, nothing in its program being computed from x; or None."""
    program = jax.make_jaxpr(function)(x)
    _, used = partial_eval.dce_jaxpr(program.jaxpr, [True] * len(program.out_avals))
    return None if any(used) else function(x)
