"""Random-walk Metropolis (blackjax): no gradients, any density, random estimates too."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from smcgen.core._types import PyTree, RandomKey
from smcgen.samplers.base import Moved, Point, Target
from smcgen.samplers.kernels._blackjax import blackjax
from smcgen.samplers.kernels.tuning import Scaled, static


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RandomWalk(Scaled):
    """`x' = x + s F z`, z normal; accepted with probability `min(1, gamma(x') / gamma(x))`.

    The chain's position is the evaluated point, so a move takes one evaluation and none is repeated. On
    a path whose density is estimated this is pseudo-marginal Metropolis-Hastings. Adapted to an acceptance
    of .234 from `s = 2.38 / sqrt(d)` (Gelman, Roberts and Gilks 1996).
    """

    acceptance: Any = 0.234
    moves: int = static(20)

    def default_step_size(self, d: int) -> float:
        """`2.38 / sqrt(d)`."""
        return 2.38 / d**0.5

    def step(
        self, key: RandomKey, target: Target, state: Point, tuning: PyTree
    ) -> tuple[Point, Moved]:
        """One proposal, accepted or not."""
        random_walk = blackjax().mcmc.random_walk

        def propose(key: RandomKey, point: Point) -> Point:
            noise_key, evaluate_key = jax.random.split(key)
            flat, unravel = ravel_pytree(point.x)
            noise = jnp.exp(tuning.log_step) * jax.random.normal(noise_key, flat.shape, flat.dtype)
            return target.evaluate(evaluate_key, unravel(flat + tuning.times(noise)))

        chain = random_walk.RWState(state, target.log_density(state))
        moved, info = random_walk.build_rmh()(key, chain, target.log_density, propose)
        return moved.position, Moved(info.acceptance_rate, 1.0)
