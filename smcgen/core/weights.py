"""Log-weights: effective sample size, and sums that keep their digits.

All functions act on the last axis and broadcast over leading ones.
"""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def ess(log_weights: Float[Array, "*b n"]) -> Float[Array, "*b"]:
    """Effective sample size `(sum w)^2 / sum w^2`, between 1 and n; 0 if all weights are zero."""
    top = jnp.max(log_weights, axis=-1, keepdims=True)
    w = jnp.exp(log_weights - jnp.where(jnp.isfinite(top), top, 0.0))
    total = jnp.sum(w, axis=-1)
    return jnp.where(total > 0, total**2 / jnp.maximum(jnp.sum(w * w, axis=-1), 1e-37), 0.0)


def compensated_add(
    total: Float[Array, "*b"], lost: Float[Array, "*b"], term: Float[Array, "*b"]
) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
    """Neumaier's step: add `term` to `total`, keeping in `lost` what rounding dropped.

    A thousand float32 increments of the log-evidence would otherwise lose the fourth digit. An
    infinite sum stays infinite.
    """
    new = total + term
    drop = jnp.where(jnp.abs(total) >= jnp.abs(term), (total - new) + term, (term - new) + total)
    return new, jnp.where(jnp.isfinite(new), lost + jax.lax.stop_gradient(drop), 0.0)


def precision_of(dtype: Any) -> Any:
    """At least single precision, and double only where JAX has it."""
    config: Any = jax.config  # whose options have no types
    return _known(dtype, config.jax_enable_x64)


@cache
def _known(dtype: Any, x64: bool) -> Any:
    return jnp.promote_types(jax.dtypes.canonicalize_dtype(dtype), jnp.float32)
