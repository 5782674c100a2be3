"""What the searches share: a population that is moved through some of a model's steps, and no resampling."""

from typing import Any, NamedTuple

import jax

from smcgen.core._types import RandomKey, State
from smcgen.core.cost import Cost
from smcgen.core.drivers import HostDriver, TracedDriver
from smcgen.core.feynman_kac import FeynmanKac
from smcgen.core.place import beside
from smcgen.diffusion.backends.base import PerRow, Tensor
from smcgen.diffusion.model import DiffusionModel
from smcgen.diffusion.state import DiffusionState


class Found(NamedTuple):
    """The best sample of each problem (one row, or one for each problem) and its reward."""

    data: Tensor
    reward: PerRow


class Search(FeynmanKac[State]):
    """A search on a diffusion model, run by the same body as all else; its state has a `meter`."""

    model: DiffusionModel

    @property
    def traceable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the model."""
        return self.model.traceable

    @property
    def num_problems(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the model."""
        return self.model.num_problems

    def resamples(self, t: Any) -> Any:
        """Never: a search selects by itself."""
        return False

    def take(self, state: State, ancestors: Any) -> State:
        return state

    def cost(self, state: Any) -> Cost | None:
        """Calls of denoiser and reward so far; None inside a JAX program."""
        return None if state.meter is None else state.meter.read()

    def _log_g(self, rewards: PerRow) -> PerRow:
        """Nothing is weighted; but a reward of NaN or +inf stops the run as it does everywhere."""
        xp = self.model.kernel.backend.xp
        return self._per_problem(xp.where(xp.isnan(rewards) | (rewards == xp.inf), xp.nan, 0.0))

    def _per_problem(self, values: PerRow) -> PerRow:
        return values if self.num_problems is None else grouped(values, self.num_problems)


def denoised(
    model: DiffusionModel, key: RandomKey, state: DiffusionState, start: Any, steps: int
) -> DiffusionState:
    """The state after steps `start + 1 .. start + steps` of the model."""

    def body(state: DiffusionState, j: Any) -> tuple[DiffusionState, None]:
        moved, _ = model.step(folded(key, j), start + j, state)
        return moved, None

    driver = TracedDriver() if model.traceable else HostDriver(lambda _: False, lambda *_: None)
    return driver.loop(body, state, 1, steps)[0]


def folded(key: RandomKey, number: Any) -> RandomKey:
    """`fold_in`, of one key or one for each problem."""
    with beside(key):
        if key.ndim == 0:
            return jax.random.fold_in(key, number)
        return jax.vmap(lambda k: jax.random.fold_in(k, number))(key)


def grouped(values: PerRow, problems: int) -> PerRow:
    """(rows,) as (problems, rows of each)."""
    return values.reshape(problems, -1)
