"""Tiny random models of several families, and the answer they give without any cache."""

import functools

import numpy as np
import torch
import transformers as tf

VOCAB = 61
_COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
    "initializer_range": 0.3,  # so that attention is far from uniform
}
_GPT = {"vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3}
MODELS = {
    "llama": (tf.LlamaForCausalLM, tf.LlamaConfig, _COMMON),
    "qwen2": (tf.Qwen2ForCausalLM, tf.Qwen2Config, _COMMON),
    "qwen3": (tf.Qwen3ForCausalLM, tf.Qwen3Config, _COMMON | {"head_dim": 8}),
    "mistral-window": (tf.MistralForCausalLM, tf.MistralConfig, _COMMON | {"sliding_window": 5}),
    "gpt2": (
        tf.GPT2LMHeadModel,
        tf.GPT2Config,
        _GPT | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    ),
    "gpt-neox": (
        tf.GPTNeoXForCausalLM,
        tf.GPTNeoXConfig,
        {k: v for k, v in _COMMON.items() if k != "num_key_value_heads"},
    ),
    "gemma2-softcap-window": (
        tf.Gemma2ForCausalLM,
        tf.Gemma2Config,
        _COMMON
        | {
            "head_dim": 8,
            "sliding_window": 5,
            "attn_logit_softcapping": 2.0,
            "attn_implementation": "eager",
        },
    ),
    "gpt-oss-sinks-window": (
        tf.GptOssForCausalLM,
        tf.GptOssConfig,
        _COMMON
        | {
            "head_dim": 8,
            "sliding_window": 5,
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
            "attn_implementation": "eager",
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
    "gptj-own-attention": (
        tf.GPTJForCausalLM,
        tf.GPTJConfig,
        _GPT | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "rotary_dim": 4},
    ),
}


@functools.cache
def model(name: str, dtype: torch.dtype = torch.float32) -> tf.PreTrainedModel:
    """A tiny model with random weights of a fixed seed."""
    kind, config, arguments = MODELS[name]
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return kind(config(**arguments)).eval().to(dtype)


@torch.inference_mode()
def recompute(lm: tf.PreTrainedModel, ids: list[int]) -> np.ndarray:
    """Output at every position of one sequence, by the model alone, shape (tokens, out)."""
    return lm(input_ids=torch.tensor([ids]), use_cache=False)[0][0].float().numpy()
