"""Scores that a reward says are probabilities."""

import numpy as np
from jaxtyping import Float64

from smcgen.errors import RewardError


def check_probabilities(scores: Float64[np.ndarray, " m"], reward: str) -> None:
    """Refuse scores outside [0, 1], infinite ones included. NaN passes: it fails a particle, not the reward.

    Raises:
        RewardError: it names the reward and the first such score.
    """
    outside = (scores < 0) | (scores > 1)
    if outside.any():
        raise RewardError(
            f"{reward} returned {scores[outside][0]}: expected probabilities in [0, 1], "
            "because probability=True"
        )
