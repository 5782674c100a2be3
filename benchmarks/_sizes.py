"""Shapes of the language models that are measured: random weights, so that any machine has them."""

import argparse
from typing import Any

import torch

GPU = torch.cuda.is_available()
SIZES: dict[str, dict[str, Any]] = {
    # costs next to nothing: what is left is the host's work, as where a GPU waits for it
    "bare": {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
    },
    "small": {
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    # of Llama 3.2 1B: 1.2 billion weights with its vocabulary of 128 256
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    # of Llama 3.1 8B
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
VOCAB = {"bare": 256, "small": 2048, "1b": 128_256, "8b": 128_256}


def add_size(parser: argparse.ArgumentParser) -> None:
    """The option `--size`."""
    parser.add_argument("--size", choices=SIZES, default="small", help="of the language model")


def built(kind: type, config: type, size: str, vocab: int, **options: Any) -> Any:
    """A model where it is to run: on a GPU if there is one, the larger one in half precision there."""
    torch.manual_seed(0)
    shape = config(
        vocab_size=vocab,
        max_position_embeddings=4096,
        bos_token_id=None,
        **{"eos_token_id": None, **SIZES[size], **options},
    )
    with torch.device("cuda" if GPU else "cpu"):
        model = kind(shape).eval()
    return model.to(torch.bfloat16) if GPU and size not in ("bare", "small") else model
