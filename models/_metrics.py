"""How good a process reward is: ranking (AUC) and calibration (ECE)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Probability that a right prefix outranks a wrong one (ties count half); NaN if one class."""
    scores, labels = np.asarray(scores, float), np.asarray(labels, bool)
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # mean rank of each tie group
    good, bad = labels.sum(), (~labels).sum()
    if not good or not bad:
        return float("nan")
    return float((ranks[labels].sum() - good * (good + 1) / 2) / (good * bad))


def ece(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error: mean |confidence - frequency| over equal-width bins."""
    p, y = np.asarray(probabilities, float), np.asarray(labels, float)
    at = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [abs(p[at == b].sum() - y[at == b].sum()) for b in np.unique(at)]
    return float(sum(gaps) / len(p))
