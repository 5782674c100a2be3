"""Known inputs of a model that change with time: covariates, controls, calendars."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from smcgen.core._types import PyTree
from smcgen.errors import InvalidArgument
from smcgen.ssm._tree import Tree


class Inputs(Tree):
    """Inputs `u_0, u_1, ...`, time leading: `self.u[t]` inside a model.

    A plain array works as well. Inputs know how long they are: filtering, simulating or forecasting beyond their end
    is an error, where an array would silently repeat its last row.

    Attributes:
        values: a pytree of arrays, shape (times, ...) each.
    """

    values: Any

    def __post_init__(self) -> None:
        values = jax.tree.map(jnp.asarray, self.values)
        lengths = {v.shape[:1] for v in jax.tree.leaves(values)}
        if len(lengths) != 1 or lengths == {()}:
            got = [v.shape for v in jax.tree.leaves(values)]
            raise InvalidArgument("values", got, "arrays with one common leading axis, time")
        vars(self)["values"] = values

    def __len__(self) -> int:
        return jax.tree.leaves(self.values)[0].shape[0]

    def __getitem__(self, t: Any) -> PyTree:
        return jax.tree.map(lambda u: u[t], self.values)


def check_inputs(model: Any, times: int, purpose: str) -> None:
    """Raise `InvalidArgument` if some inputs of a model end before time `times - 1`."""
    for name, inputs in _inputs(model):
        if len(inputs) < times:
            raise InvalidArgument(name, f"{len(inputs)} times", f"at least {times} times {purpose}")


def _inputs(model: Any) -> Iterator[tuple[str, Inputs]]:
    is_inputs = lambda x: isinstance(x, Inputs)
    for path, leaf in jax.tree_util.tree_leaves_with_path(model, is_leaf=is_inputs):
        if is_inputs(leaf):
            yield jax.tree_util.keystr(path).lstrip("."), leaf
