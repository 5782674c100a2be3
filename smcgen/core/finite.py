"""The discrete particle filter: a chain over finitely many states, every state tried from every particle."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from smcgen.core._types import LogG, RandomKey
from smcgen.core.feynman_kac import FeynmanKac
from smcgen.errors import InvalidArgument


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FiniteChain(FeynmanKac):
    """`x_0 ~ exp(log_initial)`, `x_t ~ exp(log_move[x_{t-1}])`, `log G_t = log_g[t, x_t]`, without random moves.

    Run it with `Optimal(k)`, which splits each particle into k copies; copy j moves to state j and is weighted by
    the probability of doing so:

        smc(FiniteChain(...), key, n_particles=64 * k, resampling=Optimal(k), ess_threshold=1)

    While there are fewer paths than `n_particles / k`, the run is exact enumeration; after that light paths are thinned
    out at random, and Z-hat is unbiased. Fearnhead and Clifford (2003).

    Args:
        log_initial: shape (k,).
        log_move: shape (k, k), rows of sum 1 in `exp`.
        log_g: shape (T + 1, k), nats.
    """

    log_initial: Any
    log_move: Any
    log_g: Any

    @property
    def num_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.log_g.shape[0] - 1

    @property
    def num_states(self) -> int:
        """k."""
        return self.log_g.shape[1]

    def init(self, key: RandomKey, n: int) -> tuple[Any, LogG]:
        if n % self.num_states:
            raise InvalidArgument("n_particles", n, f"a multiple of {self.num_states}, the states")
        slot = jnp.arange(n, dtype=jnp.int32)
        x = slot % self.num_states
        log_w = jnp.log(n) + self.log_initial[x] + self.log_g[0][x]
        return x, jnp.where(slot < self.num_states, log_w, -jnp.inf)  # each state once

    def step(self, key: RandomKey, t: Any, state: Any) -> tuple[Any, LogG]:
        x = jnp.arange(len(state), dtype=jnp.int32) % self.num_states
        return x, jnp.log(self.num_states) + self.log_move[state, x] + self.log_g[t][x]
