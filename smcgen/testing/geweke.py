"""Geweke's joint distribution test of a sampler against a simulator."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from smcgen.core.arguments import keys_of
from smcgen.errors import InvalidArgument
from smcgen.testing.laws import Verdict, same_law


def check_geweke(
    prior: Callable[[Any], Any],
    simulate: Callable[[Any, Any], Any],
    kernel: Callable[[Any, Any, Any], Any],
    statistics: Mapping[str, Callable[[Any, Any], Any]],
    *,
    key: Any = 0,
    runs: int = 2000,
    rounds: int = 5,
) -> list[Verdict]:
    """Check that an MCMC kernel for p(theta | y) goes with the simulator of p(theta, y).

    Draw `theta ~ prior`, `y ~ p(y | theta)`; then alternate `theta ~ kernel(. | theta, y)` and `y ~ p(y | theta)`
    `rounds` times. The pair has the joint law at every moment if and only if the kernel leaves the posterior
    invariant (Geweke 2004). Runs are independent, so a plain two-sample test compares before and after.

    Args:
        prior: `prior(key)` draws theta.
        simulate: `simulate(key, theta)` draws y.
        kernel: `kernel(key, theta, y)` moves theta; traceable.
        statistics: by name, a number of (theta, y).
        key: a JAX key or a seed.
        runs: independent runs.
        rounds: alternations.

    Returns:
        A `Verdict` for each statistic.

    Raises:
        LawBroken: a p-value is below one in a million.
    """
    if runs < 2 or rounds < 1:
        raise InvalidArgument("runs, rounds", (runs, rounds), "integers >= 2 and >= 1")
    if not statistics:
        raise InvalidArgument("statistics", statistics, "at least one function of (theta, y)")

    def one(key: Any) -> tuple[Any, Any]:
        first, second, *keys = jax.random.split(key, 2 + 2 * rounds)
        theta = prior(first)
        y = simulate(second, theta)
        seen = {name: f(theta, y) for name, f in statistics.items()}
        for move, data in zip(keys[::2], keys[1::2], strict=True):
            theta = kernel(move, theta, y)
            y = simulate(data, theta)
        return seen, {name: f(theta, y) for name, f in statistics.items()}

    before, after = jax.jit(jax.vmap(one))(jax.random.split(keys_of(key, None), runs))
    half = runs // 2  # the two ends of one run are not independent: compare different runs
    return [
        same_law(
            np.asarray(before[k])[:half], np.asarray(after[k])[half:], f"Geweke: {k}"
        ).checked()
        for k in statistics
    ]
