"""What NumPy and JAX do differently in code that is written once for both: double precision, and loops."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcgen.core._types import RandomKey
from smcgen.core.place import beside
from smcgen.core.resampling.fixed import double_uniforms


def double(xp: Any) -> AbstractContextManager[Any]:
    """Double precision inside, where JAX would have single; NumPy has it anyway."""
    return jax.enable_x64(True) if xp is jnp else nullcontext()


def scan(step: Callable[[Any, Any], tuple[Any, Any]], start: Any, over: Any, xp: Any) -> Any:
    """`jax.lax.scan`, or a loop in NumPy: the final carry and the stacked outputs."""
    if xp is jnp:
        return jax.lax.scan(step, start, over)
    carry, out = start, []
    for i in range(len(over[0])):
        carry, new = step(carry, tuple(x[i] for x in over))
        out.append(new)
    return carry, np.stack(out)


def uniforms(key: RandomKey, rows: int, shape: tuple[int, ...], xp: Any) -> Any:
    """Uniforms strictly inside (0, 1) with 52 bits, shape (rows, *shape); a problem's come from its own key."""
    with beside(key):
        drawn = _uniforms_host(key, rows, shape) if xp is np else _uniforms(key, rows, shape)
    return np.asarray(drawn) if xp is np else drawn


def _uniforms(key: RandomKey, rows: int, shape: tuple[int, ...]) -> Any:
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if key.ndim == (0 if typed else 1):
        return double_uniforms(key, (rows, *shape))
    each = (rows // key.shape[0], *shape)
    drawn = jax.vmap(lambda k: double_uniforms(k, each))(key)
    with jax.enable_x64(True):
        return drawn.reshape(rows, *shape)


_uniforms_host = jax.jit(_uniforms, static_argnums=(1, 2))
