"""Tiny real transformers models over a handful of characters, with random weights from a seed."""

import functools
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from smcgen.text.engines.transformers import Transformers
from tests.text.build import build

CHARACTERS = "ab.\n"


def tokenizer(characters: str = CHARACTERS) -> PreTrainedTokenizerFast:
    """One character, one token; then the end of text."""
    vocab = {c: i for i, c in enumerate(characters)} | {"<eos>": len(characters)}
    raw = Tokenizer(models.WordLevel(vocab, unk_token="<eos>"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    raw.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>")


@functools.cache
def llama(
    seed: int = 0, vocab_size: int = len(CHARACTERS) + 1, layers: int = 2, **changes: Any
) -> Any:
    """A Llama of a few thousand parameters with logits wide enough to be interesting."""
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": layers}
    return new_llama(seed, vocab_size, 20.0, **shape | changes)


def new_llama(seed: int, vocab_size: int, scale: float, **changes: Any) -> Any:
    """A Llama whose logits are `scale` times as wide, of two heads, whose last token ends a text."""
    shape = {
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 128,
        "initializer_range": 0.02,
        "bos_token_id": None,
        "eos_token_id": vocab_size - 1,
        "pad_token_id": None,
    }
    model = build(LlamaForCausalLM, vocab_size, seed, **shape | changes)
    model.lm_head.weight.data.mul_(scale)
    return model


@functools.cache
def engine(seed: int = 0) -> Transformers:
    """An engine on `llama(seed)`."""
    return Transformers(llama(seed), tokenizer())
