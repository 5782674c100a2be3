"""LAION's aesthetic predictor: how much people like an image, on a scale of 1 to 10, whatever it shows."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch.nn.functional import normalize
from transformers import AutoModel, AutoProcessor

from smcgen.diffusion.rewards.images._models import (
    fetched,
    file_of,
    model_of,
    one_layer,
    processor_of,
    weights_of,
)
from smcgen.diffusion.rewards.images._pixels import Images, pixels_of


@dataclass(frozen=True, eq=False)
class Aesthetic:
    """A linear regression, in five layers, on CLIP's embedding (Schuhmann 2022, "improved aesthetic predictor").

    Args:
        head: its weights: a file (`layers.0.weight`, ..., of the published `sac+logos+ava1-l14-linearMSE`), or None:
            the copy on the hub that TRL uses.
        clip: the CLIP model it was trained on, by name or folder, or a loaded one.
        processor: that model's processor; needed with a loaded model.
        device, dtype: of a model that is loaded here; "auto": half precision on a GPU if there is one.

    Raises:
        InvalidArgument: weights that are not there or are of another head.
    """

    head: str | Path | None = None
    clip: Any = "openai/clip-vit-large-patch14"
    processor: Any = field(default=None, repr=False)
    device: str = field(default="auto", kw_only=True)
    dtype: Any = field(default="auto", kw_only=True)
    _pixels: Any = field(init=False, repr=False)
    _head: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        settle = lambda name, value: object.__setattr__(self, name, value)
        settle("processor", processor_of(AutoProcessor, self.processor, self.clip))
        settle("clip", model_of(AutoModel, self.clip, self.device, self.dtype))
        settle("_pixels", pixels_of(self.processor))
        path = self.head or file_of("trl-lib/ddpo-aesthetic-predictor", "aesthetic-model.pth")
        layer = fetched(lambda: one_layer(weights_of(str(path))), "head", path)
        settle("_head", [x.to(self.clip.device) for x in layer])

    def __call__(self, images: Images) -> Float[torch.Tensor, " rows"]:
        """Scores of images in [0, 1]."""
        clip = self.clip
        pixels = self._pixels(images.to(clip.device, torch.float32))
        features = clip.get_image_features(pixel_values=pixels.to(clip.dtype))
        seen = features if isinstance(features, torch.Tensor) else features.pooler_output
        weight, bias = self._head
        return normalize(seen.float(), dim=-1) @ weight + bias
