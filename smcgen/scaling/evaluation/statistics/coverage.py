"""Coverage: the chance that at least one of k texts is right, and how it grows with k."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped
from scipy.optimize import least_squares

from smcgen.errors import InvalidArgument


def pass_at_k(
    n: Shaped[np.ndarray, " problems"], right: Shaped[np.ndarray, " problems"], k: int
) -> Float64[np.ndarray, " problems"]:
    """The unbiased estimate `1 - C(n - c, k) / C(n, k)` of the chance that one of k independent texts is right.

    Args:
        n: texts of each problem; they must be independent draws, not a resampled population.
        right: how many of them are right, c.
        k: from 1 to the smallest n.

    Source: Chen et al. 2021 (arXiv:2107.03374), equation 1, as the product of `1 - k / i` over `n - c < i <= n`.
    """
    n, right = np.asarray(n, np.int64), np.asarray(right, np.int64)
    if (right < 0).any() or (right > n).any():
        raise InvalidArgument("right", right.tolist(), "between 0 and n for each problem")
    if not 1 <= k <= n.min(initial=k):
        raise InvalidArgument("k", k, f"from 1 to {n.min()}, the fewest texts of a problem")
    i = np.arange(1, n.max(initial=1) + 1)
    among = (i > (n - right)[:, None]) & (i <= n[:, None])
    none = np.where(among, 1 - np.minimum(k / i, 1.0), 1.0).prod(1)
    return 1 - none


@dataclass(frozen=True)
class PowerLaw:
    """coverage(k) ≈ exp(a k^b), a < 0 and b <= 0; `rmse` is over the points it was fitted to."""

    a: float
    b: float
    rmse: float

    def __call__(self, k: Shaped[np.ndarray, " k"]) -> Float64[np.ndarray, " k"]:
        return np.exp(self.a * np.asarray(k, np.float64) ** self.b)

    def __str__(self) -> str:
        return f"exp({self.a:.3g} k^{self.b:.3g}), rmse {self.rmse:.2g}"

    def needed(self, coverage: float) -> float:
        """How many samples the law says this coverage takes; infinite if b is 0."""
        if not 0 < coverage < 1:
            raise InvalidArgument("coverage", coverage, "a number in (0, 1)")
        if self.b == 0:
            return np.inf
        return float((np.log(coverage) / self.a) ** (1 / self.b))


def fit_power_law(
    k: Shaped[np.ndarray, " points"], coverage: Shaped[np.ndarray, " points"]
) -> PowerLaw:
    """Least squares of exp(a k^b) to a coverage curve, over log(-a) and b <= 0.

    Raises:
        InvalidArgument: fewer than two points lie strictly between 0 and 1.

    Source: Brown et al. 2024 (arXiv:2407.21787), section 3.1: log c ≈ a k^b.
    """
    k, coverage = np.asarray(k, np.float64), np.asarray(coverage, np.float64)
    inside = (coverage > 0) & (coverage < 1)
    if inside.sum() < 2:
        raise InvalidArgument("coverage", coverage.tolist(), "two points strictly in (0, 1)")
    # log(-log c) = log(-a) + b log k is a line: where to start from
    slope, height = np.polyfit(np.log(k[inside]), np.log(-np.log(coverage[inside])), 1)
    residual = lambda p: np.exp(-np.exp(p[0]) * k ** p[1]) - coverage
    start = np.array([np.clip(height, -30, 30), min(slope, -1e-6)])
    bounds = ([-np.inf, -np.inf], [np.inf, 0.0])
    found = least_squares(residual, start, bounds=bounds, xtol=1e-14, ftol=1e-14, gtol=1e-14)
    log_minus_a, b = found.x
    return PowerLaw(float(-np.exp(log_minus_a)), float(b), float(np.sqrt(np.mean(found.fun**2))))
