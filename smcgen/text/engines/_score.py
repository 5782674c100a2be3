"""Teacher-forced scores of completions, with prompts shared."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from smcgen.core.cost import Meter
from smcgen.text._torch.given import log_given
from smcgen.text._torch.population import Population
from smcgen.text.prompts import Prompt
from smcgen.text.sampling import Sampling


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
    read(len({p.ids for p in prompts}) + sum(map(len, completions)))
    last = np.repeat([p.ids[-1] for p in prompts], n)
    rows = np.arange(len(completions))
    found = log_given(population, rows, last, completions, sampling, vocab_size, keep=False)
    population.close()
    return found
