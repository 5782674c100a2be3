"""Gaussian laws with a covariance of their own for each particle.

LAPACK factors one small matrix a call, a microsecond or more each; written out over the few rows of a state, the same
sums run over all particles at once.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from smcgen.ssm.laws import dist


def cholesky(a: Float[Array, "*b d d"]) -> Float[Array, "*b d d"]:
    """Lower triangular L with L L' = a; NaN where `a` is not positive definite."""
    columns, d = [], a.shape[-1]
    for i in range(d):
        column = a[..., :, 0] / jnp.sqrt(a[..., :1, 0])
        columns.append(jnp.pad(column, [(0, 0)] * (a.ndim - 2) + [(i, 0)]))
        below = column[..., 1:]
        a = a[..., 1:, 1:] - below[..., :, None] * below[..., None, :]
    return jnp.stack(columns, axis=-1)


def solve_lower(lower: Float[Array, "*b d d"], b: Float[Array, "*c d k"]) -> Float[Array, "*e d k"]:
    """L^{-1} b, by forward substitution."""
    rows: list[Array] = []
    for i in range(lower.shape[-1]):
        known = sum(lower[..., i, k, None] * rows[k] for k in range(i))
        rows.append((b[..., i, :] - known) / lower[..., i, i, None])
    return jnp.stack(rows, axis=-2)


class Gaussian(dist.MultivariateNormal):
    """`MultivariateNormal` with a `scale_tril` for each particle."""

    def log_prob(self, value: Any) -> Any:
        """Log-density; shapes as those of NumPyro."""
        lower: Any = self.scale_tril
        z = solve_lower(lower, (value - self.loc)[..., None])[..., 0]
        log_det = jnp.sum(jnp.log(jnp.diagonal(lower, axis1=-2, axis2=-1)), -1)
        constant = 0.5 * jnp.log(2 * jnp.pi) * z.shape[-1]
        return -0.5 * jnp.sum(z * z, -1) - log_det - constant
