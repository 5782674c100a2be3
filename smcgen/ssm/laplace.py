"""Laplace's approximation of a Gaussian prior times a likelihood; exact if the log-likelihood is quadratic.

In whitened coordinates, x = m + L z with m and L L' the prior's mean and covariance,

    log p(z, y) = log g(m + L z) - |z|^2 / 2,   maximal at z*,   C = -d^2 log g / dz^2 at z*,
    p(x | y) = N(m + L z*, L (I + C)^{-1} L'),
    log p(y) = log g(m + L z*) - |z*|^2 / 2 - log det(I + C) / 2.

Where I + C is not positive definite it is taken as I. The prior's covariance is never inverted.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from smcgen.ssm.gaussian import gaussian, inverse_root, log_det, moments

_HALVINGS = 8


def posterior(prior: Any, log_g: Callable[[Any], Any], newton_steps: int) -> tuple[Any, Any]:
    """`p(x | y)` and `log p(y)`, exact or approximate; the prior's batch shape is kept.

    Args:
        prior: a Gaussian law of a scalar or a vector of d entries, batch shape (n,) or ().
        log_g: `log g(y | x)` of states of shape (k,) or (k, d).
        newton_steps: towards the mode.
    """
    scalar = not prior.event_shape
    mean, scale = moments(prior)

    def of_one(mean: Array, scale: Array) -> Any:
        def log_likelihood(z: Array) -> Array:
            x = mean + scale @ z
            return log_g(x[None, 0] if scalar else x[None])[0]

        z, root, value = _mode(log_likelihood, mean.shape[-1], newton_steps)
        return mean + scale @ z, scale @ root, value

    over = of_one if not prior.batch_shape else jax.vmap(of_one)
    loc, scale, log_normaliser = over(mean, scale)
    return gaussian(loc, scale, prior.event_shape), log_normaliser


def _mode(f: Callable[[Array], Array], d: int, steps: int) -> tuple[Array, Array, Array]:
    """z*, a lower triangular square root of (I + C)^{-1} there, and the log normaliser."""
    objective = lambda z: f(z) - 0.5 * jnp.dot(z, z)
    sizes = 0.5 ** jnp.arange(_HALVINGS + 1.0)

    def newton(_: Any, z: Array) -> Array:
        root = _root(f, z)
        direction = root @ (root.T @ (jax.grad(f)(z) - z))
        tried = jnp.concatenate([z[None], z + sizes[:, None] * direction])
        values = jax.vmap(objective)(tried)
        return tried[jnp.argmax(jnp.where(jnp.isnan(values), -jnp.inf, values))]

    z = newton(0, jnp.zeros(d))
    z = jax.lax.fori_loop(1, steps, newton, z) if steps > 1 else z
    root = _root(f, z)
    return z, root, objective(z) + log_det(root)


def _root(f: Callable[[Array], Array], z: Float[Array, " d"]) -> Float[Array, "d d"]:
    """Lower triangular R with R R' = (I + C)^{-1}; the identity if I + C is not positive definite."""
    identity = jnp.eye(z.shape[0])
    root = inverse_root(identity - jax.hessian(f)(z))
    return jnp.where(jnp.all(jnp.isfinite(root)), root, identity)
