"""A value learned from runs, and what to learn it from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.smc import smc
from smcgen.diffusion.backends.base import Index, Tensor
from smcgen.diffusion.base import Kernel, Scorer
from smcgen.diffusion.proposals.base import Base
from smcgen.errors import InvalidArgument


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Learned:
    """`v_t = fn(x_t, t / T) / strength`: no call of the reward before the end.

    Fit `fn` to what `experience` returns, for instance by `smcgen.learn.fit_twist`. How good it is decides the
    variance; the target is exact with any.

    Attributes:
        fn: from records, shape (rows, d + 1): x_t, flattened, and t / T; to `log psi`, shape (rows,), nats. JAX, or
            NumPy for a torch model.
    """

    fn: Callable[[Any], Any]

    def __call__(
        self,
        key: RandomKey,
        t: Any,
        x: Tensor,
        prediction: PyTree,
        problem: Index,
        kernel: Kernel,
        score: Scorer,
        strength: Any,
    ) -> Any:
        rows = kernel.backend.kept(x).reshape(len(x), -1)
        xp = jnp if kernel.backend.traceable else np
        time = xp.full((len(x), 1), t / kernel.num_steps)
        log_psi = self.fn(xp.concatenate([rows, time], axis=1))
        nothing = xp.asarray(strength) == 0  # `log psi` is then 0 whatever the value
        return xp.asarray(log_psi).reshape(len(x)) / xp.where(nothing, 1.0, strength)

    def reward_calls(self, rows: int) -> int:
        return 0


def experience(
    model: Any, key: RandomKey | int, n_particles: int = 256
) -> tuple[Float[np.ndarray, "pairs features"], Float[np.ndarray, " pairs"]]:
    """What states of the base model were worth in the end: data to fit a `Learned` value to.

    Args:
        model: a `DiffusionModel` of one problem; its twist and proposal are not used.
        key: a JAX key or a seed.
        n_particles: samples of the base model.

    Returns:
        Records x_t, flattened, with t / T in the last column, at each time at which the model's twist is evaluated;
        and `strength r(x_T)` of the sample that each became, nats. Row = time * n + sample.
    """
    if model.num_problems is not None:
        raise InvalidArgument("model", "a model of several problems", "one of a single problem")
    times = np.asarray(model.resampling_steps) - 1
    plain = replace(model, twist=None, ladder=None, proposal=Base(), candidates=1)
    run = smc(plain, key, n_particles, ess_threshold=0.0, keep="particles")
    records = [
        np.asarray(run.history[t].x if isinstance(run.history, list) else run.history.x[t])
        for t in times
    ]
    columns = [
        np.concatenate([x.reshape(len(x), -1), np.full((len(x), 1), t / model.num_steps)], axis=1)
        for x, t in zip(records, times, strict=True)
    ]
    worth = float(model.strength) * np.asarray(run.particles.reward, np.float64)
    return np.concatenate(columns), np.tile(worth, len(times))
