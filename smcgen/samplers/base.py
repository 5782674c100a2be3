"""SMC samplers over whole models: paths of targets, and kernels that move particles along them.

A sampler is a Feynman-Kac model (Del Moral, Doucet and Jasra 2006). Given targets `pi_a ∝ gamma_a` at positions
`a_0 < a_1 < ... < a_L` of a path, step t moves each particle by a kernel that leaves `pi_{a_t}` invariant and weights
it by

    G_t(x_t) = gamma_{a_{t+1}}(x_t) / gamma_{a_t}(x_t),

so that `Z-hat` estimates `Z_{a_L} / Z_{a_0}`: the evidence, if the path leads from a normalised prior to prior times
likelihood.

Three families of parts, each with its contract here:

* a `Path` says what the targets are, and evaluates them;
* a `Kernel` moves one particle and leaves a target invariant; its scale is tuned from the particles between steps;
* a ladder (`smcgen.samplers.ladders`) says which positions of the path are visited.

A density may be a random, unbiased estimate: what the estimator needs to go on (a particle filter's population, say)
is kept in `Point.estimate`, and a kernel that only calls `Target.evaluate` and `Target.log_density` is then
pseudo-marginal (Andrieu and Roberts 2009). SMC² and PMMH are such paths.
"""

from abc import ABC, abstractmethod
from typing import Any, Generic, NamedTuple, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from smcgen.core._types import PyTree, RandomKey

Scalar = Float[Array, ""]
Inner = TypeVar("Inner")


class Point(NamedTuple):
    """A position, and what was paid for: its densities. Leaves get leading axes in a population.

    Attributes:
        x: the position, a pytree.
        log_prior: log density of the target at the start of the path, nats.
        log_likelihood: the rest (all of it, or that of the batches of data seen so far), nats.
        estimate: what a random estimator of `log_likelihood` carries along; () if it is exact.
    """

    x: PyTree
    log_prior: Any
    log_likelihood: Any
    estimate: PyTree = ()


class Path(ABC):
    """Targets `gamma_a` for positions a from `start` to `end`, one particle at a time.

    Paths are registered pytrees: their arrays are data, another data set is the same program.

    Attributes:
        start, end: positions of the first target, which `sample` draws from exactly, and of the last.
        continuous: any position in between is a target, so that a ladder can be chosen by bisection;
            then `log_ratio` costs nothing, and persistent sampling can go back to past targets.
        differentiable: `evaluate` is deterministic and differentiable in x, as MALA, HMC and NUTS need it.
    """

    start: Any = 0.0
    end: Any = 1.0
    continuous: bool = True
    differentiable: bool = True

    @abstractmethod
    def sample(self, key: RandomKey) -> PyTree:
        """A position x from the normalised first target."""

    @abstractmethod
    def evaluate(self, key: RandomKey | None, x: PyTree, at: Any) -> Point:
        """Pay for the densities of x that the target at this position needs."""

    def log_density(self, point: Point, at: Any) -> Scalar:
        """`log gamma_a` of a point that was evaluated there. Here `log prior + a log likelihood`."""
        return jnp.asarray(point.log_prior) + power(point.log_likelihood, at)

    def log_ratio(self, point: Point, at: Any, to: Any) -> Scalar:
        """`log gamma_to - log gamma_at`, for continuous paths."""
        return power(point.log_likelihood, to - at)

    def advance(self, key: RandomKey, point: Point, at: Any, to: Any) -> tuple[Point, Scalar]:
        """The point evaluated at a later position, and the log of the ratio of the two targets."""
        return point, self.log_ratio(point, at, to)


def power(log_likelihood: Any, at: Any) -> Float[Array, "*n"]:
    """`a log L`, which is 0 at a = 0 even where L = 0."""
    scaled = jnp.asarray(at) * log_likelihood
    return jnp.where(jnp.asarray(at) == 0, jnp.zeros_like(scaled), scaled)


class Target(NamedTuple):
    """One target of a path: what a kernel leaves invariant."""

    path: Path
    at: Any

    def evaluate(self, key: RandomKey | None, x: PyTree) -> Point:
        """Pay for the densities of x."""
        return self.path.evaluate(key, x, self.at)

    def log_density(self, point: Point) -> Scalar:
        """Log density of an evaluated point; free."""
        return self.path.log_density(point, self.at)


class Moved(NamedTuple):
    """What a move did: its probability of acceptance, and how many evaluations of the target it took."""

    acceptance: Any
    evaluations: Any


class Kernel(ABC, Generic[Inner]):
    """A Markov kernel that leaves a target invariant, for one particle; samplers map it over all.

    `enter`, `step` any number of times, `leave`: in between, a kernel may carry a state of its own (a
    gradient, say). By default that state is the point itself.

    Attributes:
        moves: how many steps are usual between two targets.
    """

    moves: int = 10

    def check(self, path: Path, x: PyTree) -> None:
        """Raise `InvalidArgument` if this kernel cannot move x on this path. Default: any x will do."""
        return

    def tune(self, tuning: PyTree, x: PyTree, log_weights: Any, acceptance: Any) -> PyTree:
        """Parameters for the next target, from the weighted population and the acceptance so far.

        Args:
            tuning: what the last call returned; None at first.
            x: positions, particle axis leading.
            log_weights: shape (n,), not normalised.
            acceptance: mean acceptance under the last target; None at first, NaN if nothing moved.
        """
        return ()

    def enter(self, target: Target, point: Point, tuning: PyTree) -> Any:
        """The kernel's state at a point."""
        return point

    @abstractmethod
    def step(self, key: RandomKey, target: Target, state: Any, tuning: PyTree) -> tuple[Any, Moved]:
        """One move."""

    def leave(self, key: RandomKey, target: Target, state: Any, tuning: PyTree) -> Point:
        """The point of a state."""
        return state

    def position(self, state: Any, tuning: PyTree) -> PyTree:
        """The position x of a state."""
        return state.x
