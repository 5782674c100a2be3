"""Perplexity consistency with pruning: answers weighed by the probability of the distinct texts that give them."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float64, Int
from scipy.optimize import minimize

from smcgen.scaling.candidates import Candidates
from smcgen.scaling.selection import by_answer

_ENOUGH = 8  # fewer distinct texts say nothing about two components


@dataclass(frozen=True)
class RPC:
    """Each distinct text votes with `p(x)`, its probability under the model, unless it is pruned.

    Frequencies estimate `P(answer) = sum of p(x)` with an error of order 1 / sqrt(n). Summing p(x) itself over the
    distinct texts that were drawn is exact once they have all been: its error falls exponentially. Very unlikely texts
    are pruned first: a mixture of two Weibull laws is fitted to the p(x), and texts that belong rather to the lower one
    go, but none whose p(x) is at least the mean.

    Attributes:
        prune: whether there is pruning; without it this is perplexity consistency (PC).
        per_token: vote with `p(x) ** (1 / length)` (the inverse perplexity), so that among long texts one alone does
            not outvote all others; then the votes estimate nothing.

    Zhou et al. (2025), arXiv:2502.00511.
    """

    prune: bool = True
    per_token: bool = False

    name: ClassVar[str] = "rpc"
    needs_answer: ClassVar[bool] = True

    def votes(self, of: Candidates) -> Float64[np.ndarray, " n"]:
        log_p = of.log_probs / np.maximum(of.lengths, 1) if self.per_token else of.log_probs
        possible = of.weights > 0
        distinct = np.zeros(len(of), bool)
        seen = {text: row for row, text in reversed(list(enumerate(of.texts))) if possible[row]}
        distinct[list(seen.values())] = True
        if not distinct.any():
            return np.zeros(len(of))
        p = np.where(distinct, np.exp(log_p - log_p[distinct].max()), 0.0)
        if self.prune:
            kept = np.zeros(len(of), bool)
            kept[distinct] = likely(p[distinct])
            p = np.where(kept, p, 0.0)
        return p / p.sum()

    def ranking(self, of: Candidates, key: Any) -> Int[np.ndarray, " n"]:
        return by_answer(of)


def likely(p: Float64[np.ndarray, " m"]) -> Bool[np.ndarray, " m"]:
    """Which of some probabilities belong rather to the upper component of a mixture of two Weibull laws."""
    if len(p) < _ENOUGH or p.max() <= 0 or np.ptp(p) < 1e-9 * p.max():
        return np.ones(len(p), bool)
    x = np.maximum(p / p.max(), 1e-12)

    def log_parts(theta: np.ndarray) -> np.ndarray:
        shape, size = np.exp(theta[:2])[:, None], np.exp(theta[2:4])[:, None]
        share = np.log([[1 / (1 + np.exp(-theta[4]))], [1 / (1 + np.exp(theta[4]))]])
        z = x[None] / size
        return share + np.log(shape / size) + (shape - 1) * np.log(z) - z**shape

    def loss(theta: np.ndarray) -> float:
        theta = np.clip(theta, -8, 8)
        with np.errstate(over="ignore"):
            value = -np.logaddexp.reduce(log_parts(theta), 0).sum()
        return float(value) if np.isfinite(value) else 1e12

    ordered = np.sort(x)
    halves = ordered[: len(x) // 2].mean(), ordered[len(x) // 2 :].mean()
    start = np.array([0.0, 0.0, *np.log(halves), 0.0])
    found = np.clip(minimize(loss, start, method="Nelder-Mead").x, -8, 8)
    upper = int(found[3] > found[2])
    lower_is_likelier = log_parts(found)[1 - upper] > log_parts(found)[upper]
    return ~lower_is_likelier | (x >= x.mean())
