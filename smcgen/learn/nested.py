"""Nested SMC: each particle has a small particle system of its own to find its next state."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from smcgen.core._types import LogG, PyTree, RandomKey
from smcgen.core.feynman_kac import FeynmanKac
from smcgen.core.markov import Markov
from smcgen.core.reference import repeated
from smcgen.core.smc import smc
from smcgen.errors import InvalidArgument, ModelError


class Pending(NamedTuple):
    """The state: where particles are, and the inner systems from which their next states will be picked."""

    x: PyTree  # (n, ...)
    inner: PyTree  # (n, inner_particles, ...)
    log_weights: Any  # (n, inner_particles)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Nested(FeynmanKac):
    """A model whose particles look a step ahead with an inner SMC, and then pick the best of it.

    Locally optimal is to move by `M_t G_t` normalised and to weight by `c_t(x_{t-1}) = M_t(G_t)(x_{t-1})`. An inner SMC
    of m particles with this target gives both, *properly weighted*: `E[c-hat_t f(x-hat_t)] = ∫ M_t G_t f`. So the
    weight is c-hat, one of the inner particles is the next state, and E[Z-hat] = Z for every m >= 1, inner model
    and resampling (Naesseth, Lindsten and Schön 2015, algorithm 2). As there, `c-hat_{t+1}(x_t)` is known before x_t is
    resampled:

        G'_0 = c-hat_0 c-hat_1(x_0),    G'_t = c-hat_{t+1}(x_t)  (t < T),    G'_T = 1

    so copies of one particle pick different next states, and as m grows this becomes the fully adapted filter.

    Args:
        model: a traceable `Markov` model.
        inner_particles: m.
        inner: `inner(t, x_prev) -> model`: a traceable `FeynmanKac` model for *one* particle's next state (`x_prev`
            without a particle axis; None at t = 0), whose final particles are states x_t and whose `Z · target(x_t)` is
            `M_t(x_t | x_prev) G_t(x_prev, x_t)`: over the coordinates of a vector, say. The default draws from `M_t`
            and weights by `G_t`.
        resampling, ess_threshold: for the inner `smcgen.smc`.

    `particles`, records and trajectories are those of x. It is no `Markov` model: its moves have no density.
    """

    model: Any
    inner_particles: int = field(metadata={"static": True})
    inner: Callable[[Any, PyTree | None], FeynmanKac] | None = field(
        default=None, metadata={"static": True}
    )
    resampling: Any = field(default="systematic", metadata={"static": True})
    ess_threshold: float = field(default=0.5, metadata={"static": True})

    @property
    def num_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.model.num_steps

    def init(self, key: RandomKey, n: int) -> tuple[Pending, LogG]:
        self._check()
        start, pick, ahead = jax.random.split(key, 3)
        found = jax.vmap(lambda key: self._search(key, 0, None))(jax.random.split(start, n))
        x = _picked(pick, found.particles, found.log_weights)
        state, log_g = self._look(ahead, 0, x)
        return state, found.log_evidence + log_g

    def step(self, key: RandomKey, t: Any, state: Pending) -> tuple[Pending, LogG]:
        pick, ahead = jax.random.split(key)
        return self._look(ahead, t, _picked(pick, state.inner, state.log_weights))

    def record(self, state: Pending) -> PyTree:
        return state.x

    def particles(self, state: Pending) -> PyTree:
        return state.x

    def _look(self, key: RandomKey, t: Any, x: PyTree) -> tuple[Pending, LogG]:
        """Inner systems for time t + 1, and the log of what they promise."""
        keys = jax.random.split(key, len(jax.tree.leaves(x)[0]))
        following = jnp.minimum(t + 1, self.num_steps)
        found = jax.vmap(lambda key, x: self._search(key, following, x))(keys, x)
        log_g = jnp.where(t < self.num_steps, found.log_evidence, 0.0)
        return Pending(x, found.particles, found.log_weights), log_g

    def _search(self, key: RandomKey, t: Any, x_prev: PyTree | None) -> Any:
        inner = OneMove(self.model, t, x_prev) if self.inner is None else self.inner(t, x_prev)
        return smc(
            inner,
            key,
            self.inner_particles,
            resampling=self.resampling,
            ess_threshold=self.ess_threshold,
            keep="summary",
            on_error="return",
        )

    def _check(self) -> None:
        if not isinstance(self.model, Markov) or not self.model.traceable:
            raise ModelError(
                f"Nested needs a traceable smcgen.Markov model; {type(self.model).__name__} is not"
            )
        if self.model.num_problems is not None:
            raise ModelError(f"Nested takes one problem; this model has {self.model.num_problems}")
        m = self.inner_particles
        if isinstance(m, bool) or not isinstance(m, int) or m < 1:
            raise InvalidArgument("inner_particles", m, "an integer >= 1")


class OneMove(FeynmanKac):
    """`M_t G_t` of one particle, by importance sampling: a model of no steps."""

    num_steps = 0

    def __init__(self, model: Markov, t: Any, x_prev: PyTree | None):
        self.model, self.t, self.x_prev = model, t, x_prev

    def init(self, key: RandomKey, n: int) -> tuple[PyTree, LogG]:
        if self.x_prev is None:
            x = self.model.draw_initial(key, n)
            return x, self.model.log_g(0, None, x)
        x_prev = repeated(self.x_prev, n)
        x = self.model.draw(key, self.t, x_prev)
        return x, self.model.log_g(self.t, x_prev, x)

    def step(self, key: RandomKey, t: Any, state: PyTree) -> tuple[PyTree, LogG]:
        return state, jnp.zeros(len(jax.tree.leaves(state)[0]))  # traced, never run


def _picked(key: RandomKey, inner: PyTree, log_weights: Any) -> PyTree:
    """One inner particle for each particle, by weight."""
    index = jax.random.categorical(key, log_weights, axis=-1)
    pick = jax.vmap(lambda x, i: x[i])
    return jax.tree.map(lambda x: pick(x, index), inner)
