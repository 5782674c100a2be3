"""Lookahead: resample by what particles are worth to the future, and draw as before."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from smcgen.core._types import LogG, PyTree, RandomKey
from smcgen.core.markov import Markov
from smcgen.errors import ModelError


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Lookahead(Markov):
    """A model with the same kernels, weighted by a guess psi_t of what the future is worth:

        G'_t(x_{t-1}, x_t) = G_t(x_{t-1}, x_t) psi_t(x_t) / psi_{t-1}(x_{t-1}),    psi_{-1} = psi_T = 1.

    The product telescopes: the target and E[Z-hat] are those of `model`, for any psi > 0. Good is the expected product
    of the potentials after t, `psi_t = M_{t+1}(G_{t+1} psi_{t+1})` (Pitt and Shephard 1999; Lin, Chen and Liu 2013).
    It asks nothing of the model but draws: the twist to use where `Twisted` cannot tilt the kernels.

    Args:
        model: any `Markov` model.
        twist: `log psi_t(x)`: a function of t and the population, to shape (n,). It is not asked at T.

    Raises:
        ModelError: the model is not `Markov`, or the twist returns another shape; when it is first run.
    """

    model: Any
    twist: Any

    @property
    def num_steps(self) -> int:
        return self.model.num_steps

    @property
    def traceable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.model.traceable

    @property
    def num_problems(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.model.num_problems

    def draw_initial(self, key: RandomKey, n: int) -> PyTree:
        return self.model.draw_initial(key, n)

    def draw(self, key: RandomKey, t: Any, x_prev: PyTree) -> PyTree:
        return self.model.draw(key, t, x_prev)

    def log_initial(self, x: PyTree) -> LogG:
        return self.model.log_initial(x)

    def log_m(self, t: Any, x_prev: PyTree, x: PyTree) -> LogG:
        return self.model.log_m(t, x_prev, x)

    def log_g(self, t: Any, x_prev: PyTree | None, x: PyTree) -> LogG:
        log_g = self.model.log_g(t, x_prev, x)
        new = jnp.where(t < self.num_steps, self._log_psi(t, x, jnp.shape(log_g)), 0.0)
        if x_prev is None:
            return log_g + new
        old = self._log_psi(t - 1, x_prev, jnp.shape(log_g))
        # what was worth nothing has weight 0 already
        return jnp.where(old == -jnp.inf, -jnp.inf, log_g + new - old)

    def _log_psi(self, t: Any, x: PyTree, shape: tuple[int, ...]) -> Any:
        log_psi = self.twist(t, x)
        if jnp.shape(log_psi) != shape:
            raise ModelError(
                f"the twist of Lookahead gives shape {jnp.shape(log_psi)}; expected {shape}: one number per particle"
            )
        return log_psi
