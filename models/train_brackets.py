"""Train the masked diffusion model of brackets: ``python -m models.train_brackets``.

The bound that is minimised is MDLM's (Sahoo et al. 2024): cross entropy of the masked characters, weighted by 1/t at
masking probability t. Averaged over t that is the mean cross entropy of k masked characters, k uniform on 1..L, which
has less variance and is what is computed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from models import brackets
from models._common import Batch, save, start
from models._descend import descend

NAME = "brackets-mdlm"


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, and the mask."""
    vocab = {token: i for i, token in enumerate([*brackets.ALPHABET, "<mask>"])}
    core = Tokenizer(models.WordLevel(vocab=vocab, unk_token="<mask>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, mask_token="<mask>", clean_up_tokenization_spaces=False
    )


def build(hidden: int) -> BertForMaskedLM:
    """A small BERT without dropout; it is not told the time, which the masks show."""
    return BertForMaskedLM(
        BertConfig(
            vocab_size=len(brackets.ALPHABET) + 1,
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=brackets.LENGTH,
            type_vocab_size=1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.05,
            pad_token_id=None,
        )
    )


def masked(ids: np.ndarray, rng: np.random.Generator) -> Batch:
    """Rows with k random characters masked, k spread evenly over 1..L."""
    n, length = ids.shape
    k = 1 + np.floor((rng.permutation(n) + rng.random(n)) / n * length)
    hidden = rng.random(ids.shape).argsort(1).argsort(1) < k[:, None]
    shown = np.where(hidden, brackets.MASK, ids)
    return {k: torch.from_numpy(v) for k, v in (("input_ids", shown), ("labels", ids))}


def batches(seed: int, rows: int) -> Iterator[Batch]:
    """Fresh strings for ever."""
    rng = np.random.default_rng(seed)
    while True:
        yield masked(brackets.sample(rng, rows), rng)


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    """Nats per character: the mean over rows of the mean over masked characters."""
    hidden = batch["input_ids"] == brackets.MASK
    logits = model(input_ids=batch["input_ids"]).logits.float()[..., : brackets.MASK]
    nats = F.cross_entropy(logits.transpose(1, 2), batch["labels"], reduction="none")
    return ((nats * hidden).sum(1) / hidden.sum(1)).mean()


def bound(model: nn.Module, rows: int = 2048, seed: int = 1) -> float:
    """The bound on fresh strings, nats per character."""
    with torch.no_grad():
        return loss_of(model, next(batches(seed, rows))).item()


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--tiny", action="store_true", help="a run of seconds, for tests")
    args = parser.parse_args(argv)
    start(args.seed)
    steps, rows, hidden = (3, 8, 16) if args.tiny else (args.steps, 64, 96)
    model = build(hidden)
    size = 64 if args.tiny else 2048
    fresh = batches(args.seed + 10, rows)
    check = lambda: f"bound {bound(model, size):.4f}, entropy {brackets.entropy():.4f}"
    descend(model, lambda step: loss_of(model, next(fresh)), steps, 2e-3, check)
    save(model, tokenizer(), args.out / NAME, half=True)


if __name__ == "__main__":
    main()
