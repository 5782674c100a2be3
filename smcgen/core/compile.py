"""Compiling a model's run once and using it again.

A model that is a registered pytree travels as data: another parameter value, the same program. Any
other object is part of the program, and is recognised by identity *and* by its attributes, so that a
changed attribute recompiles instead of silently running with the old value.

What is compiled is kept for the latest `_KEPT` programs. An object is referred to weakly, so it is freed as soon
as nobody else holds it, and its programs (with the arrays that are constants in them) at the next run.
"""

import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Callable
from functools import partial, wraps
from threading import Lock
from typing import Any

import jax
import numpy as np
from jax.core import eval_context
from jax.extend.core import get_opaque_trace_state

_PLAIN = (bool, int, float, str, bytes, type(None))
_KEPT = 64


def jitted(function: Callable, model: Any, static: tuple[int, ...] = ()) -> Callable:
    """`partial(function, model)`, jitted. Another call for the same program compiles nothing.

    Args:
        function: of a model and further arguments; lives as long as the module, it is a key of the cache.
        model: a registered pytree or any object.
        static: which of the further arguments are static, counted from 0.
    """
    program, arrays = split(model)
    key = (function, program)
    with _lock:
        for old in [old for old in _programs if old[1].gone]:
            del _programs[old]
        if key not in _programs:

            @wraps(function)
            def run(arrays: list[Any], *arguments: Any) -> Any:
                return function(program.model(arrays), *arguments)

            _programs[key] = jax.jit(run, static_argnums=tuple(i + 1 for i in static))
        _programs.move_to_end(key)
        while len(_programs) > _KEPT:
            _programs.popitem(last=False)
        return partial(_programs[key], arrays)


def inside_trace() -> bool:
    """Whether we are under `jit`, `grad`, `vmap` or another JAX transformation."""
    # asked anew each time: this module may be imported by a first call that is itself being traced
    with eval_context():
        outside = get_opaque_trace_state(convention="flax")
    return get_opaque_trace_state(convention="flax") != outside


class Frozen:
    """An object as a static argument: equal if it is the same object with the same attributes.

    It and what its attributes hold are referred to weakly: a key of a cache keeps nothing alive.
    """

    def __init__(self, value: Any):
        self._id = id(value)
        self._value = _reference(value)
        # containers are looked into; what has gone is equal to nothing, so an id used again does no harm
        leaves, structure = jax.tree.flatten(getattr(value, "__dict__", {}))
        self._structure = (_node_types(structure), structure)
        self._leaves = [_Leaf(x) for x in leaves]

    @property
    def value(self) -> Any:
        """The object; None if it is gone."""
        return self._value()

    def __hash__(self) -> int:
        return self._id

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frozen) or self.value is None or self.value is not other.value:
            return False
        return self._structure == other._structure and all(
            a.same(b) for a, b in zip(self._leaves, other._leaves, strict=True)
        )


class _Leaf:
    """What an attribute holds: plain data by value, anything else by identity and content."""

    def __init__(self, value: Any):
        self._plain, self._value = isinstance(value, _PLAIN), _reference(value)
        self._contents = _contents(value)

    def same(self, other: "_Leaf") -> bool:
        a, b = self._value(), other._value()
        if self._plain or other._plain:
            equal = type(a) is type(b) and (a is b or a == b)
            return self._plain and other._plain and equal
        return a is not None and a is b and self._contents == other._contents


def _reference(value: Any) -> Callable[[], Any]:
    """A weak reference; a strong one to what allows no other."""
    try:
        return weakref.ref(value)
    except TypeError:
        return lambda: value


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

    @property
    def gone(self) -> bool:
        """Whether this is the program of an object that is no more."""
        objects = (self._structure, *(leaf for _, leaf in self._rest))
        return any(isinstance(x, Frozen) and x.value is None for x in objects)

    def model(self, arrays: list[Any]) -> Any:
        """The model again."""
        if isinstance(self._structure, Frozen):
            return self._structure.value
        leaves = list(arrays)
        for place, leaf in self._rest:
            leaves.insert(place, leaf.value if isinstance(leaf, Frozen) else leaf)
        return jax.tree.unflatten(self._structure, leaves)


def split(model: Any) -> tuple[Program, list[Any]]:
    """A model as its program and its arrays."""
    leaves, structure = jax.tree.flatten(model)
    if jax.tree_util.treedef_is_leaf(structure):
        return Program(Frozen(model), ()), []
    is_data = [hasattr(x, "dtype") or isinstance(x, float) for x in leaves]
    # an object inside a pytree (a model in a wrapper) is known as one that stands alone is
    rest = tuple(
        (i, x if isinstance(x, _PLAIN) else Frozen(x))
        for i, (x, data) in enumerate(zip(leaves, is_data, strict=True))
        if not data
    )
    return Program(structure, rest), [x for x, data in zip(leaves, is_data, strict=True) if data]


_programs: OrderedDict[tuple[Callable, Program], Callable] = OrderedDict()
_lock = Lock()
