"""What the searches share: a population that is moved through some of a model's steps."""

from typing import Any, NamedTuple

import jax

from smcgen.core._types import RandomKey
from smcgen.core.drivers import HostDriver, TracedDriver
from smcgen.diffusion.backends.base import PerRow, Tensor
from smcgen.diffusion.model import DiffusionModel
from smcgen.diffusion.state import DiffusionState


class Found(NamedTuple):
    """The best sample of each problem (one row, or one for each problem) and its reward."""

    data: Tensor
    reward: PerRow


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
    if key.ndim == 0:
        return jax.random.fold_in(key, number)
    return jax.vmap(lambda k: jax.random.fold_in(k, number))(key)


def grouped(values: PerRow, problems: int) -> PerRow:
    """(rows,) as (problems, rows of each)."""
    return values.reshape(problems, -1)
