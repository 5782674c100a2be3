"""Log-probabilities of given tokens, read in passes of many tokens and many rows."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64, Int

from smcgen.text._torch.draw import warp
from smcgen.text._torch.population import Population
from smcgen.text._torch.ragged import padded
from smcgen.text.sampling import Sampling

_LOGITS = 1 << 25  # numbers in the logits of one pass: 128 MiB
_TOKENS = 4096  # tokens in one pass


@torch.inference_mode()
def log_given(
    population: Population,
    rows: Int[np.ndarray, " m"],
    before: Int[np.ndarray, " m"],
    tokens: Sequence[Sequence[int]],
    sampling: Sampling,
    vocab_size: int,
    keep: bool = True,
) -> list[Float64[np.ndarray, " tokens"]]:
    """log p of each of `tokens`, which follow each row's text.

    Args:
        population: the rows' texts but for their last tokens.
        rows: the rows, each at most once.
        before: each row's last token, which has not been read.
        tokens: what follows.
        sampling: the law p.
        vocab_size: width of the logits.
        keep: leave the rows as they were; False drops each at its end, for there is no more to ask.
    """
    targets, lengths = padded(tokens)
    inputs = np.concatenate([before[:, None], targets], axis=1)  # what is read for each
    found, mark = np.zeros(targets.shape), population.mark()
    start = 0
    while start < targets.shape[1]:
        at = np.flatnonzero(lengths > start)
        if not keep:
            population.drop(rows[lengths <= start])
        widest = min(_LOGITS // (vocab_size * len(at)), _TOKENS // len(at))
        k = max(1, min(widest, targets.shape[1] - start))
        counts = np.minimum(lengths[at] - start, k)
        where = np.arange(k) < counts[:, None]
        logits = population.feed(rows[at], inputs[at, start : start + k], counts, where)
        spoken = torch.from_numpy(targets[at, start : start + k][where]).to(logits.device)
        logs = warp(logits, sampling).gather(1, spoken[:, None])[:, 0]
        block = found[at, start : start + k]
        block[where] = logs.double().cpu().numpy()
        found[at, start : start + k] = block
        start += k
    if keep:
        population.rewind(mark)
    return [found[i, :length] for i, length in enumerate(lengths)]
