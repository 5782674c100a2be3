"""Intervals by drawing problems with replacement: what another set of problems would have given.

Seeds are averaged first: problems are the population that a user asks about, seeds only the noise within one.
"""

import numpy as np
from jaxtyping import Int, Shaped

DRAWS = 2000


def resamples(problems: int, draws: int = DRAWS) -> Int[np.ndarray, "draws problems"]:
    """Indices of problems, drawn with replacement; the same for the same number, so that intervals are paired."""
    return np.random.default_rng(0).integers(problems, size=(draws, problems))


def bootstrap_interval(
    solved: Shaped[np.ndarray, " problems"], level: float = 0.95, draws: int = DRAWS
) -> tuple[float, float]:
    """Percentile interval of the mean over problems (`solved` may be a mean over seeds)."""
    return percentiles(solved[resamples(len(solved), draws)].mean(1), level)


def percentiles(values: Shaped[np.ndarray, " draws"], level: float = 0.95) -> tuple[float, float]:
    """The interval that leaves out equal tails; ends are draws, never a mean of a finite and an infinite one."""
    tail = (1 - level) / 2
    low = np.quantile(values, tail, method="inverted_cdf")
    high = np.quantile(values, 1 - tail, method="inverted_cdf")
    return float(low), float(high)
