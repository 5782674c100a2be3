"""Whose tensors a diffusion model is made of: the few operations that differ between JAX and torch.

Arithmetic is the same on both and needs no backend. Numbers per row (log weights, values) are JAX arrays on
JAX and NumPy arrays in double precision on torch: `xp` is the module for them.

Noise is drawn by JAX from the run's key and handed to torch, so that a seed gives the same noise on every device and
in both frameworks.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np

from smcgen.core._types import PyTree, RandomKey

Tensor = Any  # jax.Array or torch.Tensor, rows leading
PerRow = Any  # one number a row: jax.Array, or numpy.ndarray on torch
Index = Any  # integers: jax.Array or numpy.ndarray

_INTEGER = (int, np.integer)


class Backend(Protocol):
    """JAX or torch."""

    @property
    def traceable(self) -> bool:
        """Whether a run can be one jitted scan."""
        ...

    @property
    def xp(self) -> Any:
        """`jax.numpy` or `numpy`: the module for numbers per row."""
        ...

    def normal(self, key: RandomKey, rows: int, shape: tuple[int, ...]) -> Tensor:
        """Standard normals, shape (rows, *shape). One key, or one for each problem (rows is a multiple)."""
        ...

    def tensor(self, values: Any) -> Tensor:
        """An array of numbers as a tensor of this backend, floats in its dtype."""
        ...

    def check(self, out: Any) -> None:
        """Raise `InvalidArgument` if what a denoiser returned is a tensor of the other framework."""
        ...

    def per_row(self, values: Any) -> PerRow:
        """Scores of shape (rows,), a tensor of any framework or a list, as numbers per row."""
        ...

    def sum(self, x: Tensor) -> Tensor:
        """Sum over all axes but the first, in float32 at least; a tensor of shape (rows,)."""
        ...

    def log_mean_exp(self, scores: Any, k: int, strength: Any) -> Any:
        """`1/strength log mean exp(strength s)` over each k consecutive scores; their mean at strength 0."""
        ...

    def take(self, tree: PyTree, index: Index) -> PyTree:
        """Rows `index` of every leaf."""
        ...

    def put(self, x: Tensor, index: Index, values: Any) -> Tensor:
        """A copy of x with rows `index` set to `values`."""
        ...

    def select(self, mask: Any, new: PyTree, old: PyTree) -> PyTree:
        """Rows of `new` where the mask, shape (rows,), is true, else of `old`, in every leaf."""
        ...

    def concatenate(self, tensors: list[Tensor]) -> Tensor:
        """Rows below rows."""
        ...

    def gradient(
        self, function: Callable[[Tensor], tuple[Any, PyTree]], x: Tensor
    ) -> tuple[Any, PyTree, Tensor]:
        """`function(x) = (values (rows,), extra)`: values, extra, and each row's gradient of its own value.

        Rows must not depend on each other. What is not finite in the gradient becomes 0.
        """
        ...

    def inference(self) -> AbstractContextManager:
        """Inside, nothing is recorded for gradients, but by `gradient`."""
        ...

    def kept(self, x: Tensor) -> Any:
        """A tensor as a history keeps it: not on the device of a network."""
        ...

    def switch(self, index: Any, branches: list[Callable[..., PyTree]], *operands: Any) -> PyTree:
        """`branches[index](*operands)`."""
        ...


def at(values: Any, t: Any) -> Any:
    """`values[t]`: a Python number for a t of Python, an array inside a JAX program."""
    if isinstance(t, _INTEGER) and isinstance(values, np.ndarray):
        return values[t].item()
    return jnp.asarray(values)[t]
