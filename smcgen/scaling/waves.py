"""Independent texts in waves: until what is left of a budget does not allow another full text."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Int

from smcgen.scaling.job import Job
from smcgen.text.potentials.base import Potential


def affordable(job: Job, calls: int, pooled: bool = False) -> Int[np.ndarray, " problems"]:
    """Full texts that each prompt's remaining tokens and reward calls allow, whatever their lengths will be.

    Of all prompts together if `pooled` (one number); none where the budget limits neither.
    """
    whole = (lambda left: left.sum(keepdims=True)) if pooled else (lambda left: left)
    room = np.array([job.engine.max_length - len(prompt.ids) for prompt in job.prompts])
    longest = np.minimum(job.writing.max_tokens, room)
    found = []
    if job.budget.tokens is not None:
        found.append(whole(job.ledger.tokens_left()) // (longest.max() if pooled else longest))
    if job.budget.reward_calls is not None and calls:
        found.append(whole(job.ledger.calls_left()) // calls)
    return np.min(found, axis=0) if found else np.zeros(1 if pooled else len(room), np.int64)


def write_sizes(
    job: Job, potential: Potential | None, sizes: Int[np.ndarray, " problems"], **options: Any
) -> None:
    """Write so many texts on each prompt; those that get the same number are written together."""
    for size in np.unique(sizes[sizes > 0])[::-1].tolist():
        job.write(size, potential, np.flatnonzero(sizes == size), ess_threshold=0.0, **options)


def write_waves(
    job: Job,
    calls: int,
    n: int | Int[np.ndarray, " problems"],
    write: Callable[[Int[np.ndarray, " problems"]], None],
) -> None:
    """Write n texts on each prompt; then, if the budget says tokens and not rollouts, as many more as they allow.

    Texts end before `max_tokens` as a rule, and what they leave is spent on further waves. A wave has a power of two
    texts, at most as many as are safe, so that prompts that have spent different amounts are still written together;
    how many depends on a prompt's own texts alone. `write` writes so many texts on each prompt.
    """
    sizes = np.broadcast_to(np.asarray(n), len(job.prompts))
    write(sizes)
    by_tokens = job.budget.rollouts is None and job.budget.tokens is not None
    going = np.full(len(sizes), by_tokens)
    while going.any():
        if job.ledger.late:
            job.ledger.exhaust(np.flatnonzero(going))
        left = np.where(going, affordable(job, calls), 0)
        sizes = np.where(left > 0, 2 ** np.floor(np.log2(np.maximum(left, 1))), 0).astype(np.int64)
        before = job.ledger.tokens.copy()
        write(sizes)
        going = (sizes > 0) & (job.ledger.tokens > before)
