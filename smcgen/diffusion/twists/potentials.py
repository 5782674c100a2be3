"""The potentials of FK steering as twists; `smcgen.diffusion.twists` has their table."""

from dataclasses import dataclass
from typing import Any

import jax

from smcgen.core._types import PyTree
from smcgen.diffusion.backends.base import PerRow
from smcgen.diffusion.base import Value
from smcgen.diffusion.values.prediction import AtPrediction


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Potential:
    """What they share.

    Attributes:
        value: what is looked at; default: the reward of the predicted data.
    """

    value: Value = AtPrediction()

    def start(self, rows: int, xp: Any) -> PyTree:
        return ()


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Difference(_Potential):
    """`log psi_t = lambda_t v_t`: `G = exp(lambda (v_t - v_s))`, with s the last time before."""

    def update(
        self, strength: Any, value: PerRow, memory: PyTree, log_psi: PerRow, xp: Any
    ) -> tuple[PerRow, PyTree]:
        return strength * value, memory


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Immediate(_Potential):
    """`G_t = exp(lambda_t v_t)` before the end."""

    def update(
        self, strength: Any, value: PerRow, memory: PyTree, log_psi: PerRow, xp: Any
    ) -> tuple[PerRow, PyTree]:
        return log_psi + strength * value, memory


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Max(_Potential):
    """`G_t = exp(lambda_t max_{s <= t} v_s)` before the end; the memory is the running maximum."""

    def start(self, rows: int, xp: Any) -> PyTree:
        return xp.full(rows, -xp.inf)

    def update(
        self, strength: Any, value: PerRow, memory: PyTree, log_psi: PerRow, xp: Any
    ) -> tuple[PerRow, PyTree]:
        best = xp.maximum(memory, value)
        return log_psi + strength * best, best


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sum(_Potential):
    """`G_t = exp(lambda_t sum_{s <= t} v_s)` before the end; the memory is the sum."""

    def start(self, rows: int, xp: Any) -> PyTree:
        return xp.zeros(rows)

    def update(
        self, strength: Any, value: PerRow, memory: PyTree, log_psi: PerRow, xp: Any
    ) -> tuple[PerRow, PyTree]:
        total = memory + value
        return log_psi + strength * total, total
