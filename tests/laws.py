"""z-tests for unbiased estimates: thresholds fail about once in a million."""

import numpy as np

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
    assert abs(z) < LIMIT, f"{what}: mean {np.mean(samples):.5g}, expected {expected:.5g}, z={z:.2f}"
