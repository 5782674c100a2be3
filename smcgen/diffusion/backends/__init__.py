"""JAX and torch, as diffusion models use them."""

from smcgen.diffusion.backends.base import Backend as Backend
