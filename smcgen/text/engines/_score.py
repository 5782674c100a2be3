"""Teacher-forced scores of completions, with prompts shared."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from smcgen.core.cost import Meter
from smcgen.text._torch.draw import warp
from smcgen.text._torch.population import Population
from smcgen.text._torch.ragged import padded
from smcgen.text.prompts import Prompt
from smcgen.text.sampling import Sampling

_LOGITS = 1 << 25  # numbers in the logits of one pass: 128 MiB
_TOKENS = 4096  # tokens in one pass


@torch.inference_mode()
def score(
    model: Any,
    vocab_size: int,
    prompts: Sequence[Prompt],
    completions: Sequence[Sequence[int]],
    sampling: Sampling,
    meter: Meter,
) -> list[Float64[np.ndarray, " tokens"]]:
    """Log-probability of each token of each completion; `len(completions)` is a multiple of the prompts."""
    n = len(completions) // len(prompts)
    read = lambda count: meter.add(tokens_prefilled=count)
    population = Population(model, [p.ids[:-1] for p in prompts], n, read)
    read(len({p.ids for p in prompts}))
    # what each row reads (its prompt's last token first), and what it should have said
    targets, lengths = padded(completions)
    width = targets.shape[1]
    first = np.repeat([p.ids[-1] for p in prompts], n)[:, None]
    inputs = np.concatenate([first, targets[:, :-1]], axis=1) if width else targets
    found = np.zeros(targets.shape)
    start = 0
    while start < width:
        rows = np.flatnonzero(lengths > start)
        population.drop(np.flatnonzero(population.alive & (lengths <= start)))
        k = max(1, min(_LOGITS // (vocab_size * len(rows)), _TOKENS // len(rows), width - start))
        counts = np.minimum(lengths[rows] - start, k)
        where = np.arange(k) < counts[:, None]
        logits = population.feed(rows, inputs[rows, start : start + k], counts, where)
        spoken = torch.from_numpy(targets[rows, start : start + k][where]).to(logits.device)
        logs = warp(logits, sampling).gather(1, spoken[:, None])[:, 0]
        block = found[rows, start : start + k]
        block[where] = logs.double().cpu().numpy()
        found[rows, start : start + k] = block
        meter.add(tokens_prefilled=int(counts.sum()))
        start += k
    population.close()
    return [found[row, :length] for row, length in enumerate(lengths)]
