"""A function of tensors whose work on a GPU is recorded once and then launched at once.

A draw is some twenty operations on a few rows. A GPU does them in less time than a host takes to launch them one by
one; as one CUDA graph they are one launch.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from smcgen.text._torch.upload import upload

_MOST = 1 << 25  # elements of an input; with more, launching is not what takes the time
_LEAST_ROWS = 8
_FIRST_CALLS = 2  # which load kernels, and are not recorded
_KEPT = 64
_log = logging.getLogger(__name__)


def padded(rows: int) -> int:
    """How many rows of room there are for so many: the next power of two."""
    return max(_LEAST_ROWS, 1 << (rows - 1).bit_length())


class Recorded:
    """`function(kind, *inputs)`, recorded on a GPU for each kind and each power of two of rows.

    What a recorded call returns may be overwritten by the next call of any kind. The latest `_KEPT` kinds and sizes are
    known; one is recorded when it is called for the third time.

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
        # a number of calls, then a graph; None: it could not be recorded
        self._known: OrderedDict[Hashable, int | _Graph | None] = OrderedDict()
        self._buffers: WeakValueDictionary[Hashable, Tensor] = WeakValueDictionary()
        self._pool: Any = None  # graphs follow each other, so they share memory and buffers

    def __call__(self, kind: Hashable, *inputs: Tensor | np.ndarray | None) -> tuple[Tensor, ...]:
        """What the function returns; NumPy arrays among its inputs go to the device."""
        first: Any = inputs[0]
        device, size = self._device or first.device, padded(len(first))
        if on_gpu(device) and self._fits(kind) and size * first.shape[1] <= _MOST:
            graph = self._graph(kind, size, inputs, device)
            if graph is not None:
                return tuple(out[..., : len(first)] for out in graph(inputs))
        there = (upload(x, device) if isinstance(x, np.ndarray) else x for x in inputs)
        return self._function(kind, *there)

    def _graph(self, kind: Hashable, size: int, inputs: Any, device: Any) -> "_Graph | None":
        key = kind, size, tuple(None if x is None else str(x.dtype) for x in inputs)
        found = self._known.get(key, 0)
        if isinstance(found, int):  # the first calls load kernels
            found = found + 1 if found < _FIRST_CALLS else self._record(kind, size, inputs, device)
        self._known[key] = found
        self._known.move_to_end(key)
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return None if isinstance(found, int) else found

    def _record(self, kind: Hashable, size: int, inputs: Any, device: Any) -> "_Graph | None":
        try:
            buffers = [self._buffer(k, x, size, device) for k, x in enumerate(inputs)]
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            return _Graph(buffers, *record(lambda: self._function(kind, *buffers), self._pool))
        except RuntimeError as error:  # out of memory, say
            _log.warning("operations of steering are launched one by one: %s", error)
            return None

    def _buffer(self, place: int, like: Any, size: int, device: Any) -> Tensor | None:
        """Where graphs read an input: rows beyond those of a call may have any content."""
        if like is None:
            return None
        shape, dtype = (size, *like.shape[1:]), torch.as_tensor(like[:0]).dtype
        key = place, shape, dtype
        found = self._buffers.get(key)
        if found is None:
            self._buffers[key] = found = torch.zeros(shape, dtype=dtype, device=device)
        return found


class _Graph:
    """What was recorded: to fill its buffers and launch it is to call the function."""

    def __init__(self, buffers: Any, launch: Callable[[], None], out: tuple[Tensor, ...]):
        self._buffers, self._launch, self._out = buffers, launch, out

    def __call__(self, inputs: Any) -> tuple[Tensor, ...]:
        rows = len(inputs[0])
        for buffer, values in zip(self._buffers, inputs, strict=True):
            if buffer is not None:  # the host does not wait
                buffer[:rows].copy_(torch.as_tensor(values), non_blocking=True)
        self._launch()
        return self._out


def on_gpu(device: torch.device) -> bool:
    """Whether a device has CUDA graphs."""
    return device.type == "cuda"


def record(work: Callable[[], Any], pool: Any) -> tuple[Callable[[], None], Any]:
    """What repeats this work on a GPU, and what the work returns."""
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        # other threads, whose models score texts meanwhile, may go on
        with torch.cuda.graph(graph, pool, capture_error_mode="thread_local"):
            out = work()
    finally:
        torch.cuda.set_stream(stream)  # torch does not where recording fails
    return graph.replay, out
