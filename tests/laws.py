"""z-tests for unbiased estimates, chi-square tests for laws: each fails about once in a million."""

import numpy as np
from scipy import stats

from smcgen.testing.laws import ALPHA, counts_follow, mean_is
from smcgen.testing.laws import z_score as z_score

LIMIT = float(stats.norm.isf(ALPHA / 2))  # 4.9: of the two-sided normal tail


def assert_unbiased(samples: np.ndarray, expected: float, what: str = "") -> None:
    """E[samples] = expected, by a z-test over independent samples."""
    mean_is(samples, expected, what).checked()


def chi_square_p(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """p-value of independent draws' counts under a law; cells that expect fewer than 5 are pooled."""
    return counts_follow(counts, probabilities).p


def assert_law(counts: np.ndarray, probabilities: np.ndarray, what: str = "") -> None:
    """Counts of independent draws follow the law, by a chi-square test."""
    counts_follow(counts, probabilities, what).checked()
