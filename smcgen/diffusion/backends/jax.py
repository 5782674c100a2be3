"""Diffusion models in JAX."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import logsumexp

from smcgen.core._types import PyTree, RandomKey
from smcgen.diffusion.backends.base import Index, PerRow, Tensor
from smcgen.errors import InvalidArgument, RewardError


@dataclass(frozen=True)
class JAX:
    """JAX arrays."""

    traceable = True
    xp = jnp

    def normal(self, key: RandomKey, rows: int, shape: tuple[int, ...]) -> Tensor:
        return draw_normal(key, rows, shape)

    def tensor(self, values: Any) -> Tensor:
        return jnp.asarray(values)

    def check(self, out: Any) -> None:
        if type(out).__module__.partition(".")[0] == "torch":
            allowed = "a JAX array; or the kernel needs backend=Torch(), of smcgen.diffusion.backends.torch"
            raise InvalidArgument("denoiser", "one that returned a torch tensor", allowed)

    def per_row(self, values: Any) -> PerRow:
        if isinstance(values, list | tuple):
            values = jnp.stack([jnp.asarray(v) for v in values])
        return to_float32(jnp.asarray(to_numpy(values)))

    def sum(self, x: Tensor) -> Tensor:
        return jnp.sum(to_float32(x).reshape(x.shape[0], -1), axis=1)

    def log_mean_exp(self, scores: Any, k: int, strength: Any) -> Any:
        grouped = self.per_row(scores).reshape(-1, k)
        strength = jnp.asarray(strength, grouped.dtype)
        safe = jnp.where(strength == 0, 1.0, strength)
        soft = (logsumexp(safe * grouped, axis=1) - jnp.log(k)) / safe
        return jnp.where(strength == 0, grouped.mean(1), soft)

    def take(self, tree: PyTree, index: Index) -> PyTree:
        return jax.tree.map(lambda x: x[index], tree)

    def put(self, x: Tensor, index: Index, values: Any) -> Tensor:
        return x.at[index].set(jnp.asarray(values, x.dtype))

    def select(self, mask: Any, new: PyTree, old: PyTree) -> PyTree:
        by_rows = lambda x: mask.reshape(-1, *(1,) * (x.ndim - 1))
        return jax.tree.map(lambda a, b: jnp.where(by_rows(b), a, b), new, old)

    def concatenate(self, tensors: list[Tensor]) -> Tensor:
        return jnp.concatenate(tensors)

    def gradient(
        self, function: Callable[[Tensor], tuple[Any, PyTree]], x: Tensor
    ) -> tuple[Any, PyTree, Tensor]:
        def scored(x: Tensor) -> tuple[Any, PyTree]:
            values, extra = function(x)
            return to_float32(jnp.asarray(values)), extra

        try:
            values, pullback, extra = jax.vjp(scored, x, has_aux=True)
        except (RewardError, jax.errors.JAXTypeError) as error:
            if not isinstance(error.__cause__ or error, jax.errors.JAXTypeError):
                raise
            raise RewardError(
                "guidance needs a reward that JAX can differentiate, written in jax.numpy throughout"
            ) from error
        (gradient,) = pullback(jnp.ones_like(values))
        return values, extra, jnp.where(jnp.isfinite(gradient), gradient, 0)

    def inference(self) -> AbstractContextManager:
        return nullcontext()

    def kept(self, x: Tensor) -> Any:
        return x

    def switch(self, index: Any, branches: list[Callable[..., PyTree]], *operands: Any) -> PyTree:
        if isinstance(index, int | np.integer):
            return branches[int(index)](*operands)
        return jax.lax.switch(index, branches, *operands)


def draw_normal(key: RandomKey, rows: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normals, shape (rows, *shape)."""
    return each_problem(lambda key, rows: _standard_normal(key, (rows, *shape)), key, rows)


def _standard_normal(key: RandomKey, shape: tuple[int, ...]) -> Tensor:
    """`jax.random.normal`, bit for bit, in less than half its time on a CPU.

    XLA would fuse the hash with the two branches of erf_inv, and compute it for each of them.
    """
    if jax.dtypes.canonicalize_dtype(float) != jnp.float32:
        return jax.random.normal(key, shape)
    words = jax.lax.optimization_barrier(jax.random.bits(key, shape, jnp.uint32))
    one = jnp.uint32(0x3F800000)  # the bits of 1.0; those of the fraction are random
    fraction = jax.lax.bitcast_convert_type(words >> 9 | one, jnp.float32) - 1
    low = np.nextafter(np.float32(-1), np.float32(0))
    uniform = jnp.maximum(low, fraction * (1 - low) + low)
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(uniform)


def each_problem(
    function: Callable[..., PyTree], key: RandomKey, rows: int, *arguments: Any
) -> PyTree:
    """`function(key, rows, *arguments)`; with a key for each problem, on each problem's own rows and key.

    Arrays among the arguments have one row for each row; the function returns a pytree of such.
    """
    if key.ndim == 0:
        return function(key, rows, *arguments)
    problems = key.shape[0]
    each = rows // problems
    is_array = [hasattr(a, "shape") for a in arguments]
    split = [
        a.reshape(problems, each, *a.shape[1:]) if array else a
        for a, array in zip(arguments, is_array, strict=True)
    ]
    axes = (0, *(0 if array else None for array in is_array))
    mapped = jax.vmap(lambda k, *a: function(k, each, *a), in_axes=axes)
    return jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), mapped(key, *split))


def to_float32(x: Tensor) -> Tensor:
    """At least single precision."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def to_numpy(values: Any) -> Any:
    """A torch tensor as NumPy; anything else as it is."""
    if type(values).__module__.partition(".")[0] == "torch":
        return values.detach().double().cpu().numpy()
    return values
