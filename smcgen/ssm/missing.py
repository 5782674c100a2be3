"""Densities of observations of which some are missing (NaN): the missing ones are integrated out, exactly.

A univariate observation that is missing has log-density 0. Of a vector, a row that is missing entirely has 0 too; one
that is missing in part has the density of what was seen, which is known for independent components (`to_event`)
and for Gaussian vectors.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from smcgen.core._types import LogG, PyTree
from smcgen.ssm.laws import Law, dist, log_density

Missing = Literal["none", "rows", "entries"]  # what a series misses at most, from least to most
_GAUSSIAN = (dist.MultivariateNormal, dist.LowRankMultivariateNormal)


def log_density_seen(law: Law, y: PyTree, n: int, what: str, missing: Missing) -> LogG:
    """Log-density of what was seen of `y`, for each particle."""
    return log_density(law, y, n, what, lambda one, y: _seen(one, y, missing))


def marginalises(law: dist.Distribution) -> bool:
    """Whether a vector may be missing in part."""
    if isinstance(law, dist.Independent):
        return marginalises(law.base_dist)
    return not law.event_shape or isinstance(law, _GAUSSIAN)


def unseen(y: PyTree) -> Bool[Array, ""]:
    """Whether all of the observation of one time is missing."""
    return jnp.stack([jnp.isnan(a).all() for a in jax.tree.leaves(y)]).all()


def _seen(law: Any, y: Any, missing: Missing) -> Any:
    y = jnp.asarray(y)
    if missing == "none" or not jnp.issubdtype(y.dtype, jnp.floating):
        return law.log_prob(y.astype(jnp.int32) if law.is_discrete else y)
    if missing == "entries" and isinstance(law, dist.Independent):
        seen = _seen(law.base_dist, y, missing)
        return jnp.sum(seen, axis=tuple(range(-law.reinterpreted_batch_ndims, 0)))
    if missing == "entries" and isinstance(law, _GAUSSIAN):
        return _gaussian(law, y)
    event = tuple(range(-law.event_dim, 0))
    gone = jnp.isnan(y).all(event)
    # where nothing was seen the density is taken at a point where it and its gradient are finite
    everywhere = jnp.expand_dims(gone, event)
    value = jnp.where(everywhere, law.support.feasible_like(y), y)
    log_prob = law.log_prob(value.astype(jnp.int32) if law.is_discrete else value)
    # a vector that is missing in part is a failure, whatever the law makes of NaN
    log_prob = jnp.where(jnp.isnan(value).any(event), jnp.nan, log_prob)
    return jnp.where(gone, 0.0, log_prob)


def _gaussian(law: Any, y: Array) -> Any:
    """The marginal of the entries that were seen: the others become independent, and exactly predicted."""
    gone = jnp.isnan(y)
    keep = jnp.where(gone, 0.0, 1.0)
    both = keep[..., :, None] * keep[..., None, :]
    covariance = law.covariance_matrix * both + jnp.eye(y.shape[-1]) * (1 - keep)[..., None, :]
    at = jnp.where(gone, 0.0, y - law.loc)
    marginal = dist.MultivariateNormal(covariance_matrix=covariance)
    return marginal.log_prob(at) + 0.5 * jnp.log(2 * jnp.pi) * jnp.sum(gone, -1)
