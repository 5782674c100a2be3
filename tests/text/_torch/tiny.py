"""Tiny random models of several families, and the answer they give without any cache."""

import functools
from typing import Any

import numpy as np
import torch
import transformers as tf

from tests.text.build import build

VOCAB = 61
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
_WINDOW = {"head_dim": 8, "sliding_window": 5, "attn_implementation": "eager"}
_SINKS = {
    "num_local_experts": 2,
    "num_experts_per_tok": 1,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (tf.LlamaForCausalLM, {}),
    "qwen2": (tf.Qwen2ForCausalLM, {}),
    "qwen3": (tf.Qwen3ForCausalLM, {"head_dim": 8}),
    "mistral-window": (tf.MistralForCausalLM, {"sliding_window": 5}),
    "gpt2": (tf.GPT2LMHeadModel, {"max_position_embeddings": 128}),
    "gpt-neox": (tf.GPTNeoXForCausalLM, {}),
    "gemma2-softcap-window": (tf.Gemma2ForCausalLM, _WINDOW | {"attn_logit_softcapping": 2.0}),
    "gpt-oss-sinks-window": (tf.GptOssForCausalLM, _WINDOW | _SINKS),
    "gptj-own-attention": (tf.GPTJForCausalLM, {"rotary_dim": 4}),
}


@functools.cache
def model(name: str, dtype: torch.dtype = torch.float32) -> tf.PreTrainedModel:
    """A tiny model with random weights of a fixed seed."""
    kind, changes = MODELS[name]
    return build(kind, VOCAB, 7, **ENDS | changes).to(dtype)


@torch.inference_mode()
def recompute(lm: tf.PreTrainedModel, ids: list[int]) -> np.ndarray:
    """Output at every position of one sequence, by the model alone, shape (tokens, out)."""
    return lm(input_ids=torch.tensor([ids]), use_cache=False)[0][0].float().numpy()
