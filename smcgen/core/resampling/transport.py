"""Transport resampling: particles move to where their mean over an optimal coupling is. Differentiable."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import logsumexp
from jaxtyping import Array, Float

from smcgen.core._types import LogWeights, Mask, PyTree
from smcgen.core.precision import full_precision
from smcgen.core.resampling.base import Transform
from smcgen.errors import ModelError


@dataclass(frozen=True)
class Transport:
    """`x'_i = n sum_j P_ij x_j`, P the entropy-regularised optimal coupling of weighted and even particles:

        P = argmin  sum_ij P_ij C_ij + epsilon sum_ij P_ij log P_ij     over  P 1 = 1/n,  P^T 1 = W
        C_ij = |x_i - x_j|^2 / (d s^2),  s the largest standard deviation of a coordinate

    A function without randomness or jumps of weights and particles, so the whole filter can be differentiated
    (and with a fixed key, optimised). Means are kept, the other moments shrink: `Z-hat` is biased, and consistent
    as n grows and epsilon goes to 0. Sinkhorn's iteration in logarithms finds P; its derivative is that of the
    fixed point (one linear system, n^3), not of the iterations. Memory n^2: for thousands of particles at most.

    For traceable models whose state is arrays of floats, particle axis leading. No ancestors are
    drawn (they are -1), so there are no ancestral lines. Corenflos, Thornton, Deligiannidis and Doucet (2021),
    algorithms 2 and 3; Reich (2013) for epsilon = 0.

    Args:
        epsilon: strength of the entropy, in units of C.
        tolerance: largest relative error of a row's mass at which the iteration stops.
        max_iterations: at which it stops all the same.
    """

    epsilon: float = 0.5
    tolerance: float = 1e-4
    max_iterations: int = 500

    def plan(
        self, log_weights: Float[Array, " n"], points: Float[Array, "n d"]
    ) -> Float[Array, "n n"]:
        n, d = points.shape
        log_weights = jax.nn.log_softmax(log_weights)
        cost = squared_distances(points) / (d * self.epsilon)

        def log_columns(f: Array) -> Array:  # mass W_j in column j, exactly
            return log_weights - logsumexp(f[:, None] - cost, axis=0)

        def improved(
            f: Array,
        ) -> Array:  # mass 1/n in each row; a constant in f is lost again in the columns
            f = -jnp.log(n) - logsumexp(log_columns(f) - cost, axis=1)
            return f - jnp.mean(f)

        def error(f: Array) -> Array:
            mass = logsumexp(f[:, None] + log_columns(f) - cost, axis=1) + jnp.log(n)
            return jnp.max(jnp.abs(jnp.expm1(mass)))

        def more(carry: tuple) -> Array:
            i, f = carry
            return (i < self.max_iterations) & (error(f) > self.tolerance)

        def solve(_: Any, start: Array) -> Array:
            return lax.while_loop(
                more, lambda carry: (carry[0] + 1, improved(carry[1])), (0, start)
            )[1]

        start = jnp.zeros(n, cost.dtype)
        f = lax.custom_root(lambda f: f - improved(f), start, solve, _solved)
        return jax.nn.softmax(log_columns(f) - cost, axis=1)


def _solved(linear: Any, y: Array) -> Array:
    matrix = jax.vmap(linear, out_axes=1)(jnp.eye(len(y), dtype=y.dtype))
    return jnp.linalg.solve(matrix, y)


@full_precision()
def squared_distances(points: Float[Array, "n d"]) -> Float[Array, "n n"]:
    """In units of the largest variance of a coordinate; zero if all points are one."""
    centred = points - jnp.mean(points, axis=0)
    variance = jnp.max(jnp.mean(centred**2, axis=0))
    scaled = centred / jnp.sqrt(jnp.where(variance > 0, variance, 1.0))
    norms = jnp.sum(scaled**2, axis=1)
    return jnp.maximum(norms[:, None] + norms[None, :] - 2 * scaled @ scaled.T, 0.0)


@full_precision()
def transformed(
    scheme: Transform, log_weights: LogWeights, state: PyTree, resampled: Mask
) -> PyTree:
    """A population after the transform, in the problems that are resampled.

    Raises:
        ModelError: its state is not arrays of floats, particle axis leading.
    """
    shape = log_weights.shape
    for path, leaf in jax.tree.leaves_with_path(state):
        if jnp.shape(leaf)[: len(shape)] == shape and jnp.issubdtype(leaf.dtype, jnp.floating):
            continue
        raise ModelError(
            f"state{jax.tree_util.keystr(path)} is {getattr(leaf, 'dtype', type(leaf))} of shape "
            f"{jnp.shape(leaf)}: resampling by transport needs floats of shape {shape} and more"
        )

    def one(log_weights: Array, state: PyTree, resampled: Array) -> PyTree:
        flat = [leaf.reshape(len(log_weights), -1) for leaf in jax.tree.leaves(state)]
        plan = scheme.plan(log_weights, jnp.concatenate(flat, axis=1))
        moved = lambda x: jnp.tensordot(plan.astype(x.dtype), x, axes=1)
        return jax.tree.map(lambda x: jnp.where(resampled, moved(x), x), state)

    return (one if len(shape) == 1 else jax.vmap(one))(log_weights, state, resampled)
