"""Keys of a run: whatever a person gives, as typed JAX keys."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcgen.errors import InvalidArgument


def keys_of(key: Any, problems: int | None) -> Any:
    """A typed key, or one per problem.

    Args:
        key: a seed, a typed key or the data of one (`jax.random.PRNGKey`); or one for each problem.
        problems: how many, or None.

    Raises:
        InvalidArgument: it is none of these.
    """
    key = _typed(key)
    if key.ndim == 0 and problems is not None:
        key = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(problems))
    if key.shape != (() if problems is None else (problems,)):
        allowed = (
            "one key" if problems is None else f"one key, or one for each of {problems} problems"
        )
        raise InvalidArgument("key", key.shape, allowed)
    return key


def _typed(key: Any) -> Any:
    allowed = "a JAX key or an integer seed"
    if isinstance(key, bool) or not (hasattr(key, "dtype") or isinstance(key, int)):
        raise InvalidArgument("key", key, allowed)
    try:
        if isinstance(key, int):
            return jax.random.key(key)
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            return key
        if jnp.issubdtype(key.dtype, jnp.integer) and key.ndim == 0:
            return jax.random.key(int(key) if isinstance(key, np.generic) else key)
        return jax.random.wrap_key_data(key)
    except (TypeError, ValueError, OverflowError) as error:
        found = key if isinstance(key, int) else f"{key.dtype}{list(key.shape)}"
        raise InvalidArgument("key", found, allowed) from error
