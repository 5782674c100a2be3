"""How often a kernel is applied between two targets: a number, or until the particles have moved enough."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from smcgen.core._types import PyTree, RandomKey
from smcgen.errors import InvalidArgument
from smcgen.samplers.base import Kernel, Moved, Point, Scalar, Target
from smcgen.samplers.kernels.tuning import static


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Until:
    """Move until the particles have forgotten where they began.

    The correlation between start and present position, over the particles, is averaged over the
    coordinates; moving ends when it falls below `correlation`. The number of moves then depends on the
    particles, and E[Z-hat] = Z holds only as n grows.

    Args:
        correlation: in (0, 1). Noise is 1 / sqrt(n) for one coordinate.
        at_most: moves.

    Raises:
        InvalidArgument: an argument is not allowed.
    """

    correlation: float = static(0.1)
    at_most: int = static(100)

    def __post_init__(self):
        if not 0 < self.correlation < 1:
            raise InvalidArgument("correlation", self.correlation, "a number in (0, 1)")
        if self.at_most < 1:
            raise InvalidArgument("at_most", self.at_most, "an integer >= 1")


class Walked(NamedTuple):
    """What a population's moves came to.

    Attributes:
        points: where they ended.
        acceptance: mean over particles and moves.
        moves: how many.
        evaluations: of the target, of all particles.
    """

    points: Point
    acceptance: Scalar
    moves: Any
    evaluations: Scalar


def over(function: Callable, batch_size: int | None) -> Callable:
    """A function of one particle, of all: at once, or `batch_size` at a time to bound memory."""
    if batch_size is None:
        return jax.vmap(function)
    return lambda *all: jax.lax.map(lambda one: function(*one), all, batch_size=batch_size)


def walk(
    key: RandomKey,
    kernel: Kernel,
    target: Target,
    points: Point,
    tuning: PyTree,
    moves: Any,
    batch_size: int | None = None,
) -> Walked:
    """Move all particles, `moves` times or `Until`."""
    n = jax.tree.leaves(points)[0].shape[0]
    enter_key, leave_key = jax.random.split(key)
    states = over(lambda point: kernel.enter(target, point, tuning), batch_size)(points)
    step = over(lambda key, s: kernel.step(key, target, s, tuning), batch_size)
    origin = _flat(kernel, states, tuning)

    def go_on(carry: tuple[Any, Any, Any]) -> Any:
        states, k, _ = carry
        if not isinstance(moves, Until):
            return k < moves
        far = _correlation(origin, _flat(kernel, states, tuning)) >= moves.correlation
        return (k < moves.at_most) & ((k == 0) | far)

    def move(carry: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        states, k, (accepted, evaluations) = carry
        keys = jax.random.split(jax.random.fold_in(enter_key, k), n)
        states, moved = step(keys, states)
        return states, k + 1, (accepted + mean(moved), evaluations + total(moved, n))

    zero = jnp.zeros(())
    states, k, (accepted, evaluations) = jax.lax.while_loop(
        go_on, move, (states, jnp.int32(0), (zero, zero))
    )
    keys = jax.random.split(leave_key, n)
    leave = over(lambda key, s: kernel.leave(key, target, s, tuning), batch_size)
    points = leave(keys, states)
    return Walked(points, accepted / jnp.maximum(k, 1), k, evaluations)


def chains(
    key: RandomKey,
    kernel: Kernel,
    target: Target,
    points: Point,
    tuning: PyTree,
    length: int,
    thin: int,
    batch_size: int | None = None,
) -> Walked:
    """Chains of `length` points from each particle, their start included, every `thin` moves: (n, length, ...)."""
    n = jax.tree.leaves(points)[0].shape[0]
    states = over(lambda point: kernel.enter(target, point, tuning), batch_size)(points)
    step = over(lambda key, s: kernel.step(key, target, s, tuning), batch_size)
    leave = over(lambda key, s: kernel.leave(key, target, s, tuning), batch_size)

    def one(states: PyTree, key: RandomKey) -> tuple[PyTree, Moved]:
        states, moved = step(jax.random.split(key, n), states)
        return states, Moved(mean(moved), total(moved, n))

    def link(states: PyTree, key: RandomKey) -> tuple[PyTree, tuple[Point, Moved]]:
        move_key, leave_key = jax.random.split(key)
        states, moved = jax.lax.scan(one, states, jax.random.split(move_key, thin))
        keys = jax.random.split(leave_key, n)
        kept = leave(keys, states)
        return states, (kept, moved)

    _, (kept, moved) = jax.lax.scan(link, states, jax.random.split(key, length - 1))
    joined = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), points, kept)
    points = jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1), joined)
    count = jnp.int32((length - 1) * thin)
    return Walked(points, jnp.mean(moved.acceptance), count, jnp.sum(moved.evaluations))


def pick(key: RandomKey, log_weights: Float[Array, "groups n"]) -> Int[Array, " groups"]:
    """One index of each group, by weight: by inversion, a uniform a group; never one of weight zero."""
    top = jnp.max(log_weights, axis=-1, keepdims=True)
    weights = jnp.exp(log_weights - jnp.where(jnp.isfinite(top), top, 0.0))
    below = jnp.cumsum(weights, axis=-1)
    uniforms = jax.random.uniform(key, log_weights.shape[:1], below.dtype)
    index = jnp.sum(below <= (uniforms * below[:, -1])[:, None], axis=-1)
    last = jnp.max(jnp.where(weights > 0, jnp.arange(weights.shape[-1]), 0), axis=-1)
    return jnp.minimum(index, last)


def mean(moved: Moved) -> Scalar:
    """Mean acceptance."""
    return jnp.mean(jnp.asarray(moved.acceptance, jnp.result_type(float)))


def total(moved: Moved, n: int) -> Scalar:
    """Evaluations of all particles."""
    each = jnp.asarray(moved.evaluations, jnp.result_type(float))
    return jnp.sum(jnp.broadcast_to(each, (n,)))


def _flat(kernel: Kernel, states: PyTree, tuning: PyTree) -> Any:
    one = lambda s: ravel_pytree(kernel.position(s, tuning))[0]
    return jax.vmap(one)(states).astype(jnp.result_type(float))


def _correlation(a: Any, b: Any) -> Scalar:
    a, b = a - jnp.mean(a, 0), b - jnp.mean(b, 0)
    spread = jnp.sqrt(jnp.sum(a * a, 0) * jnp.sum(b * b, 0))
    # a coordinate without spread has nothing to forget
    return jnp.mean(jnp.where(spread > 0, jnp.sum(a * b, 0) / spread, 0.0))
