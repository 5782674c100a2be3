"""JAX and torch, as diffusion models use them."""

import sys
from typing import Any

from smcgen.diffusion.backends.base import Backend as Backend
from smcgen.diffusion.backends.jax import JAX as JAX


def backend_of(denoiser: Any) -> Backend:
    """torch where its parameters are, for a torch module; else JAX."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(denoiser, torch.nn.Module):
        return JAX()
    from smcgen.diffusion.backends.torch import Torch

    parameter = next(denoiser.parameters(), None)
    return Torch() if parameter is None else Torch(parameter.device)
