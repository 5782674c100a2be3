"""The Feynman-Kac interface: the one thing a model must be to run through any algorithm here.

A model is a Markov chain `M_0, M_1, ..., M_T` of populations with potentials `G_t >= 0`; a run estimates

    Z = E[ prod_t G_t(x_{0:t}) ]   and expectations under   pi(x_{0:T}) ∝ prod_t G_t(x_{0:t}) M_t(x_t | x_{0:t-1}).

Methods act on a whole population and are fused: one call moves it and weights it, because moving and
weighting share their forward pass. The state is opaque: a pytree of arrays for JAX models, or a
handle that an engine owns.

What a model may do beyond that (end early, count its own work, be checkpointed, ...) is said by
overriding a method of `FeynmanKac`, and in no other way: a method of the same name in a class that does
not inherit from it means something else, and is left alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol

import jax
import numpy as np

from smcgen.core._types import Ancestors, LogG, Mask, PyTree, RandomKey, State
from smcgen.core.cost import Cost


def take_leading(state: PyTree, ancestors: Ancestors) -> PyTree:
    """The default `take`: index the particle axis of every leaf (the second axis with problems)."""
    if ancestors.ndim == 1:
        return jax.tree.map(lambda x: x[ancestors], state)
    problems = np.arange(ancestors.shape[0])[:, None]
    return jax.tree.map(lambda x: x[problems, ancestors], state)


def needs(method: str) -> Callable[[Callable], Callable]:
    """Marks a method that works if a subclass has written another one; without it, it is not a capability."""

    def mark(function: Callable) -> Callable:
        vars(function)["needs"] = method
        return function

    return mark


class FeynmanKac(ABC, Generic[State]):
    """A Feynman-Kac model. `init`, `step` and `num_steps` are required, all else has a default.

    With several problems the model sets `num_problems`; then keys have shape (problems,), log potentials
    and ancestors (problems, n), and resampling stays within each problem.

    Attributes:
        num_steps: T, the number of calls of `step`; there are T + 1 times, 0 to T.
        traceable: the methods are pure JAX; the whole run is then one jitted `lax.scan`. Otherwise
            (an engine, torch, numpy) a Python loop drives the same jitted kernels.
        num_problems: None for one problem without a problem axis, else how many.
    """

    num_steps: int
    traceable: bool = True
    num_problems: int | None = None

    @abstractmethod
    def init(self, key: RandomKey, n: int) -> tuple[State, LogG]:
        """`x_0 ~ M_0` for n particles (of each problem), and `log G_0`."""

    @abstractmethod
    def step(self, key: RandomKey, t: Any, state: State) -> tuple[State, LogG]:
        """`x_t ~ M_t(. | x_{0:t-1})` and `log G_t(x_{0:t})`, for t = 1..num_steps."""

    def take(self, state: State, ancestors: Ancestors) -> State:
        """Particle i becomes a copy of particle `ancestors[i]`: *all* per-particle state, atomically."""
        return take_leading(state, ancestors)

    # ---- optional capabilities: used if a subclass overrides them -------------------------------

    def done(self, state: State) -> Mask | bool:
        """Whether every particle of a problem has ended; then all further `log G` must be 0.

        A finished problem is neither resampled nor weighted again. Default: none ends early.
        """
        return False

    def resamples(self, t: Any) -> Any:
        """Whether step t may begin with a resampling, whatever the run asks for. Default: any step may.

        A model says no where copies would stay copies (a deterministic step), or where it does not weight.
        """
        return True

    def record(self, state: State) -> PyTree:
        """What `keep="particles"` remembers, particle axis leading. Default: the state itself."""
        return state

    def particles(self, state: State) -> PyTree:
        """What `result.particles` is. Default: the state itself."""
        return state

    def cost(self, state: State) -> Cost | None:
        """What the run behind this state has cost so far. Default: calls of `step` are counted."""
        return None

    def describe(self, state: State, problem: int, particle: int) -> str:
        """One particle, readable, for an error message. Default: it is not shown."""
        return ""

    def close(self, state: State) -> None:
        """Free what the state holds when the run ends; its particles stay readable."""
        return

    # Conditional SMC: particle 0 (of each problem) is forced along a reference path, and scored like any
    # other. A path has a `record` for each time; a reference is one of them, without its particle axis.

    def init_pinned(self, key: RandomKey, n: int, reference: PyTree) -> tuple[State, LogG]:
        """`init`, with particle 0 at `reference`, the path's record of time 0."""
        raise NotImplementedError

    def step_pinned(
        self, key: RandomKey, t: Any, state: State, reference: PyTree
    ) -> tuple[State, LogG]:
        """`step`, with particle 0 moved to `reference`, the path's record of time t."""
        raise NotImplementedError

    def log_continue(self, t: Any, state: State, path: PyTree) -> LogG:
        """How well each particle's past goes with the reference's future: for ancestor sampling.

        `log prod_{s >= t} M_s G_s` of the path `(x_{0:t-1}^i, x_{t:T}^reference)`, up to a constant that is
        the same for all particles (of a problem). `state` is that of time t - 1; `reference.at(path, t)` is
        the path's record of time t.
        """
        raise NotImplementedError

    def log_transition(self, t: Any, previous: PyTree, current: PyTree) -> LogG:
        """`log M_t(current | previous) G_t(previous, current)`: for backward sampling.

        Records of time t - 1 and t with a particle axis, element by element. Only of models whose law at
        time t depends on the past through the record of time t - 1 alone.
        """
        raise NotImplementedError

    # Checkpointing: override all three, or none for a state that is a pytree of arrays.

    def fingerprint(self) -> str:
        """What identifies model and settings; a checkpoint with another fingerprint is refused."""
        raise NotImplementedError

    def dump(self, state: State) -> Mapping[str, np.ndarray]:
        """The state as named arrays."""
        raise NotImplementedError

    def load(self, key: RandomKey, n: int, arrays: Mapping[str, np.ndarray]) -> State:
        """The state that `dump` wrote; whatever an engine owns is built anew."""
        raise NotImplementedError


class Model(Protocol):
    """A model that does not inherit from `FeynmanKac`: what it must have, and all it is asked for.

    `take`, `traceable` and `num_problems` are used if it has them.
    """

    @property
    def num_steps(self) -> int:
        """T, the number of calls of `step`."""
        ...

    def init(self, key: Any, n: int) -> tuple[Any, Any]:
        """`x_0 ~ M_0`, and `log G_0`."""
        ...

    def step(self, key: Any, t: Any, state: Any) -> tuple[Any, Any]:
        """`x_t ~ M_t(. | x_{0:t-1})`, and `log G_t`."""
        ...
