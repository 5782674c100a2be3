"""z-tests, chi-square and Kolmogorov-Smirnov tests, each of which fails a right law about once in a million."""

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from smcgen.errors import SmcgenError

ALPHA = 1e-6


class LawBroken(SmcgenError, AssertionError):
    """A law that must hold does not: its p-value is below `ALPHA`."""


class Verdict(NamedTuple):
    """What a test found.

    Attributes:
        what: the law.
        statistic: z, chi-square or the Kolmogorov-Smirnov distance.
        p: probability of a statistic as large under the law.
        detail: what was seen and expected.
    """

    what: str
    statistic: float
    p: float
    detail: str

    def checked(self) -> "Verdict":
        """Itself, or `LawBroken` if p is below `ALPHA`."""
        if not self.p > ALPHA:
            raise LawBroken(f"{self.what}: {self.detail}, p = {self.p:.2g}")
        return self


def z_score(samples: Any, expected: float) -> float:
    """(mean - expected) / standard error of independent samples."""
    samples = np.asarray(samples, np.float64)
    error = samples.std(ddof=1) / np.sqrt(len(samples))
    if not error > 0:
        return 0.0 if np.allclose(samples.mean(), expected, rtol=1e-5) else np.inf
    return float((samples.mean() - expected) / error)


def mean_is(samples: Any, expected: float, what: str = "mean") -> Verdict:
    """E[samples] = expected, for independent samples."""
    z = z_score(samples, expected)
    detail = f"mean {np.mean(samples):.5g}, expected {expected:.5g}, z = {z:.2f}"
    return Verdict(what, z, float(2 * stats.norm.sf(abs(z))), detail)


def same_mean(a: Any, b: Any, what: str = "means") -> Verdict:
    """E[a] = E[b], for independent samples of both."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    gap = float(a.mean() - b.mean())
    z = gap / error if error > 0 else (0.0 if abs(gap) < 1e-6 * abs(a.mean()) else np.inf)
    detail = f"means {a.mean():.5g} and {b.mean():.5g}, z = {z:.2f}"
    return Verdict(what, float(z), float(2 * stats.norm.sf(abs(z))), detail)


def counts_follow(counts: Any, probabilities: Any, what: str = "law") -> Verdict:
    """Counts of independent draws follow a law; cells that expect fewer than 5 are pooled."""
    counts, expected = np.ravel(counts).astype(float), np.ravel(probabilities) * np.sum(counts)
    detail = f"counts {np.asarray(counts, int).tolist()}, expected {np.round(expected, 1).tolist()}"
    if np.any(counts[expected == 0] > 0):
        return Verdict(what, np.inf, 0.0, "an impossible value was seen: " + detail)
    rare = expected < 5
    observed = [*counts[~rare], *([counts[rare].sum()] if rare.any() else [])]
    means = [*expected[~rare], *([expected[rare].sum()] if rare.any() else [])]
    cells = [(o, e) for o, e in zip(observed, means, strict=True) if e > 0]
    statistic = float(sum((o - e) ** 2 / e for o, e in cells))
    p = float(stats.chi2.sf(statistic, len(cells) - 1)) if len(cells) > 1 else 1.0
    return Verdict(what, statistic, p, detail)


def same_law(a: Any, b: Any, what: str = "laws") -> Verdict:
    """Independent samples of two laws on the line are of one law (Kolmogorov-Smirnov)."""
    found = stats.ks_2samp(np.asarray(a, np.float64), np.asarray(b, np.float64))
    distance = float(found.statistic)  # pyright: ignore[reportAttributeAccessIssue]
    p = float(found.pvalue)  # pyright: ignore[reportAttributeAccessIssue]
    return Verdict(what, distance, p, f"distance {distance:.3g} of {len(a)} and {len(b)} samples")
