"""A function of tensors whose work on a GPU is recorded once and then launched at once.

A draw is some twenty operations on a few rows. A GPU does them in less time than a host takes to launch them one by
one; as one CUDA graph they are one launch.
"""

import logging
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smcgen.text._torch.upload import upload

_MOST = 1 << 25  # elements of an input; with more, launching is not what takes the time
_LEAST_ROWS = 8
_FIRST_CALLS = 2  # which load kernels, and are not recorded
_log = logging.getLogger(__name__)


def padded(rows: int) -> int:
    """How many rows of room there are for so many: the next power of two."""
    return max(_LEAST_ROWS, 1 << (rows - 1).bit_length())


class Recorded:
    """`function(kind, *inputs)`, recorded on a GPU for each kind and each power of two of rows.

    What a recorded call returns is overwritten by the next one of its kind.

    Args:
        function: of a kind and of tensors, each with one entry for each row, or None; returns tensors whose last axis
            is rows, each row by itself.
        fits: whether the function of this kind never waits for a number from the device.
        device: where it works; where its first input is if None.
    """

    def __init__(
        self,
        function: Callable[..., tuple[Tensor, ...]],
        fits: Callable[[Any], bool] = lambda kind: True,
        device: Any = None,
    ):
        self._function, self._fits, self._device = function, fits, device
        self._calls: dict[Hashable, int] = {}
        self._graphs: dict[Hashable, _Graph | None] = {}  # None: it could not be recorded
        self._pool: Any = None  # graphs follow each other, so they can share their memory

    def __call__(self, kind: Hashable, *inputs: Tensor | np.ndarray | None) -> tuple[Tensor, ...]:
        """What the function returns; NumPy arrays among its inputs go to the device."""
        first: Any = inputs[0]
        device, size = self._device or first.device, padded(len(first))
        if on_gpu(device) and self._fits(kind) and size * first.shape[1] <= _MOST:
            key = kind, size, tuple(None if x is None else str(x.dtype) for x in inputs)
            calls = self._calls[key] = self._calls.get(key, 0) + 1
            if calls == _FIRST_CALLS + 1:
                self._graphs[key] = self._recording(kind, size, inputs, device)
            graph = self._graphs.get(key)
            if graph is not None:
                return tuple(out[..., : len(first)] for out in graph(inputs))
        there = (upload(x, device) if isinstance(x, np.ndarray) else x for x in inputs)
        return self._function(kind, *there)

    def _recording(self, kind: Hashable, size: int, inputs: Any, device: Any) -> "_Graph | None":
        try:
            buffers = [None if x is None else _buffer(x, size, device) for x in inputs]
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            return _Graph(buffers, *record(lambda: self._function(kind, *buffers), self._pool))
        except RuntimeError as error:  # out of memory, say
            _log.warning("operations of steering are launched one by one: %s", error)
            return None


class _Graph:
    """What was recorded: to fill its buffers and launch it is to call the function."""

    def __init__(self, buffers: Any, launch: Callable[[], None], out: tuple[Tensor, ...]):
        self._buffers, self._launch, self._out = buffers, launch, out

    def __call__(self, inputs: Any) -> tuple[Tensor, ...]:
        for buffer, values in zip(self._buffers, inputs, strict=True):
            if buffer is not None:  # the host does not wait
                buffer[: len(values)].copy_(torch.as_tensor(values), non_blocking=True)
        self._launch()
        return self._out


def on_gpu(device: torch.device) -> bool:
    """Whether a device has CUDA graphs."""
    return device.type == "cuda"


def record(work: Callable[[], Any], pool: Any) -> tuple[Callable[[], None], Any]:
    """What repeats this work on a GPU, and what the work returns."""
    graph = torch.cuda.CUDAGraph()
    # other threads, whose models score texts meanwhile, may go on
    with torch.cuda.graph(graph, pool, capture_error_mode="thread_local"):
        out = work()
    return graph.replay, out


def _buffer(like: Any, size: int, device: Any) -> Tensor:
    """Where a graph reads an input: rows beyond those of a call may have any content."""
    dtype = torch.as_tensor(like[:0]).dtype
    return torch.zeros((size, *like.shape[1:]), dtype=dtype, device=device)
