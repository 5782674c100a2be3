"""The Feynman-Kac interface: the one thing a model must be to run through any algorithm here.

A model is a Markov chain `M_0, M_1, ..., M_T` of populations with potentials `G_t >= 0`; a run estimates

    Z = E[ prod_t G_t(x_{0:t}) ]   and expectations under   pi(x_{0:T}) ∝ prod_t G_t(x_{0:t}) M_t(x_t | x_{0:t-1}).

Methods act on a whole population and are fused: one call moves it and weights it, because moving and
weighting share their forward pass. The state is opaque: a pytree of arrays for JAX models, or a
handle that an engine owns.

Optional capabilities are Protocols of their own, checked once when a run is built.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from smcgen.core._types import Ancestors, LogG, Mask, PyTree, RandomKey, State
from smcgen.core.compile import Program, split
from smcgen.core.cost import Cost
from smcgen.errors import ModelError


class FeynmanKac(Protocol[State]):
    """A Feynman-Kac model. Inherit from it for the default `take`, or just have its methods.

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

    def init(self, key: RandomKey, n: int) -> tuple[State, LogG]:
        """`x_0 ~ M_0` for n particles (of each problem), and `log G_0`."""
        ...

    def step(self, key: RandomKey, t: Any, state: State) -> tuple[State, LogG]:
        """`x_t ~ M_t(. | x_{0:t-1})` and `log G_t(x_{0:t})`, for t = 1..num_steps."""
        ...

    def take(self, state: State, ancestors: Ancestors) -> State:
        """Particle i becomes a copy of particle `ancestors[i]`: *all* per-particle state, atomically."""
        return take_leading(state, ancestors)


@runtime_checkable
class HasDone(Protocol):
    """Problems can finish early; a finished problem is neither resampled nor weighted again."""

    def done(self, state: Any) -> Mask:
        """Whether every particle of a problem has ended; then all further `log G` must be 0."""
        ...


@runtime_checkable
class HasRecord(Protocol):
    """The model says what of a state is kept by `keep="particles"`; default: the state itself."""

    def record(self, state: Any) -> PyTree:
        """What a person wants to look at afterwards, with the particle axis leading."""
        ...


@runtime_checkable
class HasParticles(Protocol):
    """The model says what `result.particles` is; default: the state itself."""

    def particles(self, state: Any) -> PyTree:
        """The particles of a state, for the user."""
        ...


@runtime_checkable
class HasCost(Protocol):
    """The model counts its own work (tokens, reward calls)."""

    def cost(self, state: Any) -> Cost:
        """What the run behind this state has cost so far."""
        ...


@runtime_checkable
class HasDescription(Protocol):
    """The model can show a particle in an error message."""

    def describe(self, state: Any, problem: int, particle: int) -> str:
        """One particle, readable."""
        ...


@runtime_checkable
class Checkpointable(Protocol):
    """The state of a run can be written as arrays and rebuilt. Default: a pytree's leaves."""

    def fingerprint(self) -> str:
        """What identifies model and settings; a checkpoint with another fingerprint is refused."""
        ...

    def dump(self, state: Any) -> Mapping[str, np.ndarray]:
        """The state as named arrays."""
        ...

    def load(self, key: RandomKey, n: int, arrays: Mapping[str, np.ndarray]) -> Any:
        """The state that `dump` wrote; whatever an engine owns is built anew."""
        ...


@runtime_checkable
class Closeable(Protocol):
    """The state holds something to be freed when the run ends."""

    def close(self, state: Any) -> None:
        """Free what the state holds; its particles stay readable."""
        ...


def take_leading(state: PyTree, ancestors: Ancestors) -> PyTree:
    """The default `take`: index the particle axis of every leaf (the second axis with problems)."""
    if ancestors.ndim == 1:
        return jax.tree.map(lambda x: x[ancestors], state)
    problems = np.arange(ancestors.shape[0])[:, None]
    return jax.tree.map(lambda x: x[problems, ancestors], state)


@dataclass(frozen=True)
class Resolved:
    """A model's methods, looked up once when a run is built; None is a capability it lacks."""

    num_steps: int
    traceable: bool
    num_problems: int | None
    init: Callable
    step: Callable
    take: Callable
    done: Callable | None
    record: Callable | None
    particles: Callable | None
    cost: Callable | None
    describe: Callable | None
    close: Callable | None
    checkpointing: "Checkpointable | None"

    def on_host(self) -> "Resolved":
        """For a model that is not traceable: ancestors are numpy, which torch and engines can index by."""
        return replace(self, take=lambda state, a: self.take(state, np.asarray(a)))

    def jitted(self, model: Any) -> "Resolved":
        """For a traceable model that is driven from Python: each method compiled on its own."""
        methods = {name: partial(_compiled, *split(model), name) for name in ("step", "take")}
        return replace(self, init=partial(_compiled_init, *split(model)), **methods)


@partial(jax.jit, static_argnums=(0, 2))
def _compiled(program: Program, arrays: list, name: str, *arguments: Any) -> Any:
    return getattr(resolve(program.model(arrays)), name)(*arguments)


@partial(jax.jit, static_argnums=(0, 3))
def _compiled_init(program: Program, arrays: list, key: Any, n: int) -> Any:
    return program.model(arrays).init(key, n)


def resolve(model: Any) -> Resolved:
    """Check that `model` is a Feynman-Kac model and find its capabilities.

    Raises:
        ModelError: it is not; the message names what is missing.
    """
    missing = [name for name in ("init", "step") if not callable(getattr(model, name, None))]
    if not isinstance(getattr(model, "num_steps", None), int | np.integer):
        missing.append("num_steps (an int)")
    if missing:
        raise ModelError(
            f"{type(model).__name__} is not a Feynman-Kac model: it lacks {', '.join(missing)}; "
            "see smcgen.FeynmanKac"
        )
    return Resolved(
        num_steps=int(model.num_steps),
        traceable=bool(getattr(model, "traceable", True)),
        num_problems=getattr(model, "num_problems", None),
        init=model.init,
        step=model.step,
        take=getattr(model, "take", take_leading),
        done=_capability(model, HasDone, "done"),
        record=_capability(model, HasRecord, "record"),
        particles=_capability(model, HasParticles, "particles"),
        cost=_capability(model, HasCost, "cost"),
        describe=_capability(model, HasDescription, "describe"),
        close=_capability(model, Closeable, "close"),
        checkpointing=model if isinstance(model, Checkpointable) else None,
    )


def _capability(model: Any, protocol: Any, name: str) -> Callable | None:
    """The one method of a capability, if the model has it; mere data of that name is not one."""
    method = getattr(model, name) if isinstance(model, protocol) else None
    return method if callable(method) else None
