"""Tiny transformers models of any class, with random weights of a fixed seed."""

from typing import Any

import torch
import transformers as tf

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # so that attention is far from uniform
}


def build(kind: Any, vocab: int, seed: int = 0, **changes: Any) -> Any:
    """A model of class `kind` in evaluation mode; its configuration is `SHAPE` with changes."""
    return _seeded(kind, kind.config_class(vocab_size=vocab, **SHAPE | changes), seed)


def recurrent(vocab: int) -> Any:
    """A language model without a cache of keys and values."""
    shape = tf.MambaConfig(vocab_size=vocab, hidden_size=16, num_hidden_layers=1)
    return _seeded(tf.MambaForCausalLM, shape, 0)


def encoder_decoder(vocab: int) -> Any:
    """A language model that is more than a decoder."""
    shape = tf.T5Config(vocab_size=vocab, d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8)
    return _seeded(tf.T5ForConditionalGeneration, shape, 0)


def _seeded(kind: Any, config: Any, seed: int) -> Any:
    with torch.random.fork_rng():  # nobody else's random numbers change
        torch.manual_seed(seed)
        return kind(config).eval()
