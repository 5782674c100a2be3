"""What the language models and the rewards are trained to minimise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaForCausalLM, LlamaForTokenClassification

from models._batches import IGNORE
from models._common import Batch


def language_loss(model: torch.nn.Module, batch: Batch) -> Tensor:
    """Cross entropy of the right next character (the prompt is given, not learned)."""
    return _next_loss(model(input_ids=batch["input_ids"]).logits, batch["nexts"])


class RewardTrainer(torch.nn.Module):
    """A reward with the scaffolding it is trained with, which is not kept.

    The label of a step says only that something in a hundred characters is wrong, and whether two
    digits are equal shows in neither of them alone: a gradient finds that slowly. So the way there
    is taught too, in the order of the layers:

    - where the language model below used to end, the right next character (do the sums);
    - one layer up, the character that should have stood *here* (carry the result one on), and
      whether the one that does stand here fits (compare);
    - at the end, by the reward's own head, whether all characters so far are right (remember).
    """

    def __init__(self, reward: LlamaForTokenClassification, body: LlamaForCausalLM) -> None:
        super().__init__()
        self.reward = reward
        self.depth = body.config.num_hidden_layers
        self.above = min(self.depth + 1, reward.config.num_hidden_layers)
        self.norm, self.lm_head = body.model.norm, body.lm_head
        self.norm.requires_grad_(False)
        self.lm_head.requires_grad_(False)
        width = reward.config.hidden_size
        self.fits_score = torch.nn.Linear(width, 1)
        self.here_score = torch.nn.Linear(width, reward.config.vocab_size)

    def forward(self, batch: Batch) -> Tensor:
        out = self.reward.model(input_ids=batch["input_ids"], output_hidden_states=True)
        sums, middle = out.hidden_states[self.depth], out.hidden_states[self.above]
        if self.depth < self.reward.config.num_hidden_layers:  # else the model has normed it
            sums = self.norm(sums)
        middle = F.rms_norm(middle, middle.shape[-1:])
        scores = self.reward.score(out.last_hidden_state)[..., 0]
        here, wanted = self.here_score(middle)[:, 1:], batch["nexts"][:, :-1]
        slips = wanted.masked_fill(batch["fits"][:, 1:] != 0, IGNORE)
        return (
            _next_loss(self.lm_head(sums), batch["nexts"])
            + _next_loss(here, wanted)
            + _next_loss(here, slips)
            + _binary_loss(self.fits_score(middle)[..., 0], batch["fits"])
            + _binary_loss(scores, batch["so_far"])
            + _binary_loss(scores, batch["labels"])
        )


class SearchTrainer(torch.nn.Module):
    """A fresh reward with the scaffolding of a task whose labels hide a search.

    A label is one bit of what a state can lead to, the one at the target; the layer below the last
    learns all of these bits (the task's facts), and the last looks up the one asked for. The layer
    below that learns the next character, and with it to read a line.
    """

    def __init__(self, reward: LlamaForTokenClassification, n_facts: int) -> None:
        super().__init__()
        self.reward = reward
        width = reward.config.hidden_size
        self.next_score = torch.nn.Linear(width, reward.config.vocab_size)
        self.facts_score = torch.nn.Linear(width, n_facts)

    def forward(self, batch: Batch) -> Tensor:
        out = self.reward.model(input_ids=batch["input_ids"], output_hidden_states=True)
        reading, searching = (F.rms_norm(h, h.shape[-1:]) for h in out.hidden_states[-3:-1])
        scores = self.reward.score(out.last_hidden_state)[..., 0]
        return (
            _next_loss(self.next_score(reading), batch["nexts"])
            # A mean over many bits, most of them easy: hence the weight.
            + 10 * _binary_loss(self.facts_score(searching), batch["facts"])
            + _binary_loss(scores, batch["labels"])
        )


def reward_loss(model: torch.nn.Module, batch: Batch) -> Tensor:
    """The loss of a :class:`RewardTrainer` or :class:`SearchTrainer`."""
    return model(batch)


def _binary_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross entropy where there is a label; zero where there is none."""
    keep = labels != IGNORE
    total = F.binary_cross_entropy_with_logits(
        logits[keep].float(), labels[keep].float(), reduction="sum"
    )
    return total / keep.sum().clamp(min=1)


def _next_loss(logits: Tensor, nexts: Tensor) -> Tensor:
    """Mean cross entropy; zero for a batch in which no continuation is known."""
    total = F.cross_entropy(
        logits.float().flatten(0, 1), nexts.flatten(), ignore_index=IGNORE, reduction="sum"
    )
    return total / (nexts != IGNORE).sum().clamp(min=1)
