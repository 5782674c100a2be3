"""What training scripts share: the architecture, the character tokenizer and one training loop."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, processors
from torch import Tensor
from transformers import LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

PAD, BOS, EOS, UNK = 0, 1, 2, 3
Batch = dict[str, Tensor]


def build_tokenizer(alphabet: str) -> PreTrainedTokenizerFast:
    """One token a character; ``<bos>`` is put in front, and decoding adds no spaces."""
    specials = ["<pad>", "<bos>", "<eos>", "<unk>"]
    vocab = {token: i for i, token in enumerate([*specials, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    core.decoder = decoders.Fuse()
    core.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", BOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def llama_config(vocab_size: int, *, hidden: int = 128, layers: int = 3, **extra) -> LlamaConfig:
    """A Llama of about half a million parameters: four heads, an MLP twice as wide as the body."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.08,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        **extra,
    )


def start(seed: int) -> None:
    """Seed torch and keep it to one thread, so that a run repeats itself."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)


def right_pad(rows: list[list[int]], value: int) -> Tensor:
    """Stack lists of different lengths."""
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def _optimizers(
    model: torch.nn.Module, lr: float, slow: Sequence[torch.nn.Parameter], slow_factor: float
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the body, AdamW for embeddings, norms and heads."""
    slowed = {id(p) for p in slow}
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            inner = p.ndim == 2 and "embed" not in name and "score" not in name
            groups.setdefault((inner, id(p) in slowed), []).append(p)
    inner, outer = (
        [
            {"params": params, "scale": slow_factor if late else 1.0}
            for (kind, late), params in groups.items()
            if kind is wanted
        ]
        for wanted in (True, False)
    )
    return [
        torch.optim.Muon(
            inner, lr=lr, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(outer, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def fit(
    model: torch.nn.Module,
    batches: Iterator[Batch],
    loss_of: Callable[[torch.nn.Module, Batch], Tensor],
    *,
    steps: int,
    lr: float,
    warmup: int = 50,
    floor: float = 0.1,
    check_every: int = 50,
    check: Callable[[int], None] | None = None,
    slow: Sequence[torch.nn.Parameter] = (),
    slow_factor: float = 0.3,
    name: str = "",
) -> None:
    """Train with a warm-up and a cosine down to ``floor * lr``.

    ``check(step)`` is called every ``check_every`` steps with the model in eval mode, and may save
    it: that is how a deliberately weak model is caught at the strength wanted.
    Parameters in ``slow`` (those that know something already) learn at ``slow_factor`` of the rate.
    """
    optimizers = _optimizers(model, lr, slow, slow_factor)
    model.train()
    began, running = time.time(), 0.0
    for step in range(1, steps + 1):
        cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
        rate = lr * min(1.0, step / warmup) * (floor + (1 - floor) * cosine)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, next(batches))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            optimizer.step()
            optimizer.zero_grad()
        running += loss.item()
        if step % check_every == 0 or step == steps:
            mean = running / (step % check_every or check_every)
            print(f"{name} step {step} loss {mean:.4f} {time.time() - began:.0f}s", flush=True)
            running = 0.0
            model.eval()
            if check is not None:
                check(step)
            model.train()
    model.eval()


def save(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, half: bool = False
) -> None:
    """Weights (safetensors), configuration and tokenizer, loadable with ``from_pretrained``.

    ``half`` stores float16 to save space; the configuration still asks for float32 on loading.
    """
    (model.half() if half else model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2))
