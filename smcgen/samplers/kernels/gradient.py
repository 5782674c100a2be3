"""MALA, HMC and NUTS (blackjax), in coordinates in which the particles are white."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from smcgen.core._types import PyTree, RandomKey
from smcgen.errors import InvalidArgument
from smcgen.samplers.base import Moved, Path, Point, Scalar, Target
from smcgen.samplers.kernels._blackjax import blackjax
from smcgen.samplers.kernels.tuning import Scale, Scaled, static


class Local(NamedTuple):
    """A chain that began at x: blackjax's state, its position z in `x + F z`, and so exactly x if nothing moved."""

    x: PyTree
    chain: Any


@dataclass(frozen=True)
class Gradient(Scaled):
    """What the three have in common."""

    def check(self, path: Path, x: PyTree) -> None:
        """x must be real, the path differentiable."""
        super().check(path, x)
        if not path.differentiable:
            found = f"{type(self).__name__} on a path without gradients"
            raise InvalidArgument("kernel", found, "'random_walk' or a kernel of your own")

    @abstractmethod
    def start(self, z: Any, log_density: Callable[[Any], Scalar]) -> Any:
        """blackjax's state at z."""

    @abstractmethod
    def move(
        self, key: RandomKey, chain: Any, log_density: Callable[[Any], Scalar], step_size: Scalar
    ) -> tuple[Any, Moved]:
        """One step of blackjax's kernel."""

    def enter(self, target: Target, point: Point, tuning: Scale) -> Local:
        """Evaluate density and gradient."""
        z = jnp.zeros_like(ravel_pytree(point.x)[0])
        return Local(point.x, self.start(z, _log_density(target, point.x, tuning)))

    def step(
        self, key: RandomKey, target: Target, state: Local, tuning: Scale
    ) -> tuple[Local, Moved]:
        """One move."""
        log_density = _log_density(target, state.x, tuning)
        chain, moved = self.move(key, state.chain, log_density, jnp.exp(tuning.log_step))
        return Local(state.x, chain), moved

    def position(self, state: Local, tuning: Scale) -> PyTree:
        """x of the chain."""
        return _locate(state.x, tuning, state.chain.position)

    def leave(self, key: RandomKey, target: Target, state: Local, tuning: Scale) -> Point:
        """Evaluate prior and likelihood apart, which the chain did not."""
        return target.evaluate(None, self.position(state, tuning))


def _locate(origin: PyTree, tuning: Scale, z: Any) -> PyTree:
    flat, unravel = ravel_pytree(origin)
    return unravel(flat + tuning.times(z))


def _log_density(target: Target, origin: PyTree, tuning: Scale) -> Callable[[Any], Scalar]:
    return lambda z: target.log_density(target.evaluate(None, _locate(origin, tuning, z)))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MALA(Gradient):
    """Langevin proposals `z' = z + s grad + sqrt(2 s) e` with a Metropolis step; adapted to an acceptance of .574.

    Begins at `2 s = 1.65^2 d^(-1/3)` (Roberts and Rosenthal 1998).
    """

    acceptance: Any = 0.574
    moves: int = static(10)

    def default_step_size(self, d: int) -> float:
        """`1.36 d^(-1/3)`."""
        return 1.36 / d ** (1 / 3)

    def start(self, z: Any, log_density: Callable[[Any], Scalar]) -> Any:
        """Density and gradient at z."""
        return blackjax().mala.init(z, log_density)

    def move(
        self, key: RandomKey, chain: Any, log_density: Callable[[Any], Scalar], step_size: Scalar
    ) -> tuple[Any, Moved]:
        """One evaluation of density and gradient."""
        chain, info = blackjax().mala.build_kernel()(key, chain, log_density, step_size)
        return chain, Moved(info.acceptance_rate, 1.0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HMC(Gradient):
    """Hamiltonian Monte Carlo with trajectories of a fixed length in white coordinates (Duane et al. 1987).

    A quarter of a period of a white normal, pi / 2, makes start and end independent there. The number of
    leapfrog steps follows from the step size, which is adapted to an acceptance of .8 and varied by a fifth
    from move to move, so that no trajectory closes on itself.

    Args:
        trajectory: length of a trajectory.
        max_leapfrogs: most leapfrog steps of one.
    """

    acceptance: Any = 0.8
    moves: int = static(3)
    trajectory: Any = math.pi / 2
    max_leapfrogs: int = static(64)

    def default_step_size(self, d: int) -> float:
        """`1.2 d^(-1/4)`."""
        return 1.2 / d**0.25

    def start(self, z: Any, log_density: Callable[[Any], Scalar]) -> Any:
        """Density and gradient at z."""
        return blackjax().hmc.init(z, log_density)

    def move(
        self, key: RandomKey, chain: Any, log_density: Callable[[Any], Scalar], step_size: Scalar
    ) -> tuple[Any, Moved]:
        """One trajectory."""
        length_key, hmc_key = jax.random.split(key)
        steps = jnp.clip(jnp.ceil(self.trajectory / step_size), 1, self.max_leapfrogs)
        varied = step_size * jax.random.uniform(length_key, (), step_size.dtype, 0.8, 1.2)
        unit = jnp.ones_like(chain.position)
        kernel = blackjax().hmc.build_kernel()
        chain, info = kernel(hmc_key, chain, log_density, varied, unit, steps.astype(jnp.int32))
        return chain, Moved(info.acceptance_rate, steps)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NUTS(Gradient):
    """Trajectories that end where they turn back (Hoffman and Gelman 2014); adapted to an acceptance of .8.

    All particles wait for the longest trajectory, so HMC is usually cheaper here.

    Args:
        max_doublings: a trajectory has at most `2^max_doublings` leapfrog steps.
    """

    acceptance: Any = 0.8
    moves: int = static(2)
    max_doublings: int = static(6)

    def default_step_size(self, d: int) -> float:
        """`1.2 d^(-1/4)`."""
        return 1.2 / d**0.25

    def start(self, z: Any, log_density: Callable[[Any], Scalar]) -> Any:
        """Density and gradient at z."""
        return blackjax().nuts.init(z, log_density)

    def move(
        self, key: RandomKey, chain: Any, log_density: Callable[[Any], Scalar], step_size: Scalar
    ) -> tuple[Any, Moved]:
        """One trajectory."""
        unit = jnp.ones_like(chain.position)
        kernel = blackjax().nuts.build_kernel()
        chain, info = kernel(
            key, chain, log_density, step_size, unit, max_num_doublings=self.max_doublings
        )
        return chain, Moved(info.acceptance_rate, 1.0 * info.num_integration_steps)
