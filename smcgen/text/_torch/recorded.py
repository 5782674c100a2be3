"""A function of tensors whose work on a GPU is recorded once and then launched at once.

A draw is some twenty operations on a few rows. A GPU does them in less time than a host takes to launch them one by one;
as one CUDA graph they are one launch.
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
_log = logging.getLogger(__name__)


class Recorded:
    """`function(law, *inputs)`, with as many rows as the inputs have, as a graph for each law and power of two of rows.

    What such a graph returns is overwritten by the next call of the same law.

    Args:
        function: of a law and of tensors with one entry, or None, for each row; returns tensors whose last axis is
            rows, each row by itself.
        fits: whether the function of a law never waits for a number from the device.
    """

    def __init__(
        self, function: Callable[..., tuple[Tensor, ...]], fits: Callable[[Any], bool]
    ):
        self._function, self._fits = function, fits
        self._calls: dict[Hashable, Any] = {}  # how often, then a graph; None: it cannot be recorded
        self._pool: Any = None  # graphs follow each other, so they can share their memory

    def __call__(self, law: Hashable, *inputs: Tensor | np.ndarray | None) -> tuple[Tensor, ...]:
        """What the function returns; NumPy arrays among its inputs go to where the first input is."""
        first = inputs[0]
        assert isinstance(first, Tensor)
        rows = len(first)
        size = max(_LEAST_ROWS, 1 << (rows - 1).bit_length())
        if not first.is_cuda or not self._fits(law) or size * first.shape[1] > _MOST:
            return self._function(law, *(_there(x, first.device) for x in inputs))
        key = law, size, tuple(None if x is None else str(x.dtype) for x in inputs)
        found = self._calls.get(key, 0)
        if isinstance(found, int) and found < 2:  # the first calls load kernels
            self._calls[key] = found + 1
        elif isinstance(found, int):
            self._calls[key] = found = self._record(law, size, inputs)
        if found is None or isinstance(found, int):
            return self._function(law, *(_there(x, first.device) for x in inputs))
        return tuple(out[..., :rows] for out in found(*inputs))

    def _record(self, law: Hashable, size: int, inputs: Any) -> "Graph | None":
        device = inputs[0].device
        buffers = [None if x is None else Buffer(x, size, device) for x in inputs]
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        try:
            graph = torch.cuda.CUDAGraph()
            # other threads, whose models score texts meanwhile, may go on
            with torch.cuda.graph(graph, self._pool, capture_error_mode="thread_local"):
                out = self._function(law, *(b and b.values for b in buffers))
        except RuntimeError as error:  # out of memory, say
            _log.warning("draws are launched one by one: %s", error)
            return None
        return Graph(graph.replay, buffers, out)


class Buffer:
    """Where a graph reads an input, with room for `size` rows of any content."""

    def __init__(self, like: Tensor | np.ndarray, size: int, device: Any):
        shape, dtype = (size, *like.shape[1:]), torch.as_tensor(like[:0]).dtype
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    def fill(self, values: Tensor | np.ndarray) -> None:
        """Copy an input; the host does not wait."""
        self.values[: len(values)].copy_(torch.as_tensor(values), non_blocking=True)


class Graph:
    """What was recorded: filling its buffers and launching it is calling the function."""

    def __init__(self, launch: Callable[[], None], buffers: Any, out: tuple[Tensor, ...]):
        self._launch, self._buffers, self._out = launch, buffers, out

    def __call__(self, *inputs: Tensor | np.ndarray | None) -> tuple[Tensor, ...]:
        """Outputs with a column for each row there is room for."""
        for buffer, values in zip(self._buffers, inputs, strict=True):
            if buffer is not None:
                buffer.fill(values)
        self._launch()
        return self._out


def _there(values: Any, device: Any) -> Any:
    return upload(values, device) if isinstance(values, np.ndarray) else values
