"""Tensors for training: next-character targets and step labels, and the losses that read them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from models._common import PAD, Batch, right_pad
from models._sample import encode
from models._task import Task

IGNORE = -100
Example = tuple[list[int], list[int], list[int]]
"""Token ids, the right next token after each, and the step label (1 good so far) at step ends."""


def example(
    task: Task, tokenizer: PreTrainedTokenizerFast, prompt: str, text: str, ended: bool = True
) -> Example:
    """One text as ids and targets; IGNORE where there is nothing to learn (all of the prompt)."""
    ids, ends = encode(tokenizer, prompt, text, ended)
    vocab = tokenizer.get_vocab()
    wanted = task.continuations(prompt, text)
    head = len(ids) - len(text) - ended
    nexts = [IGNORE] * (head - 1) + [IGNORE if c is None else vocab[c] for c in wanted]
    labels = [IGNORE] * len(ids)
    for end, good in zip(ends, task.grade(prompt, text), strict=False):
        labels[end] = int(good)
    return ids, [*nexts, IGNORE][: len(ids)], labels


def collate(rows: list[Example]) -> Batch:
    """Right-padded tensors; the models are causal, so padding needs no mask."""
    ids, nexts, labels = zip(*rows, strict=True)
    return {
        "input_ids": right_pad(list(ids), PAD),
        "nexts": right_pad(list(nexts), IGNORE),
        "labels": right_pad(list(labels), IGNORE),
    }


def stream(
    task: Task, tokenizer: PreTrainedTokenizerFast, seed: int, *, rows: int, slips: float = 0.0
) -> Iterator[Batch]:
    """Endless batches of freshly worked problems."""
    for pairs in task.worked(np.random.default_rng(seed), rows, slips):
        yield collate([example(task, tokenizer, *pair) for pair in pairs])


def stored(
    task: Task, tokenizer: PreTrainedTokenizerFast, texts: list, seed: int, *, rows: int
) -> Iterator[Batch]:
    """Endless batches from (prompt, text, ended) rows that a policy wrote."""
    rng = np.random.default_rng(seed)
    coded = sorted((example(task, tokenizer, *row) for row in texts), key=lambda c: len(c[0]))
    while True:
        # A window of the length-sorted texts: random problems, little padding.
        at = int(rng.integers(0, max(1, len(coded) - 8 * rows)))
        window = coded[at : at + 8 * rows]
        chosen = rng.choice(len(window), size=min(rows, len(window)), replace=False)
        yield collate([window[i] for i in chosen])


def language_loss(model: torch.nn.Module, batch: Batch) -> Tensor:
    """Cross entropy of the right next character (the prompt is given, not learned)."""
    return _next_loss(model(input_ids=batch["input_ids"]).logits, batch["nexts"])


def reward_loss(model: torch.nn.Module, batch: Batch) -> Tensor:
    """Binary cross entropy at step ends, plus the right next character from the same body.

    The second term keeps the body able to do the sums that the reward has to check.
    """
    hidden = model.model(input_ids=batch["input_ids"]).last_hidden_state
    nexts = _next_loss(F.linear(hidden, model.model.embed_tokens.weight), batch["nexts"])
    keep = batch["labels"] != IGNORE
    logits = model.score(hidden)[..., 0][keep].float()
    return nexts + F.binary_cross_entropy_with_logits(logits, batch["labels"][keep].float())


def _next_loss(logits: Tensor, nexts: Tensor) -> Tensor:
    """Mean cross entropy; zero for a batch in which no continuation is known."""
    total = F.cross_entropy(
        logits.float().flatten(0, 1), nexts.flatten(), ignore_index=IGNORE, reduction="sum"
    )
    return total / (nexts != IGNORE).sum().clamp(min=1)
