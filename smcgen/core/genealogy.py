"""Who descends from whom: ancestral lines, and what particles were along them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from smcgen.core._types import PyTree


def lineage_of(
    final: Int[Array, "..."], ancestors: Int[Array, "steps ..."]
) -> Int[Array, "times ..."]:
    """Indices at t = 0..T of the ancestors of final particles, one (shape of a problem's axes) or all of them."""
    one = final.ndim < ancestors.ndim - 1

    def back(index: Array, a: Array) -> tuple[Array, Array]:
        place = index[..., None] if one else index
        found = jnp.take_along_axis(a, place, axis=-1)
        index = found[..., 0] if one else found
        return index, index

    _, earlier = jax.lax.scan(back, final, ancestors, reverse=True)
    return jnp.concatenate([earlier, final[None]])


def along(history: PyTree, lineage: Any, shape: tuple[int, ...]) -> PyTree:
    """Records along ancestral lines.

    Args:
        history: records of every population, particle axis after those of time and problems; or a list over time.
        lineage: an index for each time, of one particle (of each problem) or of all.
        shape: that of a population, (*problems, n).
    """
    problems = np.indices((*shape[:-1], 1))[: len(shape) - 1]  # (problems, 1) each
    if lineage.ndim == len(shape):  # one particle of each problem
        problems = problems[..., 0]
    if isinstance(history, list):
        return [
            jax.tree.map(lambda x, a=a: x[(*problems, a)], gridded(x, shape))
            for x, a in zip(history, np.asarray(lineage), strict=True)
        ]
    time = jnp.arange(len(lineage)).reshape(-1, *(1,) * (lineage.ndim - 1))
    return jax.tree.map(lambda x: jnp.asarray(x)[(time, *problems, lineage)], history)


def gridded(records: PyTree, shape: tuple[int, ...]) -> PyTree:
    """Records as NumPy arrays with the axes of `shape` leading: rows of all problems are told apart."""

    def grid(values: Any) -> np.ndarray:
        values = np.asarray(values)
        if values.shape[: len(shape)] == shape:
            return values
        return values.reshape(*shape, *values.shape[1:])

    return jax.tree.map(grid, records)
