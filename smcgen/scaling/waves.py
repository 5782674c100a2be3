"""Independent texts in waves: until what is left of a budget does not allow another full text."""

from typing import Any

import numpy as np
from jaxtyping import Int

from smcgen.scaling.job import Job
from smcgen.text.potentials.base import Potential


def affordable(job: Job, calls: int) -> Int[np.ndarray, " problems"]:
    """Full texts that each prompt's remaining tokens and reward calls allow, whatever their lengths will be."""
    room = np.array([job.engine.max_length - len(prompt.ids) for prompt in job.prompts])
    texts = job.ledger.tokens_left() // np.minimum(job.writing.max_tokens, room)
    return np.minimum(texts, job.ledger.calls_left() // calls) if calls else texts


def write_waves(job: Job, potential: Potential | None, calls: int, n: int, **options: Any) -> None:
    """Write n texts on each prompt; then, if the budget says tokens and not rollouts, as many more as they allow.

    Texts end before `max_tokens` as a rule, and what they leave is spent on further waves. A wave has a power of two
    texts, at most as many as are safe, so that prompts that have spent different amounts are still written together;
    how many depends on a prompt's own texts alone.
    """
    job.write(n, potential, ess_threshold=0.0, **options)
    going = job.everyone if job.budget.rollouts is None and job.budget.tokens else job.everyone[:0]
    while len(going):
        if job.ledger.late:
            job.ledger.exhaust(going)
        left = affordable(job, calls)[going]
        going, left = going[left > 0], left[left > 0]
        waves = 2 ** np.floor(np.log2(left)).astype(np.int64)
        before = job.ledger.tokens.copy()
        for size in np.unique(waves)[::-1].tolist():
            job.write(size, potential, going[waves == size], ess_threshold=0.0, **options)
        going = going[job.ledger.tokens[going] > before[going]]
