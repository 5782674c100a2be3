"""A ladder of strengths that keeps the particles together, found by bisection on the effective sample size."""

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.smc import smc
from smcgen.diffusion.backends.base import PerRow
from smcgen.diffusion.base import Value
from smcgen.diffusion.proposals.base import Base
from smcgen.diffusion.values.prediction import AtPrediction
from smcgen.errors import InvalidArgument

_HALVINGS = 30


def find_ladder(
    model: Any, key: RandomKey | int, n_particles: int = 64, *, ess: float = 0.9
) -> Float[np.ndarray, " times"]:
    """A ladder for `DiffusionModel(ladder=...)`: strengths that rise as fast as the ESS allows.

    A pilot run, resampled at every step that the model allows, raises `lambda_t` from `lambda_{t-1}` as far as

        ESS of exp(lambda_t v_t - lambda_s v_s) >= ess * n,       s the last time before, lambda_t <= strength,

    as tempered SMC does and DAS (Kim et al. 2025, section 4.2). The run that uses the ladder is another one, with
    the ladder fixed, so that its evidence is unbiased: a ladder that is adapted while it runs would bias it.

    Args:
        model: a `DiffusionModel` with a twist; its ladder, proposal and candidates are not used. Of several
            problems, the slowest one decides.
        key: a JAX key or a seed, other than that of the run to come.
        n_particles: of the pilot run.
        ess: in (0, 1).

    Returns:
        `lambda_t / strength` for t = 0..T; the last of them is 1.
    """
    if not 0 < ess < 1:
        raise InvalidArgument("ess", ess, "a number in (0, 1)")
    if model.twist is None or model.twist.value is None:
        raise InvalidArgument("model", "a model without a twist", "one that looks before the end")
    if model.strength == 0:
        raise InvalidArgument("model", "a model of strength 0", "another strength: nothing rises")
    rising = _Rising(model.twist.value, ess, model.num_problems or 1)
    pilot = replace(model, twist=rising, ladder=None, proposal=Base(), candidates=1)
    run = smc(pilot, key, n_particles, ess_threshold=1.0, keep="particles")
    history: Any = run.history  # a list over time for a model that is not traceable
    strengths = [r.memory for r in history] if isinstance(history, list) else history.memory
    relative = np.asarray(strengths, np.float64) / float(model.strength)
    ladder = np.maximum.accumulate(relative.reshape(model.num_steps + 1, -1).min(1))
    ladder[-1] = 1.0
    return ladder


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Rising:
    """`log psi_t = lambda_t v_t` with lambda_t by bisection; the memory is lambda_t, the same for all of a problem."""

    value: Value = AtPrediction()
    ess: float = field(default=0.9, metadata={"static": True})
    problems: int = field(default=1, metadata={"static": True})

    def start(self, rows: int, xp: Any) -> PyTree:
        return xp.zeros(rows)

    def update(
        self, strength: Any, value: PerRow, memory: PyTree, log_psi: PerRow, xp: Any
    ) -> tuple[PerRow, PyTree]:
        values, before = value.reshape(self.problems, -1), log_psi.reshape(self.problems, -1)

        def enough(rung: Any) -> Any:
            log_w = rung[:, None] * values - before
            w = xp.exp(log_w - log_w.max(1, keepdims=True))
            return w.sum(1) ** 2 >= self.ess * w.shape[1] * (w * w).sum(1)

        low = memory.reshape(self.problems, -1)[:, 0]
        high = xp.full(self.problems, 1.0) * strength
        reached = enough(high)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            fine = enough(middle)
            low, high = xp.where(fine, middle, low), xp.where(fine, high, middle)
        rung = xp.where(reached, strength, low)
        rows = xp.repeat(rung, values.shape[1])
        return rows * value, rows
