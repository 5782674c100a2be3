"""Sample from a policy and read a process reward, many rows at a time."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from models._common import EOS, PAD, right_pad


@torch.no_grad()
def sample(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    *,
    seed: int,
    max_new_tokens: int = 90,
    temperature: float = 1.0,
    rows: int = 512,
) -> list[tuple[str, bool]]:
    """One text for each prompt, and whether it ended by itself; temperature 0 is greedy."""
    generator = torch.Generator().manual_seed(seed)
    # Prompts of like length go together, so that little is padded.
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    texts: list[tuple[str, bool]] = [("", False)] * len(prompts)
    for at in range(0, len(order), rows):
        chosen = order[at : at + rows]
        inputs = tokenizer([prompts[i] for i in chosen], padding=True, return_tensors="pt")
        tokens = _extend(model, inputs, generator, max_new_tokens, temperature)
        for i, row in zip(chosen, tokens.tolist(), strict=True):
            ended = EOS in row
            row = row[: row.index(EOS)] if ended else row
            texts[i] = (str(tokenizer.decode(row, skip_special_tokens=True)), ended)
    return texts


def _extend(model, inputs, generator, max_new_tokens: int, temperature: float) -> Tensor:
    """The sampling loop over one batch, with a key-value cache; ended rows are padded."""
    mask = inputs["attention_mask"]
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    feed, cache, out = inputs["input_ids"], None, []
    done = torch.zeros(len(feed), dtype=torch.bool)
    for _ in range(max_new_tokens):
        step = model(
            input_ids=feed, attention_mask=mask, position_ids=positions, past_key_values=cache
        )
        cache = step.past_key_values
        logits = step.logits[:, -1].float()
        if temperature:
            noise = torch.rand(logits.shape, generator=generator).clamp_min(1e-20)
            logits = logits / temperature - torch.log(-torch.log(noise))
        token = logits.argmax(-1).masked_fill(done, PAD)
        out.append(token)
        done |= token == EOS
        if done.all():
            break
        feed, positions = token[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
    return torch.stack(out, 1)


def encode(
    tokenizer: PreTrainedTokenizerFast, prompt: str, text: str, ended: bool = True
) -> tuple[list[int], list[int]]:
    """Token ids of prompt + text (+ eos), and the places where a step ends (newline or eos)."""
    head = tokenizer.encode(prompt)
    body = tokenizer.encode(text, add_special_tokens=False) + [EOS] * ended
    newline = tokenizer.convert_tokens_to_ids("\n")
    ends = [len(head) + i for i, token in enumerate(body) if token in (newline, EOS)]
    return head + body, ends


@torch.no_grad()
def step_logits(
    prm: torch.nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    pairs: list[tuple[str, str, bool]],
    rows: int = 512,
) -> list[list[float]]:
    """The reward's logit at the end of each step of each (prompt, text, ended)."""
    coded = [encode(tokenizer, *pair) for pair in pairs]
    order = sorted(range(len(coded)), key=lambda i: len(coded[i][0]))
    result: list[list[float]] = [[] for _ in coded]
    for at in range(0, len(order), rows):
        chosen = order[at : at + rows]
        ids = right_pad([coded[i][0] for i in chosen], PAD)
        logits = prm(input_ids=ids, attention_mask=(ids != PAD).long()).logits[..., 0].float()
        for row, i in zip(logits, chosen, strict=True):
            result[i] = row[coded[i][1]].tolist()
    return result
