"""Calibration: does an answer of probability p turn out right in a share p of the cases?"""

import numpy as np
from jaxtyping import Shaped


def expected_calibration_error(
    confidence: Shaped[np.ndarray, " answers"],
    right: Shaped[np.ndarray, " answers"],
    bins: int = 10,
) -> float:
    """`ECE = sum_b (|b| / n) |mean right in b - mean confidence in b|`, bins of equal width; NaN for no answers.

    Source: Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017 (arXiv:1706.04599), equation 3.
    """
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    if not len(confidence):
        return float("nan")
    # (0, 1/bins], ..., (1 - 1/bins, 1]; 0 joins the first
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))
