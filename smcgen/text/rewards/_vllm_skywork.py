"""Skywork-o1-Open-PRM for vLLM: a Qwen2 with a value head, which vLLM does not know by its name."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from vllm import ModelRegistry
from vllm.model_executor.models.adapters import as_seq_cls_model
from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM

_NAME = "Qwen2ForPrmModel"
Weights = Iterable[tuple[str, torch.Tensor]]
_Classifier: Any = as_seq_cls_model(Qwen2ForCausalLM)


class Qwen2ForPrmModel(_Classifier):
    """A sequence classifier whose head the checkpoint keeps as `v_head.summary`."""

    def load_weights(self, weights: Weights) -> set[str]:
        """Load a checkpoint, its language model's output layer left out."""
        return super().load_weights(_renamed(weights))


def _renamed(weights: Weights) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in weights:
        if not name.startswith("lm_head."):
            yield name.replace("v_head.summary.", "score."), tensor


def register() -> dict[str, Any]:
    """Make the class known to vLLM; returns what the configuration must say to get it."""
    if _NAME not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(_NAME, Qwen2ForPrmModel)
    return {"architectures": [_NAME], "num_labels": 1}
