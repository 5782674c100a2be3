"""Potentials computed for some particles at a time, where all at once would not fit into memory."""

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from smcgen.core._types import LogG, PyTree
from smcgen.core.markov import Markov
from smcgen.errors import ModelError


class Batches(NamedTuple):
    """How many particles are weighted at a time: `size` of each of `shares` devices."""

    size: int
    shares: int = 1


def in_batches(model: Any, batches: Batches | None) -> Any:
    """The same model, with `log_g` computed for some particles at a time.

    Draws are those of the whole population, so a run gives what it would have given, to rounding.

    Raises:
        ModelError: the model moves and weights in one call, which only it can take apart.
    """
    if batches is None:
        return model
    if not isinstance(model, Markov) or type(model).step is not Markov.step:
        raise ModelError(
            f"{type(model).__name__} moves and weights particles in one call: batch_size needs a smcgen.Markov model, "
            "whose log_g can be asked alone"
        )
    new, axis = copy(model), 0 if model.num_problems is None else 1
    vars(new)["log_g"] = partial(_by_batches, model.log_g, batches, axis)
    return new


def _by_batches(
    log_g: Callable[..., LogG],
    batches: Batches,
    axis: int,
    t: Any,
    x_prev: PyTree | None,
    x: PyTree,
) -> LogG:
    n, (size, shares) = jax.tree.leaves(x)[0].shape[axis], batches
    own = n // shares  # particles of a device; each batch has the same places of every share
    if own <= size:
        return log_g(t, x_prev, x)
    number = own // size
    whole = number * size

    def part(a: Any, start: int, stop: int, *cut: int) -> Any:
        shared = a.reshape(*a.shape[:axis], shares, own, *a.shape[axis + 1 :])
        places = jax.lax.slice_in_dim(shared, start, stop, axis=axis + 1)
        return places.reshape(*a.shape[:axis], shares, *cut, *a.shape[axis + 1 :])

    def joined(a: Any, axis: int) -> Any:
        return a.reshape(*a.shape[:axis], -1, *a.shape[axis + 2 :])

    def split(a: Any) -> Any:
        return joined(jnp.moveaxis(part(a, 0, whole, number, size), axis + 1, 0), axis + 1)

    # a loop, not a map over all: one batch is in memory at a time
    found = jax.lax.map(lambda pair: log_g(t, *pair), jax.tree.map(split, (x_prev, x)))
    found = jnp.moveaxis(found.reshape(*found.shape[:-1], shares, size), 0, axis + 1)
    found = joined(found, axis + 1)
    if whole < own:
        last = lambda a: joined(part(a, whole, own, own - whole), axis)
        rest = log_g(t, *jax.tree.map(last, (x_prev, x)))
        rest = rest.reshape(*rest.shape[:-1], shares, own - whole)
        found = jnp.concatenate([found, rest], axis=axis + 1)
    return joined(found, axis)
