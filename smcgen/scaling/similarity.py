"""Which partial texts are alike: what early stopping of redundant ones goes by.

A similarity is a function of some texts, each as the list of its steps, that returns a symmetric matrix of numbers.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int
from scipy.sparse.csgraph import connected_components

from smcgen.core.arguments import check_counts
from smcgen.errors import InvalidArgument

Steps = list[str]
Similarity = Callable[[Sequence[Steps]], np.ndarray]

_TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class NgramOverlap:
    """Shared n-grams over all n-grams (Jaccard) of the texts' words and signs, case aside, in [0, 1]."""

    n: int = 3

    def __post_init__(self) -> None:
        check_counts(n=self.n)

    def __call__(self, texts: Sequence[Steps]) -> np.ndarray:
        grams = [self._grams("".join(steps)) for steps in texts]
        return np.array([[_shared(a, b) for b in grams] for a in grams], np.float64)

    def _grams(self, text: str) -> set[tuple[str, ...]]:
        words = _TOKEN.findall(text.lower())
        return {tuple(words[i : i + self.n]) for i in range(max(1, len(words) - self.n + 1))}


def _shared(a: set[tuple[str, ...]], b: set[tuple[str, ...]]) -> float:
    return len(a & b) / len(a | b)


@dataclass(frozen=True)
class SameStep:
    """1 for texts whose latest steps read the same, case and spaces aside, else 0."""

    def __call__(self, texts: Sequence[Steps]) -> np.ndarray:
        last = ["".join(steps[-1:]).lower().split() for steps in texts]
        return np.array([[float(a == b) for b in last] for a in last], np.float64)


@dataclass(frozen=True)
class Pairwise:
    """A function of two texts as a similarity."""

    fn: Callable[[str, str], float]

    def __call__(self, texts: Sequence[Steps]) -> np.ndarray:
        whole = ["".join(steps) for steps in texts]
        matrix = np.eye(len(whole))
        for i, a in enumerate(whole):
            for j in range(i):
                matrix[i, j] = matrix[j, i] = float(self.fn(a, whole[j]))
        return matrix


def clusters(
    similarity: Similarity, texts: Sequence[Steps], threshold: float
) -> Int[np.ndarray, " m"]:
    """A number for each text, the same for those that a chain of similarities of at least `threshold` connects."""
    matrix = np.asarray(similarity(texts), np.float64)
    if matrix.shape != (len(texts), len(texts)) or np.isnan(matrix).any():
        allowed = f"a matrix of {len(texts)} by {len(texts)} numbers, one for each pair of texts"
        raise InvalidArgument("similarity", f"an array of shape {matrix.shape}", allowed)
    return np.asarray(connected_components(matrix >= threshold, directed=False)[1], np.int64)


def survivors(votes: Float64[np.ndarray, " m"], kept: int, u: float) -> Float64[np.ndarray, " m"]:
    """The votes of a cluster's texts when at most `kept` of them go on; the sum stays, and each one's mean does.

    Systematic sampling: text i is met c_i times by a comb of `kept` teeth through the votes, and has
    `c_i * sum / kept` from then on, with E[c_i] = kept * v_i / sum.
    """
    if len(votes) <= kept:
        return votes
    total = votes.sum()
    edges = np.floor(np.cumsum(votes) / total * kept + u)
    edges[-1] = kept  # whatever the rounding of the sum
    return np.diff(edges, prepend=0.0) * (total / kept)
