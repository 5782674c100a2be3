"""Frozen dataclasses that are pytrees: what models and filters are made of."""

from dataclasses import dataclass, field, fields
from typing import Any, dataclass_transform

import jax


def static(**options: Any) -> Any:
    """A field that is part of the program, not a parameter: `dim: int = static(default=3)`. A new value compiles anew."""
    return field(metadata={"static": True}, **options)


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(field, static))
class Tree:
    """Every subclass is a frozen dataclass and a pytree; its annotated fields are the leaves, but for `static` ones.

    `__init__` and `__post_init__` run when a person makes an object, never when JAX rebuilds one.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        dataclass(frozen=True, eq=False, repr=False)(cls)
        static = {f.name for f in fields(cls) if f.metadata.get("static")}
        names = tuple(f.name for f in fields(cls) if f.name not in static)
        keys = tuple(jax.tree_util.GetAttrKey(name) for name in names)
        fixed = tuple(sorted(static))

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
    if shape is None or isinstance(value, jax.core.Tracer):
        return repr(value) if shape is None else f"traced{shape}"
    return f"{value.dtype}{shape}" if shape else f"{value.item():.6g}"
