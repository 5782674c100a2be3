"""ImageReward: how people would rank an image among others for its prompt."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from transformers import AutoTokenizer

from smcgen.diffusion.rewards.images._blip import ranker
from smcgen.diffusion.rewards.images._models import (
    fetched,
    file_of,
    precision,
    source_of,
    weights_of,
)
from smcgen.diffusion.rewards.images._pixels import Images, square
from smcgen.hub import pick_device

# of the training set's scores, by which they are standardised; from the published model
_MEAN, _STD = 0.16717362830052426, 1.0333394966054072
_TOKENS = 35


@dataclass(frozen=True, eq=False)
class ImageReward:
    """A BLIP encoder of image and prompt with a regression on top (Xu et al. 2023); about N(0, 1) over images.

    The published weights run on transformers' BLIP here: the package `image-reward` (1.5) cannot be
    imported beside transformers 5. A whole batch is one forward pass.

    Args:
        weights: a file `ImageReward.pt`, or None: that of THUDM/ImageReward on the hub.
        tokenizer: BERT's, by name or folder, or a loaded one.
        device, dtype: "auto": half precision on a GPU if there is one.

    Raises:
        InvalidArgument: weights or a tokenizer that cannot be had.
    """

    weights: str | Path | None = None
    tokenizer: Any = "bert-base-uncased"
    device: str = field(default="auto", kw_only=True)
    dtype: Any = field(default="auto", kw_only=True)
    _pixels: Any = field(init=False, repr=False)
    _model: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        settle = lambda name, value: object.__setattr__(self, name, value)
        if isinstance(self.tokenizer, str | Path):
            source = source_of("tokenizer", self.tokenizer)
            load = lambda: AutoTokenizer.from_pretrained(source)
            settle("tokenizer", fetched(load, "tokenizer", source))
        path = str(self.weights or file_of("THUDM/ImageReward", "ImageReward.pt"))
        found = fetched(lambda: weights_of(path), "weights", path)
        model = ranker(found).to(pick_device(self.device), precision(self.device, self.dtype))
        settle("_model", model)
        settle("_pixels", square(model.side))

    def __call__(self, images: Images, prompts: list[str]) -> Float[torch.Tensor, " rows"]:
        """Scores of images in [0, 1], each for its prompt."""
        model = self._model
        tokens = self.tokenizer(
            prompts, padding="max_length", truncation=True, max_length=_TOKENS, return_tensors="pt"
        ).to(model.vision.device)
        pixels = self._pixels(images.to(model.vision.device, torch.float32))
        raw = model(pixels.to(model.vision.dtype), tokens["input_ids"], tokens["attention_mask"])
        return (raw - _MEAN) / _STD
