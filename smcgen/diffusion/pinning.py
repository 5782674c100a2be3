"""Diffusion models under conditional SMC: pinned to a reference, with ancestor and backward sampling.

Twists telescope: the G's of times t..T of a path multiply to `psi_T(x_T) / psi_{t-1}`, whatever they remember of
the way. So what a particle's past has to do with a future it did not have is

    log p(x_t | x_{t-1}) - log psi_{t-1}     + a constant of the future,

also for twists that depend on the entire path, for guided proposals (their q is not in the target) and for nested
ones (their other candidates integrate to 1, and are drawn anew).
"""

from abc import abstractmethod
from typing import Any

import jax
import numpy as np

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.feynman_kac import FeynmanKac
from smcgen.core.reference import at as time
from smcgen.diffusion.backends.base import Tensor
from smcgen.diffusion.base import Kernel
from smcgen.diffusion.state import DiffusionRecord, DiffusionState


class Pinnable(FeynmanKac[DiffusionState]):
    """The capabilities that conditional SMC asks for; a part of `DiffusionModel`."""

    kernel: Kernel

    @abstractmethod
    def _first(
        self, key: RandomKey, n: int, pinned: DiffusionRecord | None
    ) -> tuple[DiffusionState, Any]: ...

    @abstractmethod
    def _step(
        self, key: RandomKey, t: Any, state: DiffusionState, pinned: DiffusionRecord | None
    ) -> tuple[DiffusionState, Any]: ...

    @property
    def _problems(self) -> int:
        return self.num_problems or 1

    def _per_problem(self, values: Any) -> Any:
        """(rows, ...) as (n, ...), or (problems, n, ...)."""
        if self.num_problems is None:
            return values
        return values.reshape(self.num_problems, -1, *values.shape[1:])

    def record(self, state: DiffusionState) -> DiffusionRecord:
        kept = DiffusionRecord(state.x, state.prediction, state.log_psi, state.value, state.memory)
        return jax.tree.map(lambda x: self._per_problem(self.kernel.backend.kept(x)), kept)

    def init_pinned(
        self, key: RandomKey, n: int, reference: DiffusionRecord
    ) -> tuple[DiffusionState, Any]:
        return self._first(key, n, reference)

    def step_pinned(
        self, key: RandomKey, t: Any, state: DiffusionState, reference: DiffusionRecord
    ) -> tuple[DiffusionState, Any]:
        return self._step(key, t, state, reference)

    def log_continue(self, t: Any, state: DiffusionState, path: PyTree) -> Any:
        """`log p(x_t^reference | x_{t-1}) - log psi_{t-1}`."""
        rows = len(state.log_psi)
        future = self._reference(time(path, t))
        future = self.kernel.backend.take(
            future, np.repeat(np.arange(self._problems), rows // self._problems)
        )
        with self.kernel.backend.inference():
            log_p = self.kernel.log_prob(t, state.x, state.prediction, future)
        return self._per_problem(self.kernel.backend.per_row(log_p) - state.log_psi)

    def log_transition(self, t: Any, previous: DiffusionRecord, current: DiffusionRecord) -> Any:
        """`log p(x_t | x_{t-1}) + log psi_t - log psi_{t-1}`."""
        backend, shape = self.kernel.backend, np.shape(current.log_psi)
        rows = lambda x: backend.tensor(x.reshape(-1, *x.shape[len(shape) :]))
        x, prediction, new = jax.tree.map(rows, (previous.x, previous.prediction, current.x))
        with backend.inference():
            log_p = backend.per_row(self.kernel.log_prob(t, x, prediction, new))
        return log_p.reshape(shape) + current.log_psi - previous.log_psi

    def _reference(self, record: DiffusionRecord) -> Tensor:
        """The latents of a path at one time, a row a problem."""
        x = self.kernel.backend.tensor(record.x)
        return x[None] if self.num_problems is None else x

    def _put(self, x: Tensor, record: DiffusionRecord) -> Tensor:
        """x with the first row of each problem at the reference."""
        first = np.arange(self._problems) * (len(x) // self._problems)
        return self.kernel.backend.put(x, first, self._reference(record))
