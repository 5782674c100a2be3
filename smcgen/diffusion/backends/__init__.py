"""JAX and torch, as diffusion models use them."""

import inspect
import sys
from functools import partial
from types import ModuleType
from typing import Any

from jax import Array

from smcgen.diffusion.backends.base import Backend as Backend
from smcgen.diffusion.backends.jax import JAX as JAX

_DEPTH = 3  # functions that call functions that call functions


def backend_of(denoiser: Any) -> Backend:
    """torch, where its parameters are, for what uses a torch module, tensor or torch itself; else JAX.

    A function is judged by what it names, and if that is neither torch nor JAX, by what those name in turn.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return JAX()
    uses = [denoiser]
    for _ in range(_DEPTH + 1):
        module = next((u for u in uses if isinstance(u, torch.nn.Module)), None)
        tensor = next((u for u in uses if isinstance(u, torch.Tensor)), None)
        if module is not None or tensor is not None or any(_package(u) == "torch" for u in uses):
            from smcgen.diffusion.backends.torch import Torch

            at = tensor if module is None else next(module.parameters(), None)
            return Torch() if at is None else Torch(at.device)
        if any(map(_is_jax, uses)):
            return JAX()
        uses = [named for u in uses for named in _used_by(u)]
    return JAX()


def _package(thing: Any) -> str:
    """The package that a module, function or class is of."""
    name = thing.__name__ if isinstance(thing, ModuleType) else getattr(thing, "__module__", None)
    return name.partition(".")[0] if isinstance(name, str) else ""


def _is_jax(thing: Any) -> bool:
    named = _package(thing) in ("jax", "jaxlib", "flax")
    return isinstance(thing, Array) or (named and not isinstance(thing, partial))


def _used_by(thing: Any) -> list[Any]:
    """What a function names: globals, what it closes over, the object whose method it is; what an object holds."""
    if isinstance(thing, ModuleType | type):
        return []
    if isinstance(thing, partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if inspect.ismethod(thing):
        return [thing.__self__, thing.__func__]
    if inspect.isfunction(thing):
        found = inspect.getclosurevars(thing)
        return [*found.nonlocals.values(), *found.globals.values()]
    called = type(thing).__call__ if callable(thing) else None
    held = [*vars(thing).values()] if hasattr(thing, "__dict__") else []
    return [*held, called] if inspect.isfunction(called) else held
