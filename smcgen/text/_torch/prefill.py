"""Reading prompts into a cache: each once, many in one pass, long ones in chunks."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Int

from smcgen.text._torch.forward import Forward
from smcgen.text._torch.plan import Plan
from smcgen.text._torch.ragged import padded
from smcgen.text._torch.store import Store

_CHUNK = 512  # prompt tokens per row in one pass
_ROWS = 64  # prompts in one pass, fewer if they are long
_SCORES = 1 << 23  # attention scores per head in one pass


def prefill(
    forward: Forward,
    store: Store,
    prompts: Sequence[Sequence[int]],
    meter: Callable[[int], None] | None,
) -> None:
    """Read prompts into a fresh store, one id for each; `meter` is told how many tokens at a time."""
    lengths = np.array([len(p) for p in prompts], dtype=np.int64)
    # longest first: those with tokens left are always the first rows of their batch
    order = np.argsort(-lengths, kind="stable")
    store.owner, store.place[order] = order.copy(), np.arange(len(order))
    lengths = lengths[order]
    store.reserve(int(lengths.max(initial=0)))
    first = 0
    while first < len(prompts):
        longest = int(lengths[first])
        rows = min(_ROWS, max(1, _SCORES // (min(_CHUNK, longest + 1) * (longest + 1))))
        for start in range(0, longest, _CHUNK):
            m = int((lengths[first : first + rows] > start).sum())
            batch = order[first : first + m]
            ids, counts = padded([prompts[i][start : start + _CHUNK] for i in batch])
            device = forward.device
            plan = Plan(store, first, np.full(m, start), counts, ids.shape[1], device)
            forward(plan, torch.from_numpy(ids).to(device), None)
            store.length[batch] += counts
            if meter is not None:
                meter(int(counts.sum()))
        first += rows


def copy_prompts(prompts: Store, rows: Store, prompt_of: Int[np.ndarray, " rows"]) -> None:
    """Give each row a copy of its prompt, for models that cannot share them; `prompts` is emptied."""
    lengths = prompts.length[prompt_of]
    width = int(lengths.max(initial=0))
    rows.reserve(width + 1)
    of = torch.from_numpy(prompts.place[prompt_of])
    for i, (keys, values) in enumerate(prompts.layers):
        for own, prompt in zip(rows.layer(i, keys, values), (keys, values), strict=True):
            own[:, :, :width] = prompt[of.to(prompt.device), :, :width]
    rows.stamps.write(np.arange(len(prompt_of)), np.arange(width)[None], prompt_of)
    rows.length[:] = lengths
    prompts.layers = []
