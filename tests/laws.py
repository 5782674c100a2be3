"""z-tests for unbiased estimates, chi-square tests for laws: each fails about once in a million."""

import numpy as np
from scipy import stats

LIMIT = 4.9  # two-sided normal tail of 1e-6


def z_score(samples: np.ndarray, expected: float) -> float:
    """(mean - expected) / standard error."""
    samples = np.asarray(samples, np.float64)
    error = samples.std(ddof=1) / np.sqrt(len(samples))
    if error == 0:
        return 0.0 if np.allclose(samples.mean(), expected, rtol=1e-5) else np.inf
    return float((samples.mean() - expected) / error)


def assert_unbiased(samples: np.ndarray, expected: float, what: str = "") -> None:
    """E[samples] = expected, by a z-test over independent samples."""
    z = z_score(samples, expected)
    assert abs(z) < LIMIT, (
        f"{what}: mean {np.mean(samples):.5g}, expected {expected:.5g}, z={z:.2f}"
    )


def chi_square_p(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """p-value of independent draws' counts under a law; cells that expect fewer than 5 are pooled."""
    counts, expected = np.ravel(counts).astype(float), np.ravel(probabilities) * np.sum(counts)
    if np.any(counts[expected == 0] > 0):
        return 0.0
    rare = expected < 5
    observed = [*counts[~rare], *([counts[rare].sum()] if rare.any() else [])]
    expected = [*expected[~rare], *([expected[rare].sum()] if rare.any() else [])]
    cells = [(o, e) for o, e in zip(observed, expected, strict=True) if e > 0]
    statistic = sum((o - e) ** 2 / e for o, e in cells)
    return float(stats.chi2.sf(statistic, len(cells) - 1)) if len(cells) > 1 else 1.0


def assert_law(counts: np.ndarray, probabilities: np.ndarray, what: str = "") -> None:
    """Counts of independent draws follow the law, by a chi-square test."""
    p = chi_square_p(counts, probabilities)
    assert p > 1e-6, f"{what}: counts {counts}, law {probabilities}, p={p:.2g}"
