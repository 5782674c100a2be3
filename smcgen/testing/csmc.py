"""Conditional SMC leaves its target invariant."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from smcgen.core.arguments import keys_of
from smcgen.core.gibbs import particle_gibbs
from smcgen.core.resolve import resolve
from smcgen.errors import InvalidArgument
from smcgen.testing.laws import Verdict, counts_follow, same_law


def check_csmc_invariant(
    model: Any,
    draw_path: Callable[[Any], Any],
    statistic: Callable[[Any], Any],
    probabilities: Any = None,
    *,
    key: Any = 0,
    runs: int = 5000,
    n_particles: int = 2,
    sweeps: int = 1,
    **options: Any,
) -> Verdict:
    """Check that a path drawn from the target is, after a sweep of particle Gibbs, still one.

    Two particles show a mistake best. What mean offspring counts cannot see (a sorted order of ancestors, a
    reference that is overwritten after the draw), the law of the next path does.

    Args:
        model: one problem; it can be pinned.
        draw_path: `draw_path(key)`, an exact draw of a path from the target.
        statistic: of a path: an integer in 0..k-1 with `probabilities`, else a real number.
        probabilities: the exact law of the statistic, shape (k,); None: the law before the sweep is taken.
        key: a JAX key or a seed.
        runs: independent starts.
        n_particles, **options: see `smcgen.particle_gibbs` (`rejuvenate`, `resampling`, ...).
        sweeps: sweeps between.

    Returns:
        The `Verdict` of a chi-square test, or of a Kolmogorov-Smirnov test between before and after.

    Raises:
        LawBroken: its p-value is below one in a million.
    """
    if runs < 2:
        raise InvalidArgument("runs", runs, "an integer >= 2")
    first, second = jax.random.split(keys_of(key, None))
    keys = jax.random.split(first, runs)
    options = {"n_samples": 1, "n_particles": n_particles, "thin": sweeps} | options
    if resolve(model).traceable:
        start = jax.vmap(draw_path)(keys)
        chains = particle_gibbs(model, second, n_chains=runs, reference=start, **options)
        before, after = (np.asarray(jax.vmap(statistic)(x)) for x in (start, chains.last))
    else:
        paths = [draw_path(k) for k in keys]
        chains = particle_gibbs(model, second, n_chains=runs, reference=paths, **options)
        before, after = (np.array([statistic(p) for p in x]) for x in (paths, chains.last))
    what = "the law of a path after a sweep"
    if probabilities is None:
        # the two samples depend on each other path by path: compare halves that do not
        half = runs // 2
        return same_law(before[:half], after[half:], what).checked()
    counts = np.bincount(after.astype(int), minlength=len(probabilities))
    return counts_follow(counts, np.asarray(probabilities), what).checked()
