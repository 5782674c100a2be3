"""What identifies a model and its settings across processes, so that a checkpoint can refuse another.

A function is its code, constants, defaults, what it closes over and the globals that it reads (data by value, its
own program's functions by their code and globals in turn, modules and library objects by name); a model is its
configuration and weights; an array is its content; any other object is its class and attributes.
"""

import functools
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Mapping, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from smcgen.text._globals import globals_read, is_library

_NUMBERS = 256  # of each parameter that name a model's weights
_DEPTH = 8  # functions called by functions by name, further ones count by their code alone
_LONG = 1000  # characters of a description, longer ones are hashed
# what may differ between two loads of the same weights
_VOLATILE = (
    "_name_or_path",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "_attn_implementation",
    "architectures",  # written into the configuration by the first save; the class is named instead
)


def identity(value: Any) -> str:
    """A description of a value that holds no memory address."""
    return _Describer()(value)


def weights_hash(model: Any) -> str:
    """A hash of a torch model's class, configuration and of numbers from every parameter."""
    config: Any = getattr(model, "config", None)
    known = config.to_dict() if hasattr(config, "to_dict") else {}
    known = {k: v for k, v in known.items() if k not in _VOLATILE}
    known["architectures"] = type(model).__name__
    digest = hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode())
    for parameter in model.parameters():
        if parameter.is_meta:  # lies somewhere else
            continue
        flat = parameter.detach().reshape(-1)
        some = flat[:: max(1, -(-flat.numel() // _NUMBERS))]
        digest.update(some.double().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


class _Describer:
    """One description: objects met again are not described again, and cycles end."""

    def __init__(self) -> None:
        self._done: dict[int, str] = {}
        self._open: list[int] = []
        self._met: list[Any] = []  # kept, so that no id is used twice
        self._depth = 0  # of functions whose globals are being described

    def __call__(self, value: Any) -> str:
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            return repr(value)
        if id(value) in self._open:
            return f"<{len(self._open) - self._open.index(id(value))} up>"
        if id(value) not in self._done:
            self._met.append(value)
            self._open.append(id(value))
            text = self._describe(value)
            self._open.pop()
            self._done[id(value)] = text if len(text) <= _LONG else f"{_name(value)}#{_hash(text)}"
        return self._done[id(value)]

    def _describe(self, value: Any) -> str:
        torch: Any = sys.modules.get("torch")  # not imported: its objects are there only if it is
        jax: Any = sys.modules.get("jax")
        if isinstance(value, type):
            return f"{value.__module__}.{value.__qualname__}"
        if isinstance(value, ModuleType):
            return value.__name__
        if torch is not None and isinstance(value, torch.nn.Module):
            return f"{_name(value)}@{weights_hash(value)}"
        if torch is not None and isinstance(value, torch.Tensor):
            flat = value.detach().cpu().reshape(-1)
            content = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
            return f"tensor({value.dtype}, {tuple(value.shape)}, {_hash(content)})"
        if jax is not None and isinstance(value, jax.Array):
            if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
                return f"{value.dtype}({self._array(np.asarray(jax.random.key_data(value)))})"
            return self._array(np.asarray(value))
        if isinstance(value, np.ndarray | np.generic):
            return self._array(np.asarray(value))
        if hasattr(value, "get_vocab") and hasattr(value, "vocab_size"):
            vocabulary = sorted(value.get_vocab().items())
            template = getattr(value, "chat_template", None)
            return f"{_name(value)}({_hash(repr((vocabulary, template)))})"
        if isinstance(value, Enum):
            return f"{_name(value)}.{value.name}"
        if isinstance(value, re.Pattern):
            return f"re({value.pattern!r}, {value.flags})"
        if is_dataclass(value):
            return self._object(value, {f.name: getattr(value, f.name) for f in fields(value)})
        if isinstance(value, Mapping):
            pairs = sorted((self(k), self(v)) for k, v in value.items())
            return f"{_name(value)}{{{', '.join(f'{k}: {v}' for k, v in pairs)}}}"
        if isinstance(value, Set):  # in an order that hashes of strings do not change
            return f"{_name(value)}{{{', '.join(sorted(map(self, value)))}}}"
        if isinstance(value, tuple | list):
            return f"[{self._all(value)}]"
        if callable(value):
            return self._callable(value)
        return self._plain_object(value)

    def _callable(self, value: Any) -> str:
        if isinstance(value, FunctionType):
            parts = [self._code(value.__code__), self(value.__defaults__)]
            parts += [self(value.__kwdefaults__), self._all(map(_content, value.__closure__ or ()))]
            parts += self._globals(value)
            return f"{value.__module__}.{value.__qualname__}({', '.join(parts)})"
        if isinstance(value, functools.partial):
            return f"partial({self._all((value.func, value.args, value.keywords))})"
        owner = getattr(value, "__self__", None)  # a method; for a builtin function, its module
        if owner is not None:
            function = getattr(value, "__func__", None)
            named = self(function) if function else getattr(value, "__qualname__", _name(value))
            return f"{named} of {self(owner)}"
        wrapped = getattr(value, "__wrapped__", None)  # a cached or jitted function
        if wrapped is not None:
            return f"{_name(value)}({self(wrapped)})"
        return self._plain_object(value)

    def _globals(self, function: FunctionType) -> list[str]:
        """What a function of the user's program reads from its module."""
        module = function.__module__ or ""
        if self._depth == _DEPTH or is_library(module) or module.startswith("smcgen."):
            return []
        self._depth += 1
        found = [f"{name}={self(value)}" for name, value in globals_read(function).items()]
        self._depth -= 1
        return found

    def _code(self, code: CodeType) -> str:
        """What a function does, without where it was written."""
        inner = [self._code(c) if isinstance(c, CodeType) else self(c) for c in code.co_consts]
        table = code.co_exceptiontable
        return _hash(f"{code.co_code!r} {table!r} {code.co_names} {', '.join(inner)}")

    def _array(self, array: np.ndarray) -> str:
        if array.dtype.hasobject:
            return f"array({array.shape}, {self._all(array.ravel().tolist())})"
        return f"array({array.dtype}, {array.shape}, {_hash(array.tobytes())})"

    def _plain_object(self, value: Any) -> str:
        attributes = _attributes(value)
        if self._depth and attributes is not None and is_library(type(value).__module__):
            return _name(value)  # a global logger, lock or client: what it holds is no setting
        return self._object(value, attributes)

    def _object(self, value: Any, attributes: Mapping[str, Any] | None) -> str:
        if attributes is not None:
            inner = ", ".join(f"{k}={self(v)}" for k, v in sorted(attributes.items()))
            call = type(value).__call__ if callable(value) else None
            code = f" by {self(call)}" if isinstance(call, FunctionType) else ""
            return f"{_name(value)}({inner}){code}"
        shown = repr(value)
        return _name(value) if " at 0x" in shown else shown

    def _all(self, values: Iterable[Any]) -> str:
        return ", ".join(map(self, values))


def _attributes(value: Any) -> dict[str, Any] | None:
    """What an object holds; None if its own description says it all."""
    if hasattr(value, "__dict__"):
        return dict(vars(value))
    if type(value).__repr__ is not object.__repr__:
        return None
    slots = [s for c in type(value).__mro__ for s in vars(c).get("__slots__", ())]
    return {s: getattr(value, s) for s in slots if hasattr(value, s)}


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that has no value yet
        return None


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _hash(content: str | bytes) -> str:
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return hashlib.sha256(data).hexdigest()[:16]
