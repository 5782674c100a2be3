"""Rejuvenation of masked diffusion: go back a few steps, write them again, and accept by the twist.

A path of masked diffusion is known from its end: which token each position got, and at which step. So the state at any
earlier time s - b can be had again, by masking what was revealed since, and the steps from there are drawn anew from
the base law. With Metropolis-Hastings acceptance

    min(1, psi_s(x'_{0:s}) / psi_s(x_{0:s}))

the move leaves `p(x_{0:s}) psi_s(x_{0:s})` invariant, whatever the network: that is what the particles at time s
are weighted for, so the weights stay as they are, and target and evidence stay exact. (Masking again inside the base
law, as ReMDM does, is `Masked(remask=...)`; it changes the base law itself, and its marginals only as far as the
network is not exact.)
"""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from smcgen.core._types import RandomKey
from smcgen.core.cost import Cost
from smcgen.core.feynman_kac import FeynmanKac
from smcgen.diffusion.backends.base import at
from smcgen.diffusion.candidates import split_keys
from smcgen.diffusion.kernels.masked import Masked
from smcgen.diffusion.masked._arrays import double, uniforms
from smcgen.diffusion.model import DiffusionModel
from smcgen.diffusion.state import DiffusionState, Samples
from smcgen.diffusion.twists.potentials import Difference
from smcgen.errors import InvalidArgument

_TWISTED = 1  # `DiffusionModel`'s word for a time at which the twist is evaluated


class Dated(NamedTuple):
    """A population that knows when each position was revealed.

    Attributes:
        inner: the diffusion model's state.
        since: (rows, L): the step that revealed a position; 0 if it was given, T + 1 if it is masked.
    """

    inner: DiffusionState
    since: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Refreshed(FeynmanKac[Dated]):
    """A masked `DiffusionModel` whose particles are refreshed before each of its resampling steps' moves.

    After resampling, copies part at once and not only as fast as the process reveals positions.

    Attributes:
        model: with a `Masked` kernel that does not mask again, and the twist "difference" (others remember the way).
        back: b, how many steps are written anew; costs b + 1 calls of the network for each particle and time.

    Raises:
        InvalidArgument: another model; `back` out of range.
    """

    model: DiffusionModel
    back: int = field(default=1, metadata={"static": True})

    def __post_init__(self) -> None:
        model = self.model
        if not isinstance(model, DiffusionModel):
            return  # JAX builds structures without contents
        if not isinstance(model.kernel, Masked) or model.kernel.remask > 0:
            raise InvalidArgument("model", model.kernel, "a Masked kernel without remasking")
        if not isinstance(model.twist, Difference):
            raise InvalidArgument("model", model.twist, "a model with the twist Difference")
        if isinstance(self.back, bool) or not 1 <= self.back <= self.num_steps:
            raise InvalidArgument("back", self.back, f"an integer from 1 to {self.num_steps}")

    @property
    def _kernel(self) -> Masked:
        assert isinstance(self.model.kernel, Masked)
        return self.model.kernel

    @property
    def num_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """T."""
        return self.model.num_steps

    @property
    def traceable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the model is pure JAX."""
        return self.model.traceable

    @property
    def num_problems(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The model's."""
        return self.model.num_problems

    def init(self, key: RandomKey, n: int) -> tuple[Dated, Any]:
        inner, log_g = self.model.init(key, n)
        xp, masks = self.model.kernel.backend.xp, self._masks(inner.x)
        return Dated(inner, xp.where(masks, self.num_steps + 1, 0)), log_g

    def step(self, key: RandomKey, t: Any, state: Dated) -> tuple[Dated, Any]:
        backend = self.model.kernel.backend
        due = np.zeros(self.num_steps + 1, np.int32)
        due[[r for r in self.model.resampling_steps if r > self.back]] = 1
        refresh_key, move_key = split_keys(key, 2)
        with backend.inference():
            branches = [lambda key, s, state: state, self.refresh]
            state = backend.switch(at(due, t), branches, refresh_key, t - 1, state)
        inner, log_g = self.model.step(move_key, t, state.inner)
        return Dated(inner, self._dated(t, state.inner.x, inner.x, state.since)), log_g

    def refresh(self, key: RandomKey, s: Any, state: Dated) -> Dated:
        """The move at time s >= back, at which the twist has been evaluated."""
        model, old = self.model, state.inner
        kernel, backend = self._kernel, self._kernel.backend
        rows, xp = len(old.log_psi), backend.xp
        problems = self.num_problems or 1
        problem = np.repeat(np.arange(problems), rows // problems)
        value_key, accept_key, *draw_keys = split_keys(key, 2 + self.back)
        start = s - self.back
        since = xp.where(state.since > start, self.num_steps + 1, state.since)
        x = kernel.masked_at(old.x, state.since > start)
        for ahead, draw_key in enumerate(draw_keys, 1):
            prediction = kernel.predict(start + ahead - 1, x, problem, None)
            new_x = kernel.draw(draw_key, start + ahead, x, prediction)
            x, since = new_x, self._dated(start + ahead, x, new_x, since)
        if old.meter is not None:
            old.meter.add(nfe=rows * self.back)
        new = model._looked_at(_TWISTED, value_key, s, x, replace(old, prediction=None))
        # where the value is -inf, psi is that of an earlier time, which this path or the other did not share
        apart = (new.value == -xp.inf) | (old.value == -xp.inf)
        with double(xp):
            u = uniforms(accept_key, rows, (), xp)
            accepted = (xp.log(u) < new.log_psi - old.log_psi) & ~apart
        fresh = Dated(new, since)
        return backend.select(accepted, fresh, state)

    def _dated(self, t: Any, before: Any, after: Any, since: Any) -> Any:
        xp = self.model.kernel.backend.xp
        return xp.where(self._masks(before) & ~self._masks(after), t, since)

    def _masks(self, x: Any) -> Any:
        return self._kernel.masks(x)

    def take(self, state: Dated, ancestors: Any) -> Dated:
        inner = self.model.take(state.inner, ancestors)
        xp = self.model.kernel.backend.xp
        index = xp.asarray(ancestors).reshape(self.num_problems or 1, -1)
        index = index + np.arange(len(index))[:, None] * index.shape[1]
        return Dated(inner, state.since[index.reshape(-1)])

    def particles(self, state: Dated) -> Samples:
        return self.model.particles(state.inner)

    def resamples(self, t: Any) -> Any:
        return self.model.resamples(t)

    def cost(self, state: Dated) -> Cost | None:
        return self.model.cost(state.inner)
