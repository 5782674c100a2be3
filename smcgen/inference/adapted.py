"""Chains of a kernel that learns its scale while warming up.

The warm-up has windows of growing length; after each the kernel is tuned to the covariance of the window's positions
and to its acceptance (as NUTS does in Stan). What is kept comes after, with the kernel fixed, so the target is exact.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from smcgen.core._types import PyTree
from smcgen.samplers.base import Kernel

FIRST_WINDOW = 25
SPREAD = 100  # draws from the prior that the first scale is taken from


def windows(n_warmup: int) -> list[int]:
    """Lengths of the warm-up's windows: 25, 50, 100, ..., the last as long as what is left."""
    found, left, size = [], n_warmup, FIRST_WINDOW
    while left > 0:
        size = left if left < 3 * size else size
        found.append(size)
        left, size = left - size, 2 * size
    return found


def begin(
    draw: Callable[[Any], PyTree], key: Any, n_chains: int, start: PyTree
) -> tuple[PyTree, PyTree]:
    """Where chains start, and draws from the prior that show the scale.

    Args:
        draw: a position from the prior.
        key: a JAX key.
        n_chains: chains.
        start: one position for all; None: draws from the prior.
    """
    spread = jax.vmap(draw)(jax.random.split(key, n_chains + SPREAD))
    first = jax.tree.map(lambda x: x[:n_chains], spread)
    if start is not None:
        first = jax.tree.map(
            lambda x, d: jnp.broadcast_to(x, d.shape).astype(d.dtype), start, first
        )
    return first, spread


def run_chains(
    step: Callable[[Any, Any, Any], tuple[Any, Any]],
    position: Callable[[Any], PyTree],
    kernel: Kernel,
    key: Any,
    states: Any,
    spread: PyTree,
    n_warmup: int,
    n_samples: int,
    thin: int,
) -> tuple[Any, Any, Any]:
    """Chains side by side, with one tuning.

    Args:
        step: `step(key, state, tuning) -> (state, (shown, acceptance))`, one chain.
        position: coordinates of a state.
        kernel: what is tuned, to positions of all chains and times of a window.
        key: a JAX key.
        states: of the chains, leading axis chains.
        spread: positions that show the scale at first, draws from the prior; chains may all start at one place.
        n_warmup, n_samples, thin: steps before, draws, steps for each draw.

    Returns:
        What `step` shows of each draw, leading axes (draws, chains); mean acceptance of each, (draws, chains);
        the last states.
    """
    n = jax.tree.leaves(states)[0].shape[0]

    def all_chains(states: Any, key: Any, tuning: Any) -> tuple[Any, Any]:
        return jax.vmap(lambda k, s: step(k, s, tuning))(jax.random.split(key, n), states)

    def tune(tuning: Any, positions: PyTree, acceptance: Any) -> Any:
        even = jnp.zeros(jax.tree.leaves(positions)[0].shape[0])
        return kernel.tune(tuning, positions, even, acceptance)

    flat = lambda x: x.reshape(-1, *x.shape[2:])
    tuning = tune(None, spread, jnp.nan)
    for w, length in enumerate(windows(n_warmup)):

        def warm(states: Any, key: Any, tuning: Any = tuning) -> tuple[Any, Any]:
            states, (_, acceptance) = all_chains(states, key, tuning)
            return states, (jax.vmap(position)(states), acceptance)

        keys = jax.random.split(jax.random.fold_in(key, w), length)
        states, (positions, acceptance) = jax.lax.scan(warm, states, keys)
        tuning = tune(tuning, jax.tree.map(flat, positions), jnp.mean(acceptance))

    def draw(states: Any, key: Any) -> tuple[Any, Any]:
        def again(i: Any, carry: Any) -> Any:
            states, _, total = carry
            states, (shown, acceptance) = all_chains(states, jax.random.fold_in(key, i), tuning)
            return states, shown, total + acceptance / thin

        like = jax.eval_shape(lambda: all_chains(states, key, tuning)[1])
        empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
        states, shown, acceptance = jax.lax.fori_loop(0, thin, again, (states, *empty))
        return states, (shown, acceptance)

    keys = jax.random.split(jax.random.fold_in(key, 1_000_000), n_samples)
    states, (shown, acceptance) = jax.lax.scan(draw, states, keys)
    return shown, acceptance, states
