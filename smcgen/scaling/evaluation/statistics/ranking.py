"""How well scores tell right texts from wrong ones."""

import numpy as np
from jaxtyping import Shaped
from scipy.stats import rankdata


def auc(scores: Shaped[np.ndarray, " texts"], right: Shaped[np.ndarray, " texts"]) -> float:
    """P(a right text scores higher than a wrong one) + P(they score the same) / 2; NaN unless there are both.

    The area under the ROC curve, as Mann and Whitney's statistic of the ranks.
    """
    right = np.asarray(right, bool)
    pairs = int(right.sum()) * int((~right).sum())
    if not pairs:
        return float("nan")
    ranks = rankdata(np.asarray(scores, np.float64))[right]
    return float((ranks.sum() - right.sum() * (right.sum() + 1) / 2) / pairs)
