"""One KV cache for a whole population of texts, over any decoder-only model.

Each distinct prompt is read once and its keys and values are shared by its rows; a row owns only what
was appended to it. Resampling copies the rows of those who had several children over the rows of the
dead, in the columns where they differ; rows that have ended hold nothing; and the rows of a pass lie
side by side, so the model reads views of the cache.

Rows are `problem * n + particle`, always the caller's numbering.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from smcgen.errors import InvalidArgument
from smcgen.text._torch.forward import Forward
from smcgen.text._torch.plan import Plan
from smcgen.text._torch.prefill import copy_prompts, prefill
from smcgen.text._torch.ragged import padded
from smcgen.text._torch.store import Store
from smcgen.text._torch.support import Support, support
from smcgen.text._torch.upload import upload

LIMIT = 256  # tokens per row in one pass of `append`, if it is not told

Read = Bool[np.ndarray, "m k"] | Int[np.ndarray, "m r"] | tuple[np.ndarray, np.ndarray]


class Population:
    """Rows that are extended token by token, resampled and dropped, on one cache.

    Args:
        model: a transformers model whose cache is keys and values (with a language-model, token- or
            sequence-classification head, or none). It is put in evaluation mode.
        prompts: token ids, one sequence per problem; may be empty.
        n: rows per problem.
        meter_prefill: called with numbers of tokens of prompts, each read once if they are equal, and of
            what `catch_up` reads.
        block: cache columns are allocated in multiples of this.
        share_prompt: store prompts once per problem (True), or a copy per row (False); None chooses
            by what the model supports.

    Raises:
        ModelError: if the model's state is not a plain KV cache, or, with `share_prompt=True`, if it
            cannot share prompts.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        n: int,
        meter_prefill: Callable[[int], None] | None = None,
        block: int = 64,
        share_prompt: bool | None = None,
        _support: Support | None = None,
    ):
        known = support(model, share_prompt) if _support is None else _support
        self.shared = known.share
        self._forward = Forward(model, known.own_attention)
        self.device = self._forward.device
        distinct = {tuple(p): None for p in prompts}
        index = {p: i for i, p in enumerate(distinct)}
        self._prompt_of = np.repeat([index[tuple(p)] for p in prompts], n)
        self._unread: dict[int, list[int]] = {}
        self._meter = meter_prefill or (lambda count: None)
        self._prompts = Store(len(distinct), block, self.device)
        self._rows = Store(len(prompts) * n, block, self.device)
        self._base = np.array([len(p) for p in distinct], dtype=np.int64)
        with torch.inference_mode():
            prefill(self._forward, self._prompts, list(distinct), meter_prefill)
            if not self.shared:
                copy_prompts(self._prompts, self._rows, self._prompt_of)
                self._base = np.zeros_like(self._base)

    @property
    def lengths(self) -> Int[np.ndarray, " rows"]:
        """Tokens cached for each row, its prompt included; 0 for a dropped row."""
        return np.where(self.alive, self._base[self._prompt_of] + self._rows.length, 0)

    @property
    def alive(self) -> Bool[np.ndarray, " rows"]:
        """Rows that hold something and can be fed."""
        return self._rows.place >= 0

    @property
    def nbytes(self) -> int:
        """Memory of the cache in bytes."""
        return self._prompts.nbytes + self._rows.nbytes

    @property
    def copied_rows(self) -> int:
        """Rows whose cache `take` has copied so far, wholly or in part."""
        return self._rows.copied_rows

    @property
    def copied_columns(self) -> int:
        """Tokens whose cache has been copied so far."""
        return self._rows.copied_columns

    @torch.inference_mode()
    def feed(
        self,
        rows: Int[np.ndarray, " m"],
        tokens: Int[Tensor, "m k"] | Int[np.ndarray, "m k"],
        counts: Int[np.ndarray, " m"] | None = None,
        read: Read | None = None,
    ) -> Float[Tensor, "... out"]:
        """Append tokens to rows, each at its own next position, in one forward pass.

        Args:
            rows: the rows, each at most once.
            tokens: their tokens, right-padded with any token id.
            counts: how many each row gets, at least 1; k for all if None.
            read: where the model's output is wanted. None: at each row's last new token, giving
                (m, out). Integers (m, r): at these positions, giving (m, r, out). Booleans (m, k),
                or a pair (indices into `rows`, positions): at these places in order, giving (r, out).
                Where nothing is read, the head is not run at all.

        Raises:
            InvalidArgument: if a row was dropped, or a count is not in [1, k].
        """
        rows = np.asarray(rows)
        m, k = tokens.shape
        counts = np.full(m, k) if counts is None else np.asarray(counts)
        if m and (counts.min() < 1 or counts.max() > k):
            raise InvalidArgument("counts", counts, f"integers in [1, {k}], the width of `tokens`")
        if not self.alive[rows].all():
            raise InvalidArgument(
                "rows", rows[~self.alive[rows]], "rows that have not been dropped"
            )
        self._rows.reserve(int(self._rows.length[rows].max(initial=0)) + k)
        self._rows.front(rows)
        place = self._rows.place[rows]
        order = self._rows.owner[:m]
        group = None
        if self.shared:
            needed = np.unique(self._prompt_of[rows])
            self._prompts.front(needed)
            group = self._prompts.place[self._prompt_of[order]]
        by_place = np.empty(m, dtype=np.int64)
        by_place[place] = np.arange(m)
        plan = Plan(
            self._rows,
            0,
            self._rows.length[order],
            counts[by_place],
            k,
            self.device,
            self._base[self._prompt_of[order]],
            self._prompts if self.shared else None,
            group,
        )
        ids = upload(tokens, self.device).long()
        if (place != np.arange(m)).any():
            ids = ids[upload(by_place, self.device)]
        which, where, shape = _pairs(read, counts, m)
        pairs = upload(np.stack([place[which], where]), self.device)
        out = self._forward(plan, ids, (pairs[0], pairs[1]) if len(which) else None)
        self._rows.length[rows] += counts
        return torch.empty((*shape, 0)) if out is None else out.view(*shape, out.shape[-1])

    @torch.inference_mode()
    def append(
        self,
        rows: Int[np.ndarray, " m"],
        texts: Sequence[Sequence[int]],
        limit: int | None = None,
        outputs: bool = True,
    ) -> Float[Tensor, "m out"]:
        """Append a list of tokens to each row, in passes of at most `limit` tokens per row.

        Returns the model's output at each list's last token; (m, 0), and the head is not run, if
        `outputs` is False. No list may be empty.
        """
        limit = LIMIT if limit is None else limit
        tokens, counts = padded(texts)
        if len(counts) and counts.min() == 0:
            raise InvalidArgument("texts", "an empty list", "lists of at least one token")
        out: Tensor | None = None
        for start in range(0, tokens.shape[1], limit):
            late = np.flatnonzero(counts > start)
            left = counts[late] - start
            ends = np.flatnonzero(left <= limit) if outputs else np.zeros(0, np.int64)
            part = tokens[late, start : start + limit]
            got = self.feed(rows[late], part, np.minimum(left, limit), (ends, left[ends] - 1))
            if len(ends):
                out = got.new_empty((len(rows), got.shape[1])) if out is None else out
                out[torch.from_numpy(late[ends]).to(out.device)] = got
        return torch.empty((len(rows), 0), device=self.device) if out is None else out

    def put_off(self, row: int, tokens: Sequence[int]) -> None:
        """These tokens follow in the row, and are read once it must be up to date, if ever."""
        self._unread.setdefault(row, []).extend(tokens)

    def catch_up(
        self, rows: Int[np.ndarray, " m"], outputs: bool = True
    ) -> tuple[Int[np.ndarray, " k"], Float[Tensor, "k out"]]:
        """Read what was put off for these rows; which of them had any, and the model's last output there."""
        late = np.array([row for row in rows.tolist() if row in self._unread], dtype=np.int64)
        texts = [self._unread.pop(row) for row in late.tolist()]
        self._meter(sum(map(len, texts)))
        return late, self.append(late, texts, outputs=outputs)

    @torch.inference_mode()
    def reference(self, ids: Int[np.ndarray, "m k"]) -> Float[Tensor, "m k out"]:
        """What the model itself says at every position of some sequences, to compare with."""
        return self._forward.whole(torch.from_numpy(ids).to(self.device))

    def mark(self) -> Int[np.ndarray, " rows"]:
        """Where the rows end, for `rewind`."""
        return self._rows.length.copy()

    def rewind(self, mark: Int[np.ndarray, " rows"]) -> None:
        """Forget what was appended since `mark`; nothing was taken or dropped meanwhile."""
        self._rows.length[:] = mark

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        """Row i becomes a copy of row `ancestors[i]`, nothing if that was dropped."""
        with torch.inference_mode():
            self._rows.take(np.asarray(ancestors))
        self._prompt_of = self._prompt_of[ancestors]
        if self._unread:
            late = [(i, a) for i, a in enumerate(ancestors.tolist()) if a in self._unread]
            self._unread = {i: list(self._unread[a]) for i, a in late}
        self._free_prompts()

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        """These rows are not fed again, unless `take` refills them: they hold nothing."""
        if len(rows):
            self._rows.drop(np.asarray(rows, dtype=np.int64))
            self._free_prompts()

    def close(self) -> None:
        """Free everything."""
        self.drop(np.arange(len(self._prompt_of)))

    def _free_prompts(self) -> None:
        free = self._prompts.place >= 0
        free[self._prompt_of[self.alive]] = False
        unused = np.flatnonzero(free)
        if len(unused):
            with torch.inference_mode():
                self._prompts.drop(unused)
                self._prompts.shrink()


def _pairs(
    read: Read | None, counts: np.ndarray, m: int
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """(index into rows, position) of every output read, and the shape they are given back in."""
    if read is None:
        return np.arange(m), counts - 1, (m,)
    if isinstance(read, tuple):
        return np.asarray(read[0]), np.asarray(read[1]), (len(read[0]),)
    read = np.asarray(read)
    if read.dtype == bool:
        which, where = np.nonzero(read)
        return which, where, (len(which),)
    return np.repeat(np.arange(m), read.shape[1]), read.reshape(-1), read.shape
