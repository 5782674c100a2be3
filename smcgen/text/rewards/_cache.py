"""Scores by content: what has been scored once is not scored again.

Resampling makes copies, and copies have equal texts until they are extended; a cache by content
finds them, whichever rows they are in.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int


class ScoreCache:
    """The most recently used `size` scores, by key."""

    def __init__(self, size: int):
        self._size = size
        self._scores: OrderedDict[Hashable, float] = OrderedDict()

    def scores(
        self,
        keys: Sequence[Hashable],
        score: Callable[[list[int]], Sequence[float] | np.ndarray],
    ) -> Float64[np.ndarray, " m"]:
        """One score per key; `score(positions)` is called once, with what is still to score."""
        found: dict[Hashable, float] = {}
        missing: dict[Hashable, int] = {}
        for position, key in enumerate(keys):
            if key in self._scores:
                self._scores.move_to_end(key)
                found[key] = self._scores[key]
            else:
                missing.setdefault(key, position)
        if missing:
            fresh = score(list(missing.values()))
            found.update(zip(missing, map(float, fresh), strict=True))
        out = np.asarray([found[key] for key in keys], dtype=np.float64)
        self._scores.update((key, found[key]) for key in missing)
        while len(self._scores) > self._size:
            self._scores.popitem(last=False)
        return out


class ByContent:
    """What is left of a `RewardSession` when content is all that matters: rows may move as they like."""

    def __init__(self, size: int):
        self._cache = ScoreCache(size)

    def mark(self) -> Any:
        """Nothing depends on what was asked before."""

    def rewind(self, mark: Any) -> None:
        """Nothing changed."""

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        """Nothing is held for a row."""

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        """Nothing is held for a row."""

    def close(self) -> None:
        """Forget the scores."""
        self._cache = ScoreCache(0)
