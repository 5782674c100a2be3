"""Diffusion models in torch."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
import torch

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.place import beside
from smcgen.diffusion.backends.base import Index, PerRow, Tensor
from smcgen.diffusion.backends.jax import draw_normal, to_numpy
from smcgen.errors import InvalidArgument, RewardError


@dataclass(frozen=True)
class Torch:
    """torch tensors on a device.

    Attributes:
        device: where the tensors are.
        dtype: of latents and noise. Keep float32 even if the network runs in half precision.
    """

    device: Any = "cpu"
    dtype: Any = torch.float32

    traceable = False
    xp = np

    def normal(self, key: RandomKey, rows: int, shape: tuple[int, ...]) -> Tensor:
        with beside(key):
            drawn = _normal(key, rows=rows, shape=shape)
        return self.tensor(torch.from_numpy(np.array(drawn)))

    def tensor(self, values: Any) -> Tensor:
        if not isinstance(values, torch.Tensor):
            values = torch.from_numpy(np.array(values))
        dtype = self.dtype if values.is_floating_point() else values.dtype
        return values.to(self.device, dtype)

    def check(self, out: Any) -> None:
        if not isinstance(out, torch.Tensor):
            allowed = (
                "a torch tensor; or the kernel needs backend=JAX(), of smcgen.diffusion.backends"
            )
            raise InvalidArgument("denoiser", f"one that returned {type(out).__name__}", allowed)

    def per_row(self, values: Any) -> PerRow:
        if isinstance(values, list | tuple):
            values = [to_numpy(v) for v in values]
        return np.asarray(to_numpy(values), np.float64)

    def sum(self, x: Tensor) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        return wide.reshape(len(x), -1).sum(1)

    def log_mean_exp(self, scores: Any, k: int, strength: Any) -> Any:
        if not isinstance(scores, torch.Tensor):
            scores = torch.from_numpy(self.per_row(scores))
        grouped = scores.double().reshape(-1, k)
        if strength == 0:
            return grouped.mean(1)
        return (torch.logsumexp(strength * grouped, 1) - math.log(k)) / strength

    def take(self, tree: PyTree, index: Index) -> PyTree:
        rows = np.asarray(index)
        on_device: dict[Any, Any] = {}

        def pick(x: Any) -> Any:
            if not isinstance(x, torch.Tensor):
                return x[rows]
            if x.device not in on_device:
                on_device[x.device] = torch.from_numpy(rows.astype(np.int64)).to(x.device)
            return x.index_select(0, on_device[x.device])

        return jax.tree.map(pick, tree)

    def put(self, x: Tensor, index: Index, values: Any) -> Tensor:
        x = x.clone()
        x[torch.from_numpy(np.asarray(index, np.int64)).to(x.device)] = torch.as_tensor(
            np.array(to_numpy(values)), dtype=x.dtype, device=x.device
        )
        return x

    def select(self, mask: Any, new: PyTree, old: PyTree) -> PyTree:
        def pick(a: Any, b: Any) -> Any:
            by_rows = mask.reshape(-1, *(1,) * (b.ndim - 1))
            if not isinstance(b, torch.Tensor):
                return np.where(by_rows, a, b)
            return torch.where(torch.from_numpy(by_rows).to(b.device), a, b)

        return jax.tree.map(pick, new, old)

    def concatenate(self, tensors: list[Tensor]) -> Tensor:
        return torch.cat(tensors)

    def gradient(
        self, function: Callable[[Tensor], tuple[Any, PyTree]], x: Tensor
    ) -> tuple[Any, PyTree, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            values, extra = function(x)
            if not (isinstance(values, torch.Tensor) and values.requires_grad):
                came = (
                    "values without gradients" if hasattr(values, "grad") else type(values).__name__
                )
                raise RewardError(
                    f"guidance needs a reward that torch can differentiate: it returned {came}"
                )
            (gradient,) = torch.autograd.grad(values.sum(), x)
        detached = lambda v: v.detach() if isinstance(v, torch.Tensor) else v
        gradient = torch.where(gradient.isfinite(), gradient, 0)
        return values.detach(), jax.tree.map(detached, extra), gradient

    def inference(self) -> AbstractContextManager:
        return torch.no_grad()

    def kept(self, x: Tensor) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        return (x.float() if x.dtype == torch.bfloat16 else x).cpu().numpy()

    def switch(self, index: Any, branches: list[Callable[..., PyTree]], *operands: Any) -> PyTree:
        return branches[int(index)](*operands)


# on one thread: waking the others of XLA for each image-sized draw took longer than the draw
_normal = partial(
    jax.jit,
    static_argnames=("rows", "shape"),
    compiler_options={"xla_disable_hlo_passes": "cpu-parallel-task-assigner"},
)(draw_normal)
