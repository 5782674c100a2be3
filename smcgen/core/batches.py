"""Potentials computed for some particles at a time, where all at once would not fit into memory."""

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from smcgen.core._types import LogG, PyTree
from smcgen.core.markov import Markov
from smcgen.errors import ModelError


def in_batches(model: Any, size: int | None) -> Any:
    """The same model, with `log_g` computed for `size` particles at a time.

    Draws are those of the whole population, so a run gives what it would have given, to rounding.

    Raises:
        ModelError: the model moves and weights in one call, which only it can take apart.
    """
    if size is None:
        return model
    if not isinstance(model, Markov) or type(model).step is not Markov.step:
        raise ModelError(
            f"{type(model).__name__} moves and weights particles in one call: batch_size needs a smcgen.Markov model, "
            "whose log_g can be asked alone"
        )
    new, axis = copy(model), 0 if model.num_problems is None else 1
    vars(new)["log_g"] = partial(_by_batches, model.log_g, size, axis)
    return new


def _by_batches(
    log_g: Callable[..., LogG], size: int, axis: int, t: Any, x_prev: PyTree | None, x: PyTree
) -> LogG:
    n = jax.tree.leaves(x)[0].shape[axis]
    if n <= size:
        return log_g(t, x_prev, x)
    batches = n // size
    part = lambda a, start, stop: jax.lax.slice_in_dim(a, start, stop, axis=axis)

    def split(a: Any) -> Any:
        shape = (*a.shape[:axis], batches, size, *a.shape[axis + 1 :])
        return jnp.moveaxis(part(a, 0, batches * size).reshape(shape), axis, 0)

    # a loop, not a map over all: one batch is in memory at a time
    found = jax.lax.map(lambda pair: log_g(t, *pair), jax.tree.map(split, (x_prev, x)))
    whole = jnp.moveaxis(found, 0, axis).reshape(*found.shape[1 : 1 + axis], batches * size)
    if batches * size == n:
        return whole
    rest = log_g(t, *jax.tree.map(lambda a: part(a, batches * size, n), (x_prev, x)))
    return jnp.concatenate([whole, rest], axis=axis)
