"""JAX and torch, as diffusion models use them."""

import inspect
import sys
from functools import partial
from typing import Any

from smcgen.diffusion.backends.base import Backend as Backend
from smcgen.diffusion.backends.jax import JAX as JAX


def backend_of(denoiser: Any) -> Backend:
    """torch, where its parameters are, for a torch module or a function that uses one or torch itself; else JAX."""
    torch = sys.modules.get("torch")
    if torch is None:
        return JAX()
    uses = [denoiser, *_used_by(denoiser)]
    module = next((u for u in uses if isinstance(u, torch.nn.Module)), None)
    if module is None and not any(u is torch for u in uses):
        return JAX()
    from smcgen.diffusion.backends.torch import Torch

    parameter = None if module is None else next(module.parameters(), None)
    return Torch() if parameter is None else Torch(parameter.device)


def _used_by(function: Any) -> list[Any]:
    """What a function names: globals, what it closes over, the object whose method it is."""
    if isinstance(function, partial):
        return [function.func, *function.args, *_used_by(function.func)]
    owner = [function.__self__] if inspect.ismethod(function) else []
    try:
        found = inspect.getclosurevars(function)
    except (TypeError, ValueError):  # an object that is called, or a built-in function
        return owner
    return [*owner, *found.nonlocals.values(), *found.globals.values()]
