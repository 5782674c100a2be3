"""Reference paths: what conditional SMC is conditioned on.

A path has the record of each time 0..T of one particle (of each problem): a pytree of arrays with time
leading, or a list of records for a model that is not traceable, which may end early.
"""

from typing import Any

import jax
import jax.numpy as jnp

from smcgen.core._types import PyTree


def at(path: PyTree, t: Any) -> PyTree:
    """The path's record of time t. A list that ended early stays as it ended."""
    if isinstance(path, list):
        return path[min(int(t), len(path) - 1)]
    return jax.tree.map(lambda x: x[t], path)


def pinned(population: PyTree, reference: PyTree, problems: bool = False) -> PyTree:
    """A population (a pytree of arrays) whose particle 0 is the reference."""
    place = (slice(None), 0) if problems else (0,)

    def put(x: Any, value: Any) -> Any:
        return jnp.asarray(x).at[place].set(jnp.asarray(value, jnp.asarray(x).dtype))

    return jax.tree.map(put, population, reference)


def repeated(reference: PyTree, n: int, problems: bool = False) -> PyTree:
    """A reference as a population of n copies."""
    axis = 1 if problems else 0

    def spread(x: Any) -> Any:
        x = jnp.expand_dims(jnp.asarray(x), axis)
        return jnp.broadcast_to(x, (*x.shape[:axis], n, *x.shape[axis + 1 :]))

    return jax.tree.map(spread, reference)
