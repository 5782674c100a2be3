"""The genealogy in bounded memory.

Of all the particles of a run only those with living descendants matter: a tree of about `T + n log n` nodes
instead of `T n` (Jacob, Murray and Rubenthaler 2015). `Remembering` wraps a model and keeps that tree in its
state, so that paths can be had from long runs, also inside `jit` and `vmap`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from smcgen.core._types import Ancestors, LogG, PyTree, RandomKey
from smcgen.core.feynman_kac import FeynmanKac
from smcgen.core.resolve import resolve
from smcgen.core.result import SMCResult
from smcgen.errors import InvalidArgument, SmcgenError


class Tree(NamedTuple):
    """Nodes of the genealogy. A node is in use while it has children or is a leaf."""

    records: PyTree  # (capacity, ...) each
    parent: Any  # (capacity,), -1 for a particle of time 0
    children: Any  # (capacity,)
    used: Any  # (capacity,)
    leaves: Any  # (n,): the node of each particle
    overflow: Any  # whether the capacity did not suffice: paths are lost


class State(NamedTuple):
    """State of the wrapped model, and the tree."""

    inner: PyTree
    tree: Tree


def pruned(tree: Tree, ancestors: Any) -> Tree:
    """The tree after resampling: branches without living particles are cut."""
    leaves = tree.leaves[ancestors]
    held = jnp.zeros_like(tree.children).at[leaves].add(1)

    def dead(used: Any, children: Any) -> Any:
        return used & (children + held == 0)

    def cut(carry: Any) -> Any:
        used, children = carry
        gone = dead(used, children)
        parent = jnp.where(
            gone & (tree.parent >= 0), tree.parent, len(gone)
        )  # the last is out of range
        return used & ~gone, children.at[parent].add(-1, mode="drop")

    again = lambda carry: jnp.any(dead(*carry))
    used, children = jax.lax.while_loop(again, cut, (tree.used, tree.children))
    return tree._replace(used=used, children=children, leaves=leaves)


def grown(tree: Tree, records: PyTree) -> Tree:
    """The tree with a child for each leaf."""
    n = tree.leaves.shape[0]
    free = jnp.nonzero(~tree.used, size=n, fill_value=len(tree.used))[0].astype(jnp.int32)
    put = lambda x, value: x.at[free].set(value, mode="drop")
    return Tree(
        jax.tree.map(put, tree.records, records),
        put(tree.parent, tree.leaves),
        put(tree.children.at[tree.leaves].add(1, mode="drop"), 0),
        put(tree.used, True),
        free,
        tree.overflow | (free[-1] >= len(tree.used)),
    )


class Remembering(FeynmanKac[State]):
    """A model that remembers the paths of its living particles.

    Args:
        model: a traceable model, one problem.
        capacity: nodes of the tree; None: 4 times `T + n log n` and `n` more. Too few is an error of `paths`.

    Example:
        result = smcgen.smc(Remembering(model), key, 1000, keep="summary"); x = remembered_paths(result)
    """

    def __init__(self, model: Any, capacity: int | None = None):
        self.model, self.capacity = model, capacity
        self._inner = resolve(model)
        self.num_steps = self._inner.num_steps
        if not self._inner.traceable or self._inner.num_problems is not None:
            raise InvalidArgument("model", type(model).__name__, "a traceable model of one problem")

    def _record(self, state: PyTree) -> PyTree:
        return self._inner.record(state) if self._inner.record else state

    def init(self, key: RandomKey, n: int) -> tuple[State, LogG]:
        inner, log_g = self._inner.init(key, n)
        size = self.capacity or n + 4 * (self.num_steps + 1 + int(n * np.log(max(n, 2))))
        if size < 2 * n:
            raise InvalidArgument("capacity", size, f"at least 2 n = {2 * n}")
        records = self._record(inner)
        room = lambda x: jnp.zeros((size, *x.shape[1:]), x.dtype).at[:n].set(x)
        nodes = jnp.arange(size, dtype=jnp.int32)
        zeros = jnp.zeros(size, jnp.int32)
        tree = Tree(
            jax.tree.map(room, records), zeros - 1, zeros, nodes < n, nodes[:n], jnp.array(False)
        )
        return State(inner, tree), log_g

    def take(self, state: State, ancestors: Ancestors) -> State:
        a = jnp.asarray(ancestors)
        return State(self._inner.take(state.inner, a), pruned(state.tree, a))

    def step(self, key: RandomKey, t: Any, state: State) -> tuple[State, LogG]:
        inner, log_g = self._inner.step(key, t, state.inner)
        return State(inner, grown(state.tree, self._record(inner))), log_g


def remembered_paths(result: SMCResult) -> PyTree:
    """Paths `x_{0:T}` of the final particles of a `Remembering` model: leaves of shape (T + 1, n, ...).

    Raises:
        InvalidArgument: the result is of another model.
        SmcgenError: the tree's capacity did not suffice.
    """
    state = result.particles
    if not isinstance(state, State):
        raise InvalidArgument("result", type(state).__name__, "a run of a Remembering model")
    tree = state.tree
    if bool(tree.overflow):
        raise SmcgenError(
            f"the genealogy needed more than {len(tree.used)} nodes: give Remembering a larger capacity"
        )

    def back(node: Any, _: None) -> tuple[Any, Any]:
        return tree.parent[node], node

    _, nodes = jax.lax.scan(back, tree.leaves, None, result.num_steps + 1, reverse=True)
    return jax.tree.map(lambda x: x[nodes], tree.records)
