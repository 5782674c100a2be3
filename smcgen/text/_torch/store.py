"""Keys and values of many sequences of different lengths, in rows that can be moved and copied.

A store maps ids (particles, or prompts) to physical rows of one tensor per layer,
`(rows, kv_heads, columns, head_dim)`; an id's tokens fill its row's first columns. The indirection is
what makes resampling cheap: a survivor keeps its row, and only rows of the dead are written over,
in the columns that differ (`stamps`). Bookkeeping is on the host, so nothing here waits for the device.
"""

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from smcgen.text._torch.moves import front_moves, landing, take_moves
from smcgen.text._torch.stamps import Stamps
from smcgen.text._torch.upload import upload


class Store:
    """A growing table of keys and values.

    Args:
        ids: how many ids there are; each starts with an empty row of its own.
        block: columns are allocated in multiples of this.

    Attributes:
        place: physical row of each id, or -1 for an id that holds nothing, shape (ids,).
        owner: id of each physical row, or -1 for a free one, shape (rows,).
        length: tokens that each id holds, shape (ids,).
        stamps: which columns of two rows are equal.
        copied_rows: rows copied by `take` so far.
        copied_columns: columns copied so far, of all rows together.
    """

    def __init__(self, ids: int, block: int, device: torch.device):
        self.place = np.arange(ids)
        self.owner = np.arange(ids)
        self.length = np.zeros(ids, dtype=np.int64)
        self.stamps = Stamps(ids)
        self.copied_rows = self.copied_columns = 0
        self._block, self._device = block, device
        self._rows, self._columns = ids, 0
        self.layers: list[tuple[Tensor, Tensor]] = []  # contiguous tensors

    @property
    def nbytes(self) -> int:
        """Memory of the tensors in bytes."""
        return sum(x.nbytes for layer in self.layers for x in layer)

    def layer(
        self,
        index: int,
        keys: Float[Tensor, "m heads k dim"],
        values: Float[Tensor, "m heads k dim_v"],
    ) -> tuple[Tensor, Tensor]:
        """Tensors of a layer, made when the model first writes to it."""
        while len(self.layers) <= index:
            self.layers.append((self._empty(keys), self._empty(values)))
        return self.layers[index]

    def _empty(self, like: Tensor) -> Tensor:
        # zeros, not garbage: masked columns are multiplied by probability 0, and 0 * NaN is NaN
        return like.new_zeros((self._rows, like.shape[1], self._columns, like.shape[3]))

    def reserve(self, columns: int) -> None:
        """Make room for `columns` tokens in each row; rows of ids that left are given up."""
        if columns <= self._columns:
            return
        live = np.flatnonzero(self.place >= 0)
        if 2 * len(live) <= self._rows:
            self.front(live)
            self._resize(len(live), -(-columns // self._block) * self._block)
        else:
            self._resize(self._rows, -(-columns // self._block) * self._block)

    def shrink(self) -> None:
        """Give up free rows, once they are half of all."""
        live = np.flatnonzero(self.place >= 0)
        if 2 * len(live) <= self._rows:
            self.front(live)
            self._resize(len(live), self._columns)

    def _resize(self, rows: int, columns: int) -> None:
        kept = min(rows, self._rows)
        used = int(self.length.max(initial=0))
        for i, pair in enumerate(self.layers):
            grown = []
            for old in pair:
                new = old.new_zeros((rows, old.shape[1], columns, old.shape[3]))
                new[:kept, :, :used] = old[:kept, :, :used]
                grown.append(new)
            self.layers[i] = (grown[0], grown[1])
        owner = np.full(rows, -1)
        owner[:kept] = self.owner[:kept]
        self.stamps.resize(rows, columns, used)
        self.owner, self._rows, self._columns = owner, rows, columns

    def _copy(
        self, into: Int[np.ndarray, " c"], of: Int[np.ndarray, " c"], ends: Int[np.ndarray, " c"]
    ) -> None:
        """The first `ends` columns of rows `into` become what they are in rows `of`, all at once."""
        if len(into) == 0:
            return
        pair, column = self.stamps.missing(into, of, ends)
        if len(pair) == 0:
            return
        self.copied_columns += len(pair)
        self.stamps.copy(into[pair], of[pair], column)
        where = upload(np.stack([into[pair], of[pair], column]), self._device)
        lines: dict[int, tuple[Tensor, Tensor]] = {}  # by number of heads
        for layer in self.layers:
            for x in layer:
                heads, columns, dim = x.shape[1:]
                if heads not in lines:
                    head = torch.arange(heads, device=self._device)
                    row = (where[:2, :, None] * heads + head) * columns + where[2, :, None]
                    lines[heads] = row[0].flatten(), row[1].flatten()
                copy_lines(x.view(-1, dim), *lines[heads])

    def front(self, ids: Int[np.ndarray, " m"]) -> None:
        """Move these ids to the first `m` physical rows, so that a forward pass reads a view.

        An id that stands in the way changes places with one that must come in; all others stay.
        """
        m = len(ids)
        if m and int(self.place[ids].max()) < m:
            return
        into, of = front_moves(self.place[ids], self.owner)
        self._copy(into, of, self.length[self.owner[of]])
        moved = self.owner[of]
        self.owner[of] = -1
        self.owner[into] = moved
        self.place[moved] = into

    def take(self, ancestors: Int[np.ndarray, " ids"]) -> None:
        """Id i holds what `ancestors[i]` held; one child keeps its parent's row."""
        holds = self.place[ancestors] >= 0
        kept, copied = take_moves(ancestors, holds)
        place = np.full_like(self.place, -1)
        place[kept] = self.place[ancestors[kept]]
        free = np.ones(self._rows, dtype=bool)
        free[place[kept]] = False
        self.length = np.where(holds, self.length[ancestors], 0)
        if len(copied) > free.sum():
            free = np.concatenate([free, np.ones(len(copied) - int(free.sum()), dtype=bool)])
            self._resize(len(free), self._columns)
        into = landing(self.place[copied], free)
        self._copy(into, self.place[ancestors[copied]], self.length[copied])
        self.copied_rows += int((self.length[copied] > 0).sum())
        place[copied] = into
        self.place = place
        self.owner = np.full(self._rows, -1)
        ids = np.flatnonzero(place >= 0)
        self.owner[place[ids]] = ids

    def drop(self, ids: Int[np.ndarray, " m"]) -> None:
        """These ids hold nothing any more."""
        ids = ids[self.place[ids] >= 0]
        self.owner[self.place[ids]] = -1
        self.place[ids] = -1
        self.length[ids] = 0
        if not (self.place >= 0).any():  # nothing can come back: free the tensors
            self.owner, self._rows, self._columns = np.empty(0, dtype=np.int64), 0, 0
            self.stamps.resize(0, 0, 0)
            self.layers = []


def copy_lines(
    x: Shaped[Tensor, "lines dim"], into: Int[Tensor, " s"], of: Int[Tensor, " s"]
) -> None:
    """Lines `into` become what lines `of` were, all at once."""
    if x.device.type == "cpu":  # NumPy moves whole lines of any type, several times faster
        bytes_ = x.view(torch.uint8).numpy()
        whole = bytes_.view(f"V{bytes_.shape[1]}")[:, 0]
        whole[into.numpy()] = whole[of.numpy()]
    else:
        x.index_copy_(0, into, x.index_select(0, of))
