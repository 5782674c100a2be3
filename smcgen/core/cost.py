"""What a run costs, counted where the work is done.

A `Meter` belongs to one run: engines and rewards add to it as they work. `Meter.read` gives the
`Cost` so far, a value that can be added, printed and compared at equal budget.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

import jax
import numpy as np
from jaxtyping import Float64

from smcgen.core.memory import PeakMemory

PEAKS = ("peak_memory", "peak_gpu_memory")


@dataclass(frozen=True)
class Cost:
    """Counted work of a run.

    Attributes:
        tokens_generated: tokens drawn from the base model, ended particles excluded.
        tokens_prefilled: tokens the base model read without drawing them (prompts, recomputation).
        reward_calls: texts (or prefixes) that a reward scored; cache hits are not counted.
        reward_tokens: tokens that reward models read.
        nfe: calls of a model's `step`, times particles.
        seconds: wall time of the run.
        reward_seconds: the part of `seconds` spent in rewards.
        peak_memory, peak_gpu_memory: the most bytes that the process held while texts were written, resident and
            allocated by torch on GPUs; sums of costs have the largest. 0: not measured.
    """

    tokens_generated: int = 0
    tokens_prefilled: int = 0
    reward_calls: int = 0
    reward_tokens: int = 0
    nfe: int = 0
    seconds: float = 0.0
    reward_seconds: float = 0.0
    peak_memory: int = 0
    peak_gpu_memory: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        joined = lambda name: max if name in PEAKS else sum
        both = lambda name: (getattr(self, name), getattr(other, name))
        return Cost(**{f.name: joined(f.name)(both(f.name)) for f in fields(self)})

    def as_array(self) -> Float64[np.ndarray, " counters"]:
        """The counters in the order of the fields, for a checkpoint."""
        return np.array([getattr(self, f.name) for f in fields(self)], np.float64)

    @classmethod
    def from_array(cls, counts: Float64[np.ndarray, " counters"]) -> "Cost":
        """What `as_array` gave."""
        kinds: list[Any] = [type(f.default) for f in fields(cls)]
        return cls(*(kind(count) for kind, count in zip(kinds, counts, strict=True)))

    def __str__(self) -> str:
        shown = (f"{k}={_shown(k, v)}" for k, v in asdict(self).items() if v)
        return "Cost(" + ", ".join(shown) + ")"


def _shown(name: str, value: float) -> str:
    if name in PEAKS:
        return f"{value / 2**20:.0f}MiB"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _flatten(cost: Cost) -> tuple[tuple[Any, ...], None]:
    return tuple(getattr(cost, f.name) for f in fields(Cost)), None


def _unflatten(_: None, counts: Iterable[Any]) -> Cost:
    cost = object.__new__(Cost)  # leaves may be tracers or placeholders, not only numbers
    for field, count in zip(fields(Cost), counts, strict=True):
        object.__setattr__(cost, field.name, count)
    return cost


# a result, its cost included, can be an argument of a jitted function
jax.tree_util.register_pytree_node(Cost, _flatten, _unflatten)


class Meter:
    """Counters of one run; the only mutable part of its accounting.

    Args:
        start: what was counted before.
        memory: whether the peak memory is measured, which sets the process's own counters of it back.
    """

    def __init__(self, start: Cost = Cost(), memory: bool = False):
        self._memory = PeakMemory() if memory else None
        self._counts = asdict(start)
        self._began = time.perf_counter() - start.seconds

    def add(self, **counts: float) -> None:
        """Add to the counters by name: `meter.add(tokens_generated=12)`."""
        for name, count in counts.items():
            self._counts[name] += count

    def count(self, name: str) -> Any:
        """One counter so far, without the clock or the memory."""
        return self._counts[name]

    @contextmanager
    def reward(self) -> Iterator[None]:
        """Time the enclosed block as reward work."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._counts["reward_seconds"] += time.perf_counter() - began

    def read(self) -> Cost:
        """The cost so far."""
        so_far = Cost(**{**self._counts, "seconds": time.perf_counter() - self._began})
        if self._memory is None:
            return so_far
        return so_far + Cost(**dict(zip(PEAKS, self._memory.read(), strict=True)))
