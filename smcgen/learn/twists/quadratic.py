"""Quadratic log-twists: the family in which a Gaussian kernel stays Gaussian."""

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from smcgen.core._types import LogG
from smcgen.core.precision import full_precision
from smcgen.errors import ModelError
from smcgen.learn.twists.base import Learnable, Tilting, Values


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Quadratic(Tilting, Learnable):
    """`log psi_t(x) = c_t + h_t' x - x' P_t x / 2` for t = 0..T.

    With `N(m, S)` it gives `N(S' (S^-1 m + h), S')`, `S'^-1 = S^-1 + P`, and the mass

        log M(psi) = c + h' m - m' P m / 2 + g' S' g / 2 - log det(I + S P) / 2,    g = h - P m.

    Attributes:
        precision: P, shape (T + 1, d, d), symmetric; `S^-1 + P` must be positive definite.
        linear: h, shape (T + 1, d).
        offset: c, shape (T + 1,).
        diagonal: fit diagonal P alone: 2 d + 1 numbers per time rather than (d + 1)(d + 2) / 2.

    States of shape (n,) count as d = 1.
    """

    precision: Any
    linear: Any
    offset: Any
    diagonal: bool = field(default=False, metadata={"static": True})

    @classmethod
    def flat(cls, num_steps: int, dim: int, diagonal: bool = False) -> "Quadratic":
        """`psi = 1` at all times 0..num_steps."""
        times = num_steps + 1
        zeros = jnp.zeros((times, dim, dim)), jnp.zeros((times, dim)), jnp.zeros(times)
        return cls(*zeros, diagonal=diagonal)

    @full_precision()
    def __call__(self, t: Any, x: Float[Array, "n *event"]) -> LogG:
        x = self._columns(x)
        p, h = self.precision[t], self.linear[t]
        return self.offset[t] + x @ h - 0.5 * jnp.sum((x @ p) * x, axis=-1)

    @full_precision()
    def tilt(self, t: Any, law: dist.Distribution) -> tuple[dist.Distribution, Array]:
        mean, root = self._gaussian(law)
        p, h = self.precision[t], self.linear[t]
        # S' = L (I + L' P L)^-1 L': positive definite whatever rounding does, S^-1 never formed
        inner = jnp.linalg.cholesky(jnp.eye(p.shape[0]) + jnp.swapaxes(root, -1, -2) @ p @ root)
        half = solve_triangular(inner, jnp.swapaxes(root, -1, -2), lower=True)  # half' half = S'
        covariance = jnp.swapaxes(half, -1, -2) @ half
        g = h - mean @ p
        shift = jnp.einsum("...ij,...j->...i", covariance, g)
        log_det = jnp.sum(jnp.log(jnp.diagonal(inner, axis1=-2, axis2=-1)), axis=-1)
        log_mass = self.offset[t] + mean @ h - 0.5 * jnp.sum((mean @ p) * mean, axis=-1)
        log_mass += 0.5 * jnp.sum(g * shift, axis=-1) - log_det
        log_mass = jnp.broadcast_to(log_mass, law.batch_shape)
        if not law.event_shape:
            return dist.Normal((mean + shift)[..., 0], jnp.sqrt(covariance[..., 0, 0])), log_mass
        return dist.MultivariateNormal(mean + shift, covariance), log_mass

    @full_precision()
    def fitted(
        self, t: Any, x: Float[Array, "n *event"], log_values: Values, weights: Values
    ) -> "Quadratic":
        """Least squares, the quadratic part then made concave, so that every Gaussian can be tilted."""
        p, h, c = _least_squares(self._columns(x), log_values, weights, self.diagonal)
        return replace(
            self,
            precision=self.precision.at[t].set(p),
            linear=self.linear.at[t].set(h),
            offset=self.offset.at[t].set(c),
        )

    def least_particles(self) -> int:
        d = self.linear.shape[-1]
        return 2 * d + 1 if self.diagonal else (d + 1) * (d + 2) // 2

    def _columns(self, x: Any) -> Array:
        d = self.linear.shape[-1]
        columns = x[:, None] if jnp.ndim(x) == 1 else x
        if columns.ndim != 2 or columns.shape[1] != d:
            raise ModelError(
                f"this Quadratic twist is for states of {d} numbers; it met states of shape {jnp.shape(x)}"
            )
        return columns

    def _gaussian(self, law: dist.Distribution) -> tuple[Array, Array]:
        """Mean and a lower root of the covariance."""
        d, base = self.linear.shape[-1], law
        while isinstance(base, dist.Independent):
            base = base.base_dist
        if not isinstance(base, dist.Normal | dist.MultivariateNormal) or len(law.event_shape) > 1:
            raise ModelError(
                f"a Quadratic twist tilts Normal and MultivariateNormal kernels, not {type(law).__name__}; "
                "twist the weights alone with Lookahead"
            )
        if (law.event_shape or (1,)) != (d,):
            raise ModelError(
                f"this Quadratic twist is for states of {d} numbers; the kernel's have shape {law.event_shape}"
            )
        if isinstance(base, dist.MultivariateNormal):
            return jnp.asarray(base.loc), jnp.asarray(base.scale_tril)
        loc, scale = jnp.broadcast_arrays(jnp.asarray(base.loc), jnp.asarray(base.scale))
        if not law.event_shape:
            loc, scale = loc[..., None], scale[..., None]
        return loc, scale[..., None] * jnp.eye(d)


def _least_squares(
    x: Float[Array, "n d"], y: Values, weights: Values, diagonal: bool
) -> tuple[Float[Array, "d d"], Float[Array, " d"], Float[Array, ""]]:
    """P, h, c of the best `c + h' x - x' P x / 2` with P positive semidefinite."""
    d = x.shape[1]
    weights = weights / jnp.sum(weights)
    mean = weights @ x
    spread = (x - mean).T @ (weights[:, None] * (x - mean))
    spread += (1e-6 * jnp.trace(spread) / d + 1e-12) * jnp.eye(d)
    # in whitened coordinates the columns below are of one size and nearly orthogonal
    root = jnp.diag(jnp.sqrt(jnp.diag(spread))) if diagonal else jnp.linalg.cholesky(spread)
    z = solve_triangular(root, (x - mean).T, lower=True).T
    rows, columns = jnp.diag_indices(d) if diagonal else jnp.triu_indices(d)
    linear = jnp.concatenate([jnp.ones((len(x), 1)), z], axis=1)
    both = jnp.concatenate([linear, z[:, rows] * z[:, columns]], axis=1)
    top = _solve(both, y, weights)[d + 1 :]
    hessian = jnp.zeros((d, d)).at[rows, columns].add(-top).at[columns, rows].add(-top)
    values, vectors = jnp.linalg.eigh(hessian)
    p = (vectors * jnp.maximum(values, 0.0)) @ vectors.T
    rest = _solve(linear, y + 0.5 * jnp.sum((z @ p) * z, axis=1), weights)  # given that P
    inverse = solve_triangular(root, jnp.eye(d), lower=True)
    p = inverse.T @ p @ inverse
    slope = inverse.T @ rest[1:]
    h = slope + p @ mean
    return p, h, rest[0] - slope @ mean - 0.5 * mean @ p @ mean


def _solve(features: Float[Array, "n k"], y: Values, weights: Values) -> Float[Array, " k"]:
    """Weighted least squares with a whisper of a ridge, for directions in which particles agree."""
    gram = features.T @ (weights[:, None] * features)
    gram += 1e-7 * jnp.trace(gram) * jnp.eye(len(gram))
    return jax.scipy.linalg.solve(gram, features.T @ (weights * y), assume_a="pos")
