"""State-space models, written with NumPyro distributions.

x_0 ~ mu(x_0),   x_t ~ f_t(x_t | x_{t-1}),   y_t ~ g_t(y_t | x_t),   t = 0..T
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from smcgen.core import compile as compiling
from smcgen.core._types import PyTree, RandomKey
from smcgen.core.arguments import check_counts, keys_of
from smcgen.ssm._tree import Tree
from smcgen.ssm.inputs import check_inputs
from smcgen.ssm.laws import Law, draw
from smcgen.ssm.validity import check_finite, check_laws


class Simulation(NamedTuple):
    """A simulated series.

    Attributes:
        states: `x_{0:T}`, arrays of shape (T + 1, ...), or (series, T + 1, ...).
        observations: `y_{0:T}`, the same.
    """

    states: PyTree
    observations: PyTree


class StateSpaceModel(Tree, ABC):
    """A state-space model: three laws. Its annotated fields are its parameters.

    A subclass is a frozen dataclass and a pytree whose leaves are the parameters, so `jit`, `vmap` and `grad` over them
    work, and new values compile nothing.

    Each law is a NumPyro distribution with batch shape (n,), one for each particle, or (), the same for all; or a
    dictionary of them (`smcgen.ssm.laws`), and then states or observations are dictionaries of arrays. States may
    be vectors (`to_event(1)`, `MultivariateNormal`) and integers (`Categorical`). What changes with time, such as
    covariates, is a field too, indexed by t: see `smcgen.ssm.Inputs`.

    Example:
        Stochastic volatility::

            class StochasticVolatility(StateSpaceModel):
                mu: float
                rho: float
                sigma: float
                def initial(self):
                    return dist.Normal(self.mu, self.sigma / jnp.sqrt(1 - self.rho**2))
                def transition(self, t, x):
                    return dist.Normal(self.mu + self.rho * (x - self.mu), self.sigma)
                def observation(self, t, x):
                    return dist.Normal(0, jnp.exp(x / 2))
    """

    @abstractmethod
    def initial(self) -> Law:
        """Law of `x_0`; batch shape ()."""

    @abstractmethod
    def transition(self, t: Any, x_prev: Any) -> Law:
        """Law of `x_t` given `x_{t-1}`, shape (n, ...), for t = 1, 2, ..."""

    @abstractmethod
    def observation(self, t: Any, x: Any) -> Law:
        """Law of `y_t` given `x_t`, shape (n, ...), for t = 0, 1, ..."""

    def simulate(
        self, key: RandomKey | int, num_steps: int, num_series: int | None = None
    ) -> Simulation:
        """Draw `x_{0:T}` and `y_{0:T}`, T = `num_steps`; `num_series` of them if it is given.

        Raises:
            InvalidArgument: a number is not an integer >= 1 (>= 0 for steps); inputs end before time T; a parameter is
                not finite, or breaks a constraint of its law.
            ModelError: a law has a wrong shape.
        """
        check_counts(0, num_steps=num_steps)
        if num_series is not None:
            check_counts(num_series=num_series)
        check_inputs(self, num_steps + 1, f"to simulate {num_steps} steps")
        check_finite(self)
        check_laws(self, num_steps, drawn=True)
        run = compiled(_simulate, self, static=(1, 2))
        series = run(keys_of(key, None), num_steps, num_series or 1)
        return series if num_series else jax.tree.map(lambda x: x[0], series)


def _simulate(model: StateSpaceModel, key: RandomKey, num_steps: int, n: int) -> Simulation:
    k0, k1, steps = jax.random.split(key, 3)
    first = draw(model.initial(), k0, n, "initial()")
    seen = draw(model.observation(0, first), k1, n, "observation(0, x)")
    times = jnp.arange(1, num_steps + 1, dtype=jnp.int32)
    _, later = onwards(model, steps, first, times, n)
    joined = lambda a, b: jnp.swapaxes(jnp.concatenate([a[None], b]), 0, 1)
    return Simulation(*jax.tree.map(joined, (first, seen), later))


def compiled(function: Callable[..., Any], model: Any, static: tuple[int, ...] = ()) -> Any:
    """`partial(function, model)`, jitted unless we are being traced already; see `smcgen.core.compile.jitted`."""
    if compiling.inside_trace():
        return partial(function, model)
    return compiling.jitted(function, model, static)


def onwards(
    model: StateSpaceModel, key: RandomKey, x: PyTree, times: Any, n: int
) -> tuple[PyTree, tuple[PyTree, PyTree]]:
    """Move n particles through `times`; the last states, and states and observations with time leading."""

    def step(x: PyTree, t: Any) -> tuple[PyTree, tuple[PyTree, PyTree]]:
        move, see = jax.random.split(jax.random.fold_in(key, t))
        x = draw(model.transition(t, x), move, n, "transition(t, x_prev)")
        return x, (x, draw(model.observation(t, x), see, n, "observation(t, x)"))

    return jax.lax.scan(step, x, times)
