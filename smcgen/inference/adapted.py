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
    warm = windows(n_warmup)
    size = max(warm, default=1)
    # one program for windows and draws: both are stretches of steps, of traced length
    lengths = jnp.array([*warm, *[thin] * n_samples], jnp.int32)

    @jax.jit  # traced once, for its shapes and for the loop
    def all_chains(states: Any, key: Any, tuning: Any) -> tuple[Any, Any]:
        return jax.vmap(lambda k, s: step(k, s, tuning))(jax.random.split(key, n), states)

    def tune(tuning: Any, positions: PyTree, length: Any, acceptance: Any) -> Any:
        """`positions` has room for `size` steps, of which `length` are there."""
        steps = jnp.arange(jax.tree.leaves(positions)[0].shape[0])
        log_weights = jnp.where(steps < length, 0.0, -jnp.inf)
        return kernel.tune(tuning, positions, log_weights, acceptance)

    def stretch(carry: Any, which: Any) -> tuple[Any, Any]:
        states, positions, tuning = carry
        number, length = which

        def again(i: Any, carry: Any) -> Any:
            states, positions, _, total = carry
            within = jax.random.fold_in(jax.random.fold_in(key, number), i)
            states, (shown, acceptance) = all_chains(states, within, tuning)
            now = jax.vmap(position)(states)
            positions = jax.tree.map(lambda x, new: x.at[i].set(new, mode="drop"), positions, now)
            return states, positions, shown, total + acceptance / length

        states, positions, shown, acceptance = jax.lax.fori_loop(
            0, length, again, (states, positions, *empty)
        )
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), positions)
        tuning = jax.lax.cond(
            number < len(warm),
            lambda: tune(tuning, flat, length * n, jnp.mean(acceptance)),
            lambda: tuning,
        )
        return (states, positions, tuning), (shown, acceptance)

    tuning = tune(None, spread, len(jax.tree.leaves(spread)[0]), jnp.nan)
    like = jax.eval_shape(lambda: all_chains(states, key, tuning)[1])
    empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    room = jax.tree.map(lambda x: jnp.zeros((size, *x.shape), x.dtype), jax.vmap(position)(states))
    (states, _, _), drawn = jax.lax.scan(
        stretch, (states, room, tuning), (jnp.arange(len(lengths)), lengths)
    )
    shown, acceptance = jax.tree.map(lambda x: x[len(warm) :], drawn)
    return shown, acceptance, states
