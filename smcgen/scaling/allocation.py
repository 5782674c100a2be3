"""How a pool of texts is spread over problems that vary differently."""

from collections.abc import Callable
from heapq import heapify, heapreplace

import numpy as np
from jaxtyping import Float64, Int

from smcgen.errors import UnknownName
from smcgen.scaling.candidates import Candidates
from smcgen.scaling.selection import posterior_of

Spread = Callable[[Candidates], float]


def by_answers(of: Candidates) -> float:
    """sqrt(1 - sum of p_a^2): its square over n is the squared error of the answers' probabilities from n texts."""
    posterior = posterior_of(of)
    shares = np.array([*posterior.values(), posterior.none])
    return float(np.sqrt(max(0.0, 1 - (shares**2).sum())))


def by_entropy(of: Candidates) -> float:
    """Entropy of the answers' posterior, nats."""
    return float(posterior_of(of).entropy)


def by_rewards(of: Candidates) -> float:
    """Standard deviation of the scores."""
    scores = of.scores[np.isfinite(of.scores)]
    return float(scores.std(ddof=1)) if len(scores) > 1 else 0.0


SPREADS: dict[str, Spread] = {"answers": by_answers, "entropy": by_entropy, "rewards": by_rewards}


def as_spread(spread: str | Spread) -> Spread:
    """A measure of how much a problem's texts vary, by its name, or a function of `Candidates`."""
    if callable(spread):
        return spread
    if spread not in SPREADS:
        raise UnknownName("by", spread, SPREADS)
    return SPREADS[spread]


def neyman(
    spreads: Float64[np.ndarray, " p"],
    written: Int[np.ndarray, " p"],
    more: int,
    ties: Float64[np.ndarray, " p"],
) -> Int[np.ndarray, " p"]:
    """Texts n_b of each problem, `more` than were written, that minimise `sum of s_b^2 / n_b`.

    Neyman allocation (n_b in proportion to s_b) in whole numbers, with what has been written as the least: each next
    text goes where it helps most, by s^2 / (n (n + 1)). That is optimal, the sum being separable and convex (Fox 1966).
    """
    counts = written.copy()
    gain = lambda b: (spreads[b] ** 2 + 1e-12) / (counts[b] * (counts[b] + 1))
    heap = [(-gain(b), ties[b], b) for b in range(len(spreads))]
    heapify(heap)
    for _ in range(more if heap else 0):
        b = heap[0][2]
        counts[b] += 1
        heapreplace(heap, (-gain(b), ties[b], b))
    return counts
