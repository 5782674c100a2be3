"""Frozen dataclasses that are pytrees: what models and filters are made of."""

from dataclasses import dataclass, field, fields
from typing import Any, dataclass_transform

import jax
from jax.core import Tracer


def static(**options: Any) -> Any:
    """A field that is part of the program, not a parameter: `dim: int = static(default=3)`.

    A new value compiles a new program. Options are those of `dataclasses.field`.
    """
    return field(metadata={"static": True}, **options)


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(field, static))
class Tree:
    """Every subclass is a frozen dataclass and a pytree; its annotated fields are the leaves, but for `static` ones.

    `__init__` and `__post_init__` run when a person makes an object, never when JAX rebuilds one.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        dataclass(frozen=True, eq=False, repr=False)(cls)
        every = fields(cls)  # pyright: ignore[reportArgumentType]
        names = tuple(f.name for f in every if not f.metadata.get("static"))
        fixed = tuple(f.name for f in every if f.metadata.get("static"))
        keys = tuple(jax.tree_util.GetAttrKey(name) for name in names)

        def flatten(tree: Any) -> tuple[tuple, tuple]:
            values = vars(tree)
            return tuple(values[k] for k in names), tuple(values[k] for k in fixed)

        def with_keys(tree: Any) -> tuple[tuple, tuple]:
            children, aux = flatten(tree)
            return tuple(zip(keys, children, strict=True)), aux

        def unflatten(aux: tuple, children: Any) -> Any:
            tree = object.__new__(cls)
            vars(tree).update(zip(fixed, aux, strict=True))
            vars(tree).update(zip(names, children, strict=True))
            return tree

        jax.tree_util.register_pytree_with_keys(cls, with_keys, unflatten, flatten)

    def __repr__(self) -> str:
        shown = (f"{f.name}={_brief(getattr(self, f.name, None))}" for f in fields(self))  # pyright: ignore[reportArgumentType]
        return f"{type(self).__name__}({', '.join(shown)})"


def _brief(value: Any) -> str:
    """An array of many numbers by its shape."""
    shape = getattr(value, "shape", None)
    if shape is None or isinstance(value, Tracer):
        return repr(value) if shape is None else f"traced{shape}"
    return f"{value.dtype}{shape}" if shape else f"{value.item():.6g}"
