"""Process rewards: build one on a language model's body, measure it, calibrate it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from transformers import LlamaForCausalLM, LlamaForTokenClassification, PreTrainedTokenizerFast

from models._common import llama_config
from models._sample import step_logits

Grader = Callable[[str, str], list[bool]]


def reward_from(body: LlamaForCausalLM, extra_layers: int) -> LlamaForTokenClassification:
    """A reward with one logit a token on top of ``body``, with fresh layers above it.

    Comparing a result with the right one comes after working out the right one, and remembering
    that an earlier line was wrong comes after comparing: hence the fresh layers.
    """
    config = llama_config(
        body.config.vocab_size,
        hidden=body.config.hidden_size,
        layers=body.config.num_hidden_layers + extra_layers,
        num_labels=1,
        classifier_dropout=0.0,
    )
    model = LlamaForTokenClassification(config)
    model.model.load_state_dict(body.model.state_dict(), strict=False)
    _shrink(model, body.config.num_hidden_layers)
    torch.nn.init.zeros_(model.score.weight)
    model.model.embed_tokens.requires_grad_(False)
    return model


def fresh_reward(vocab_size: int, hidden: int, layers: int) -> LlamaForTokenClassification:
    """A reward that knows nothing yet."""
    config = llama_config(
        vocab_size, hidden=hidden, layers=layers, num_labels=1, classifier_dropout=0.0
    )
    return LlamaForTokenClassification(config)


def body_parameters(
    model: LlamaForTokenClassification, body: LlamaForCausalLM
) -> list[torch.nn.Parameter]:
    """The parameters that came with the body (the embedding, which is not trained, apart)."""
    return list(model.model.layers[: body.config.num_hidden_layers].parameters())


@torch.no_grad()
def _shrink(model: LlamaForTokenClassification, layers: int, factor: float = 0.1) -> None:
    """Scale down all that the body writes to the residual stream; its norms undo it, bar rounding.

    Training grows the stream to a norm above 100, in which the first words of a fresh layer (about
    1) go unheard by the layers above: without this the fresh layers hardly learn.
    """
    writers = [model.model.embed_tokens]
    for layer in model.model.layers[:layers]:
        writers += [layer.self_attn.o_proj, layer.mlp.down_proj]
    for writer in writers:
        writer.weight.mul_(factor)


def read(
    model: LlamaForTokenClassification,
    tokenizer: PreTrainedTokenizerFast,
    rows: list[tuple[str, str, bool]],
    grade: Grader,
) -> list[tuple[list[float], list[bool]]]:
    """Logits and labels at the step ends of each (prompt, text, ended) row."""
    pairs = []
    for row, logits in zip(rows, step_logits(model, tokenizer, rows), strict=True):
        # A text that stops right after a newline has a step end without a line: wrong.
        pairs.append((logits, [*grade(row[0], row[1]), False][: len(logits)]))
    return pairs


def measure(
    model: LlamaForTokenClassification,
    tokenizer: PreTrainedTokenizerFast,
    rows: list[tuple[str, str, bool]],
    grade: Grader,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels at every step end of all rows, in one array each."""
    pairs = read(model, tokenizer, rows, grade)
    logits = [logit for found, _ in pairs for logit in found]
    return np.array(logits), np.array([good for _, found in pairs for good in found], dtype=bool)


def calibrate(model: LlamaForTokenClassification, logits: np.ndarray, labels: np.ndarray) -> None:
    """Platt scaling, folded into the score head so that users need not know of it."""
    x, y = torch.tensor(logits), torch.tensor(labels).to(torch.float64)
    scale = torch.ones(2, dtype=torch.float64)
    scale[1] = 0.0
    scale.requires_grad_()
    optimizer = torch.optim.LBFGS([scale], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(scale[0] * x + scale[1], y)
        loss.backward()
        return loss

    optimizer.step(closure)
    slope, shift = scale.detach().tolist()
    with torch.no_grad():
        model.score.weight.mul_(slope)
        model.score.bias.mul_(slope).add_(shift)
    print(f"  calibration: slope {slope:.3f}, shift {shift:.3f}", flush=True)
