"""What identifies a model and its settings across processes, so that a checkpoint can refuse another."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any


def identity(value: Any) -> str:
    """A description of a value that holds no memory address."""
    if is_dataclass(value) and not isinstance(value, type):
        inner = ", ".join(f"{f.name}={identity(getattr(value, f.name))}" for f in fields(value))
        return f"{type(value).__qualname__}({inner})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {identity(v)}" for k, v in sorted(value.items())) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(identity(v) for v in value) + "]"
    config = getattr(value, "config", None)
    if config is not None and hasattr(value, "state_dict"):
        return f"{type(value).__qualname__}({config.to_json_string()})"
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value))}"
    if type(value).__repr__ is object.__repr__ or hasattr(value, "vocab_size"):
        return type(value).__qualname__
    return repr(value)
