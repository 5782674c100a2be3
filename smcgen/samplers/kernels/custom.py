"""A kernel that is one function: Gibbs, single flips, whatever a model has of its own."""

from dataclasses import dataclass
from typing import Any

import jax

from smcgen.core._types import PyTree, RandomKey
from smcgen.samplers.base import Kernel, Moved, Point, Target
from smcgen.samplers.kernels.tuning import static
from smcgen.samplers.paths.tempering import as_data


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Custom(Kernel):
    """`x' = move(key, x, at)`, which must leave the path's target at position `at` invariant.

    Args:
        move: a function of a key, one x and a position of the path.
        moves: how often it is applied between two targets.

    Raises:
        InvalidArgument: `move` is no function.
    """

    move: Any
    moves: int = static(10)

    def __post_init__(self):
        object.__setattr__(self, "move", as_data("move", self.move))

    def enter(self, target: Target, point: Point, tuning: PyTree) -> PyTree:
        """x alone: the function does its own evaluating."""
        return point.x

    def step(
        self, key: RandomKey, target: Target, state: PyTree, tuning: PyTree
    ) -> tuple[PyTree, Moved]:
        """Apply the function once. What it accepts is its own business; reported as 1."""
        return self.move(key, state, target.at), Moved(1.0, 1.0)

    def position(self, state: PyTree, tuning: PyTree) -> PyTree:
        """The state is x."""
        return state

    def leave(self, key: RandomKey, target: Target, state: PyTree, tuning: PyTree) -> Point:
        """Evaluate where it ended."""
        return target.evaluate(key, state)
