"""Compiling a model's run once and using it again.

A model that is a registered pytree travels as data: another parameter value, the same program. Any
other object is part of the program, and is recognised by identity *and* by its attributes, so that a
changed attribute recompiles instead of silently running with the old value.
"""

import hashlib
from typing import Any

import jax
import numpy as np
from jax.core import eval_context
from jax.extend.core import get_opaque_trace_state

_PLAIN = (bool, int, float, str, bytes, type(None))


def inside_trace() -> bool:
    """Whether we are under `jit`, `grad`, `vmap` or another JAX transformation."""
    # asked anew each time: this module may be imported by a first call that is itself being traced
    with eval_context():
        outside = get_opaque_trace_state(convention="flax")
    return get_opaque_trace_state(convention="flax") != outside


class Frozen:
    """An object as a static argument: equal if it is the same object with the same attributes."""

    def __init__(self, value: Any):
        self.value = value
        # containers are looked into; references are held, so no id is reused while this key lives
        leaves, structure = jax.tree.flatten(getattr(value, "__dict__", {}))
        self._structure = (_node_types(structure), structure)
        self._leaves = [(x, _contents(x)) for x in leaves]

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frozen) or self.value is not other.value:
            return False
        return self._structure == other._structure and all(
            (x is y or (type(x) is type(y) and isinstance(x, _PLAIN) and x == y)) and was == now
            for (x, was), (y, now) in zip(self._leaves, other._leaves, strict=True)
        )


def _contents(leaf: Any) -> Any:
    """What tells a numpy array that was written to from what it was; JAX arrays do not change."""
    if not isinstance(leaf, np.ndarray) or leaf.dtype.hasobject:
        return None
    return hashlib.blake2b(leaf.tobytes()).digest()


def _node_types(structure: Any) -> tuple:
    # JAX 0.10 calls the structures of two dataclasses equal if they have as many fields
    data = structure.node_data()
    return (data and data[0], *map(_node_types, structure.children()))


class Program:
    """The static part of a model; `split` gives it with the arrays that complete it."""

    def __init__(self, structure: Any, rest: tuple[tuple[int, Any], ...]):
        self._structure, self._rest = structure, rest
        self._types = None if isinstance(structure, Frozen) else _node_types(structure)

    def __hash__(self) -> int:
        return hash((self._structure, self._types, self._rest))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Program)
            and self._types == other._types
            and self._structure == other._structure
            and self._rest == other._rest
        )

    def model(self, arrays: list[Any]) -> Any:
        """The model again."""
        if isinstance(self._structure, Frozen):
            return self._structure.value
        leaves = list(arrays)
        for place, leaf in self._rest:
            leaves.insert(place, leaf)
        return jax.tree.unflatten(self._structure, leaves)


def split(model: Any) -> tuple[Program, list[Any]]:
    """A model as its program and its arrays."""
    leaves, structure = jax.tree.flatten(model)
    if jax.tree_util.treedef_is_leaf(structure):
        return Program(Frozen(model), ()), []
    is_data = [hasattr(x, "dtype") or isinstance(x, float) for x in leaves]
    rest = tuple(
        (i, x) for i, (x, data) in enumerate(zip(leaves, is_data, strict=True)) if not data
    )
    return Program(structure, rest), [x for x, data in zip(leaves, is_data, strict=True) if data]
