"""What one forward pass needs to know: where tokens go, and what each query sees."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smcgen.text._torch.store import Store
from smcgen.text._torch.upload import upload


class Plan:
    """A pass of `m` rows, the first of `rows` from physical row `first` on, with `k` tokens each.

    Args:
        rows: the store that the tokens' keys and values are written to.
        first: physical row of the first one.
        start: tokens already in each of the store's rows, shape (m,).
        counts: tokens to be appended to each, at most k, shape (m,). Columns past a row's count are
            padding: what they write is overwritten before anyone sees it.
        base: tokens of the prompt that are not in `rows`, shape (m,).
        prompts: the store of shared prompts, or None.
        group: physical row of each row's prompt in `prompts`, shape (m,); 0 .. groups-1 all occur.
    """

    def __init__(
        self,
        rows: Store,
        first: int,
        start: Int[np.ndarray, " m"],
        counts: Int[np.ndarray, " m"],
        k: int,
        device: torch.device,
        base: Int[np.ndarray, " m"] | None = None,
        prompts: Store | None = None,
        group: Int[np.ndarray, " m"] | None = None,
    ):
        m = len(start)
        self.rows, self.layer = rows, 0
        self.attended = False  # whether our attention was asked for
        self._slice = slice(first, first + m)
        self._device, self._k = device, k
        self._base = np.zeros_like(start) if base is None else base
        self.total = int((start + counts).max())  # columns in use after the pass
        self.columns = int(start.max()) + k  # columns written to
        # a padded column repeats the row's last position, which every position table has
        step = np.minimum(np.arange(k), counts[:, None] - 1)
        self._positions = (self._base + start)[:, None] + step
        self.positions: Int[Tensor, "m k"] = self._upload(self._positions)
        self.even = bool((start == start[0]).all())
        self._start = int(start[0])
        self.fresh = self.even and self._start == 0 and self.total == k  # rows have nothing yet
        self._writes = np.arange(first, first + m), start[:, None] + np.arange(k)
        if not self.even:
            self._row_index = self._upload(self._writes[0][:, None])
            self._columns = self._upload(self._writes[1])
        self.suffix_mask: Bool[Tensor, "m 1 k T"] | None = None
        if k > 1 or not self.even:
            seen = start[:, None, None, None] + np.arange(k)[:, None] >= np.arange(self.total)
            self.suffix_mask = self._upload(seen)
        self.prompts, self.width, self.groups, self.prompt_mask = None, 0, 0, None
        if prompts is not None and group is not None and int(self._base.max()) > 0:
            self._share(prompts, group)

    def _upload(self, array: np.ndarray) -> Tensor:
        return upload(array, self._device)

    def _share(self, prompts: Store, group: Int[np.ndarray, " m"]) -> None:
        sizes = np.bincount(group)
        self.prompts, self.groups = prompts, len(sizes)
        lengths = prompts.length[prompts.owner[: self.groups]]
        self.width = int(lengths.max())
        if (lengths < self.width).any():
            self.prompt_mask = self._upload(
                (np.arange(self.width) < lengths[:, None])[:, None, None]
            )
        most = int(sizes.max())
        self._pad = self._unpad = None
        if (sizes < most).any() or (np.diff(group) < 0).any():
            order = np.argsort(group, kind="stable")
            rank = np.empty_like(order)
            rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            unpad = group * most + rank
            pad = np.zeros(self.groups * most, dtype=np.int64)  # spare places compute row 0 again
            pad[unpad] = np.arange(len(group))
            self._pad, self._unpad = self._upload(pad), self._upload(unpad)

    def group(self, x: Tensor) -> Tensor:
        """Rows by prompt: (m, ...) to (groups, rows per group, ...), ragged groups padded."""
        x = x if self._pad is None else x[self._pad]
        return x.reshape(self.groups, -1, *x.shape[2:] if x.shape[1] == 1 else x.shape[1:])

    def fold(self, q: Float[Tensor, "m heads N dim"]) -> Float[Tensor, "groups heads M dim"]:
        """Queries of a prompt's rows as queries of one attention, `M = rows per group * N`."""
        q = q if self._pad is None else q[self._pad]
        _, heads, n, dim = q.shape
        return (
            q.view(self.groups, -1, heads, n, dim)
            .transpose(1, 2)
            .reshape(self.groups, heads, -1, dim)
        )

    def unfold(self, x: Float[Tensor, "groups heads M d"], m: int) -> Float[Tensor, "m heads N d"]:
        """The inverse of `fold`."""
        groups, heads, _, d = x.shape
        most = m // groups if self._pad is None else len(self._pad) // groups
        x = x.view(groups, heads, most, -1, d).transpose(1, 2).reshape(groups * most, heads, -1, d)
        return x if self._unpad is None else x[self._unpad]

    def begin(self) -> None:
        """Make room for what the pass writes, and stamp it."""
        self.rows.reserve(self.columns)
        self.rows.stamps.write(*self._writes)

    def write(
        self,
        layer: int,
        keys: Float[Tensor, "m heads k dim"],
        values: Float[Tensor, "m heads k dim_v"],
    ) -> tuple[Float[Tensor, "m heads T dim"], Float[Tensor, "m heads T dim_v"]]:
        """Store new keys and values of a layer; the rows' own so far, as views."""
        self.layer = layer
        views = []
        for store, new in zip(self.rows.layer(layer, keys, values), (keys, values), strict=True):
            if self.even:
                store[self._slice, :, self._start : self._start + self._k] = new
            else:
                store[self._row_index, :, self._columns] = new.transpose(1, 2)
            views.append(store[self._slice, :, : self.total])
        return views[0], views[1]

    def visible(self, function: Callable[..., Tensor]) -> Bool[Tensor, "m 1 k width"]:
        """A mask function at the true positions of queries and keys, the prompt's first."""
        m = len(self._base)
        q = self.positions[:, None, :, None]
        base = self._upload(self._base)[:, None, None, None]
        own = base + torch.arange(self.total, device=self._device)
        shared = torch.arange(self.width, device=self._device).expand(m, 1, 1, -1)
        kv = torch.cat([shared, own], dim=-1)
        exists = torch.cat([shared < base, torch.ones_like(own, dtype=torch.bool)], dim=-1)
        rows = torch.arange(m, device=self._device)[:, None, None, None]
        head = torch.zeros((), dtype=torch.long, device=self._device)
        return function(rows, head, q, kv) & (kv <= q) & exists

    def sees_all(self, function: Callable[..., Tensor]) -> bool:
        """Whether a mask function shows every earlier token to every query of this pass."""
        q = torch.from_numpy(np.unique(self._positions))[:, None]
        kv = torch.arange(int(q[-1]) + 1)[None]
        zero = torch.zeros((), dtype=torch.long)
        try:
            return bool((function(zero, zero, q, kv) | (kv > q)).all())
        except RuntimeError:  # it closes over tensors of the device: not worth waiting for
            return False
