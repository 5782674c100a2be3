"""Which columns of two rows hold the same, known from who wrote them.

Every pass stamps what it writes, differently in each row; a copy carries the stamps along. Equal
stamps in a column mean equal keys and values there, so two texts that were one text a few tokens ago
differ in those tokens alone, and a copy of one over the other need move no more than these.
"""

import numpy as np
from jaxtyping import Int, Int64


class Stamps:
    """A stamp for each row and column of a store; 0 where nothing was written."""

    def __init__(self, rows: int, columns: int = 0):
        self._stamps = np.zeros((rows, columns), dtype=np.int64)
        self._next = 1

    def write(
        self,
        rows: Int[np.ndarray, " m"],
        columns: Int[np.ndarray, "#m k"],
        who: Int[np.ndarray, " m"] | None = None,
    ) -> None:
        """These columns are about to be written; rows of the same `who` get the same contents."""
        who = np.arange(len(rows)) if who is None else who
        self._stamps[rows[:, None], columns] = self._next + who[:, None]
        self._next += int(who.max(initial=-1)) + 1

    def missing(
        self, into: Int[np.ndarray, " c"], of: Int[np.ndarray, " c"], ends: Int[np.ndarray, " c"]
    ) -> tuple[Int64[np.ndarray, " s"], Int64[np.ndarray, " s"]]:
        """What rows `into` lack of the first `ends` columns of rows `of`: (index of the pair, column)."""
        columns = np.arange(int(ends.max(initial=0)))
        used = slice(len(columns))
        differ = (self._stamps[into, used] != self._stamps[of, used]) & (columns < ends[:, None])
        pair, column = np.nonzero(differ)
        return pair, column

    def copy(
        self,
        into: Int[np.ndarray, " s"],
        of: Int[np.ndarray, " s"],
        columns: Int[np.ndarray, " s"],
    ) -> None:
        """These columns of rows `into` become what they are in rows `of`, all at once."""
        self._stamps[into, columns] = self._stamps[of, columns]

    def resize(self, rows: int, columns: int, used: int) -> None:
        """Another shape; the first `used` columns stay."""
        kept = min(rows, len(self._stamps))
        grown = np.zeros((rows, columns), dtype=np.int64)
        grown[:kept, :used] = self._stamps[:kept, :used]
        self._stamps = grown
