"""Tensors for training: next-character targets and step labels, from text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from models._common import PAD, Batch, right_pad
from models._sample import encode
from models._task import Task

IGNORE = -100
NAMES = ("input_ids", "nexts", "labels", "fits", "so_far")


@dataclass(frozen=True)
class Example:
    """One text as ids and targets; IGNORE where there is nothing to learn (all of the prompt).

    Attributes:
        columns: for each token: its id; the right next token; at step ends the label (1 good so
            far); whether it is the right one itself; and, if the task can tell, whether all so far
            are.
        facts: what the task knows besides of where a line leads, by the place of its end.
    """

    columns: tuple[list[int], ...]
    facts: dict[int, np.ndarray]


def example(
    task: Task, tokenizer: PreTrainedTokenizerFast, prompt: str, text: str, ended: bool = True
) -> Example:
    """The targets of one (prompt, text)."""
    ids, ends = encode(tokenizer, prompt, text, ended)
    vocab = tokenizer.get_vocab()
    wanted = [IGNORE if c is None else vocab[c] for c in task.continuations(prompt, text)]
    head = len(ids) - len(text) - ended
    nexts = [*[IGNORE] * (head - 1), *wanted, IGNORE][: len(ids)]
    labels = [IGNORE] * len(ids)
    for end, good in zip(ends, task.grade(prompt, text), strict=False):
        labels[end] = int(good)
    fits, so_far = [IGNORE] * len(ids), [IGNORE] * len(ids)
    for at in range(head, len(ids)):
        known = nexts[at - 1] != IGNORE
        fits[at] = int(nexts[at - 1] == ids[at]) if known else IGNORE
        if task.every_character:
            so_far[at] = int(known and fits[at] and (at == head or so_far[at - 1]))
    known = zip(ends, task.facts(prompt, text), strict=False)
    facts = {end: vector for end, vector in known if vector is not None}
    return Example((ids, nexts, labels, fits, so_far), facts)


def collate(rows: list[Example], n_facts: int = 0) -> Batch:
    """Right-padded tensors; the models are causal, so padding needs no mask."""
    columns = zip(*(row.columns for row in rows), strict=True)
    batch = {
        name: right_pad(list(column), PAD if name == "input_ids" else IGNORE)
        for name, column in zip(NAMES, columns, strict=True)
    }
    batch["facts"] = torch.full((*batch["input_ids"].shape, n_facts), float(IGNORE))
    for i, row in enumerate(rows):
        for at, vector in row.facts.items():
            batch["facts"][i, at] = torch.from_numpy(vector)
    return batch


def stream(
    task: Task, tokenizer: PreTrainedTokenizerFast, seed: int, *, rows: int, slips: float = 0.0
) -> Iterator[Batch]:
    """Endless batches of freshly worked problems."""
    for pairs in task.worked(np.random.default_rng(seed), rows, slips):
        yield collate([example(task, tokenizer, *pair) for pair in pairs], task.n_facts)


def stored(
    task: Task, tokenizer: PreTrainedTokenizerFast, texts: list, seed: int, *, rows: int
) -> Iterator[Batch]:
    """Endless batches from (prompt, text, ended) rows that a policy wrote."""
    rng = np.random.default_rng(seed)
    coded = sorted(
        (example(task, tokenizer, *row) for row in texts), key=lambda e: len(e.columns[0])
    )
    while True:
        # A window of the length-sorted texts: random problems, little padding.
        at = int(rng.integers(0, max(1, len(coded) - 8 * rows)))
        window = coded[at : at + 8 * rows]
        chosen = rng.choice(len(window), size=min(rows, len(window)), replace=False)
        yield collate([window[i] for i in chosen], task.n_facts)
