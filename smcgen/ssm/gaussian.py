"""Gaussian laws with a covariance of their own for each particle, or with one that all share.

LAPACK factors one small matrix a call, a microsecond or more each; written out over the few rows of a state, the same
sums run over all particles at once. One matrix that is `shared` by all is left to LAPACK: that compiles sooner.
"""

from typing import Any

import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from smcgen.ssm.laws import dist


def cholesky(a: Float[Array, "*b d d"], shared: bool = False) -> Float[Array, "*b d d"]:
    """Lower triangular L with L L' = a; NaN where `a` is not positive definite."""
    if shared:
        return jnp.linalg.cholesky(a)
    columns, d = [], a.shape[-1]
    for i in range(d):
        column = a[..., :, 0] / jnp.sqrt(a[..., :1, 0])
        columns.append(jnp.pad(column, [(0, 0)] * (a.ndim - 2) + [(i, 0)]))
        below = column[..., 1:]
        a = a[..., 1:, 1:] - below[..., :, None] * below[..., None, :]
    return jnp.stack(columns, axis=-1)


def solve_lower(
    lower: Float[Array, "*b d d"], b: Float[Array, "*c d k"], shared: bool = False
) -> Float[Array, "*e d k"]:
    """L^{-1} b, by forward substitution."""
    if shared:
        return solve_triangular(lower, jnp.eye(lower.shape[0]), lower=True) @ b
    rows: list[Array] = []
    for i in range(lower.shape[-1]):
        known = sum(lower[..., i, k, None] * rows[k] for k in range(i))
        rows.append((b[..., i, :] - known) / lower[..., i, i, None])
    return jnp.stack(rows, axis=-2)


def inverse_root(a: Float[Array, "*b d d"], shared: bool = False) -> Float[Array, "*b d d"]:
    """Lower triangular R with R R' = a^{-1}; not finite where `a` is not positive definite."""
    # from the last row to the first: a = U U' with U upper triangular, and R = U^{-T} is lower
    upper = cholesky(a[..., ::-1, ::-1], shared)[..., ::-1, ::-1]
    return solve_lower(jnp.swapaxes(upper, -1, -2), jnp.eye(a.shape[-1]), shared)


def is_gaussian(law: Any) -> bool:
    """Whether mean and covariance are all there is to know of a scalar or a vector."""
    inner = _inner(law)
    vector = isinstance(inner, dist.MultivariateNormal | dist.LowRankMultivariateNormal)
    if not isinstance(law, dist.Distribution) or len(law.event_shape) > 1:
        return False
    return (vector and inner is law) or type(inner) is dist.Normal


def moments(law: Any) -> tuple[Float[Array, "*b d"], Float[Array, "*b d d"]]:
    """Mean, and a lower triangular square root of the covariance."""
    if isinstance(law, dist.MultivariateNormal):
        scale: Any = law.scale_tril
    elif isinstance(law, dist.LowRankMultivariateNormal):
        scale = jnp.linalg.cholesky(law.covariance_matrix)
    else:
        deviation = jnp.sqrt(law.variance)
        deviation = deviation[..., None] if not law.event_shape else deviation
        scale = deviation[..., None] * jnp.eye(deviation.shape[-1])
    mean: Any = law.mean if law.event_shape else law.mean[..., None]
    d = mean.shape[-1]
    mean = jnp.asarray(mean, scale.dtype)  # a mean of 0 may be an integer
    return mean, jnp.broadcast_to(scale, (*law.batch_shape, d, d))


def gaussian(
    loc: Float[Array, "*b d"], scale: Float[Array, "*e d d"], event_shape: tuple[int, ...]
) -> dist.Distribution:
    """N(loc, scale scale') of a scalar or a vector: of the law that `moments` took apart."""
    if not event_shape:
        return dist.Normal(loc[..., 0], scale[..., 0, 0])
    return Gaussian(loc, scale_tril=scale)


def log_det(lower: Float[Array, "*b d d"]) -> Float[Array, "*b"]:
    """Log-determinant of a triangular matrix of positive diagonal."""
    return jnp.sum(jnp.log(jnp.diagonal(lower, axis1=-2, axis2=-1)), -1)


def _inner(law: Any) -> Any:
    while isinstance(law, dist.Independent | dist.ExpandedDistribution):
        law = law.base_dist
    return law


class Gaussian(dist.MultivariateNormal):
    """`MultivariateNormal` with a `scale_tril` for each particle, or a single one."""

    def log_prob(self, value: Any) -> Any:
        """Log-density; shapes as those of NumPyro."""
        lower: Any = self.scale_tril
        shared = lower.size == lower.shape[-1] ** 2
        lower = lower.reshape(lower.shape[-2:]) if shared else lower
        z = solve_lower(lower, (value - self.loc)[..., None], shared)[..., 0]
        constant = 0.5 * jnp.log(2 * jnp.pi) * z.shape[-1]
        return -0.5 * jnp.sum(z * z, -1) - log_det(lower) - constant
