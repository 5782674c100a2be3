"""Simulation-based calibration: ranks of the truth among posterior draws are uniform."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from smcgen.core.arguments import keys_of
from smcgen.errors import InvalidArgument
from smcgen.testing.laws import Verdict, counts_follow


def sbc_ranks(
    prior: Callable[[Any], Any],
    simulate: Callable[[Any, Any], Any],
    posterior: Callable[[Any, Any], Any],
    *,
    key: Any = 0,
    runs: int = 500,
    vectorised: bool = True,
) -> Any:
    """Rank of each true parameter among posterior draws from data simulated with it.

    If the draws are independent and from the right posterior, ranks are uniform on 0..L (Talts et al. 2018;
    Cook, Gelman and Rubin 2006). Thin draws of a chain until they are nearly independent.

    Args:
        prior: `prior(key)` draws theta, a pytree of numbers or arrays.
        simulate: `simulate(key, theta)` draws y.
        posterior: `posterior(key, y)` gives L draws: the same pytree with a leading axis of length L.
        key: a JAX key or a seed.
        runs: simulated data sets.
        vectorised: `vmap` over runs; False: a Python loop.

    Returns:
        The pytree of theta with ranks, leading axis runs, integers in 0..L.
    """

    def one(key: Any) -> Any:
        first, second, third = jax.random.split(key, 3)
        theta = prior(first)
        draws = posterior(third, simulate(second, theta))
        return jax.tree.map(
            lambda x, d: (np.asarray if not vectorised else lambda v: v)((d < x).sum(0)),
            theta,
            draws,
        )

    keys = jax.random.split(keys_of(key, None), runs)
    if vectorised:
        return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys))
    return jax.tree.map(lambda *x: np.stack(x), *[one(k) for k in keys])


def check_ranks(ranks: Any, num_draws: int, bins: int = 20) -> list[Verdict]:
    """Check that ranks are uniform on 0..num_draws.

    Args:
        ranks: of `sbc_ranks`: a pytree with a leading axis of runs; each component is tested on its own.
        num_draws: L, posterior draws in each run.
        bins: cells of the chi-square test, at most L + 1.

    Returns:
        A `Verdict` for each component.

    Raises:
        LawBroken: a p-value is below one in a million.
    """
    if bins < 2 or bins > num_draws + 1:
        raise InvalidArgument("bins", bins, f"between 2 and num_draws + 1 = {num_draws + 1}")
    edges = np.linspace(0, num_draws + 1, bins + 1).round().astype(int)
    law = np.diff(edges) / (num_draws + 1)
    verdicts = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(ranks):
        columns = np.asarray(leaf).reshape(len(leaf), -1)
        for i, column in enumerate(columns.T):
            counts, _ = np.histogram(column, edges - 0.5)
            name = f"ranks of theta{jax.tree_util.keystr(path)}" + f"[{i}]" * (columns.shape[1] > 1)
            verdicts.append(counts_follow(counts, law, name).checked())
    return verdicts
