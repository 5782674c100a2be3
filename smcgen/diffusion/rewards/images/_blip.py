"""The network of ImageReward, from its published weights, on transformers' BLIP."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

from smcgen.diffusion.rewards.images._models import one_layer
from smcgen.errors import InvalidArgument

Weights = Mapping[str, torch.Tensor]
_HEAD = 64  # width of an attention head, in both encoders

# BLIP's own names of its vision transformer, and those of transformers
_VISION = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    r"patch_embed\.proj": "embeddings.patch_embedding",
    r"^norm\.": "post_layernorm.",
    r"^blocks\.": "encoder.layers.",
    r"\.norm([12])\.": r".layer_norm\1.",
    r"\.attn\.proj\.": ".self_attn.projection.",
    r"\.attn\.": ".self_attn.",
}


class Ranker(torch.nn.Module):
    """The prompt's encoder looks at the image by cross-attention; its first token is scored."""

    def __init__(self, vision: Any, text: Any, head: Any):
        super().__init__()
        self.vision, self.text = vision, text
        self.side: int = vision.embeddings.image_size
        self.register_buffer("weight", head[0])
        self.register_buffer("bias", head[1])

    def forward(
        self, pixels: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor
    ) -> Float[torch.Tensor, " rows"]:
        seen = self.vision(pixel_values=pixels).last_hidden_state
        read = self.text(input_ids=ids, attention_mask=mask, encoder_hidden_states=seen)
        return read.last_hidden_state[:, 0].float() @ self.weight.float() + self.bias.float()


def ranker(weights: Weights, head_width: int = _HEAD) -> Ranker:
    """The network with the published weights; its sizes are read from them.

    Raises:
        InvalidArgument: they are not those of ImageReward.
    """
    try:
        vision = _vision(_under(weights, "blip.visual_encoder."), head_width)
        text = _text(_under(weights, "blip.text_encoder."), head_width)
        return Ranker(vision, text, one_layer(_under(weights, "mlp."))).eval()
    except (KeyError, RuntimeError) as error:
        allowed = f"the weights of ImageReward ({' '.join(str(error).split())})"
        raise InvalidArgument("weights", f"{len(weights)} tensors", allowed) from error


def _under(weights: Weights, prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _depth(weights: Weights, pattern: str) -> int:
    found = (re.match(pattern, name) for name in weights)
    return 1 + max(int(match.group(1)) for match in found if match)


def _vision(weights: Weights, head_width: int) -> BlipVisionModel:
    width, _, patch, _ = weights["patch_embed.proj.weight"].shape
    side = round((weights["pos_embed"].shape[1] - 1) ** 0.5) * patch
    config = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=weights["blocks.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=_depth(weights, r"blocks\.(\d+)\."),
        num_attention_heads=width // head_width,
        image_size=side,
        patch_size=patch,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
    )
    renamed = {}
    for name, value in weights.items():
        for old, new in _VISION.items():
            name = re.sub(old, new, name)
        renamed[name] = value
    return _filled(BlipVisionModel(config), renamed)


def _text(weights: Weights, head_width: int) -> BlipTextModel:
    vocabulary, width = weights["embeddings.word_embeddings.weight"].shape
    config = BlipTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        encoder_hidden_size=weights["encoder.layer.0.crossattention.self.key.weight"].shape[1],
        intermediate_size=weights["encoder.layer.0.intermediate.dense.weight"].shape[0],
        num_hidden_layers=_depth(weights, r"encoder\.layer\.(\d+)\."),
        num_attention_heads=width // head_width,
        max_position_embeddings=weights["embeddings.position_embeddings.weight"].shape[0],
        hidden_act="gelu",
        layer_norm_eps=1e-12,
        is_decoder=True,  # which here only means that there is cross-attention
    )
    return _filled(BlipTextModel(config, add_pooling_layer=False), dict(weights))


def _filled(model: Any, weights: dict[str, torch.Tensor]) -> Any:
    missing, unexpected = model.load_state_dict(weights, strict=False)
    # buffers that count positions are saved by some versions and not by others
    odd = [name for name in (*missing, *unexpected) if not name.endswith("position_ids")]
    if odd:
        raise KeyError(f"{len(odd)} tensors missing or unknown, {odd[0]!r} among them")
    return model
