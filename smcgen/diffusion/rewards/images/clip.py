"""How well an image fits its prompt, by CLIP or SigLIP; also PickScore and HPSv2, which are CLIP models."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch.nn.functional import normalize
from transformers import AutoModel, AutoProcessor

from smcgen.diffusion.rewards.images._models import model_of, processor_of
from smcgen.diffusion.rewards.images._pixels import Images, pixels_of
from smcgen.errors import UnknownName

Output = Literal["similarity", "logit"]


@dataclass(frozen=True, eq=False)
class CLIPScore:
    """Cosine of an image's and a text's embedding (Radford et al. 2021; Hessel et al. 2021 scale it by 2.5).

    Args:
        model: a CLIP or SigLIP model by name or folder, or a loaded one.
        processor: its processor (tokenizer and image processor) if it is not the model's own.
        text: what images are compared with; None: each with its own prompt.
        output: "similarity", in [-1, 1]; or "logit", `exp(logit scale)` times it (about 100 for CLIP), as PickScore
            is defined.
        device, dtype: of a model that is loaded here; "auto": half precision on a GPU if there is one.

    """

    model: Any = "openai/clip-vit-large-patch14"
    processor: Any = field(default=None, repr=False)
    text: str | None = None
    output: Output = "similarity"
    device: str = field(default="auto", kw_only=True)
    dtype: Any = field(default="auto", kw_only=True)
    _pixels: Any = field(init=False, repr=False)
    _known: dict[str, torch.Tensor] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.output not in get_args(Output):
            raise UnknownName("output", self.output, get_args(Output))
        settle = lambda name, value: object.__setattr__(self, name, value)
        settle("processor", processor_of(AutoProcessor, self.processor, self.model))
        settle("model", model_of(AutoModel, self.model, self.device, self.dtype))
        settle("_pixels", pixels_of(self.processor))

    def __call__(self, images: Images, prompts: list[str]) -> Float[torch.Tensor, " rows"]:
        """Scores of images in [0, 1], each with its prompt."""
        model = self.model
        pixels = self._pixels(images.to(model.device, torch.float32))
        seen = _pooled(model.get_image_features(pixel_values=pixels.to(model.dtype)))
        texts = prompts if self.text is None else [self.text] * len(prompts)
        cosine = (normalize(seen.float(), dim=-1) * self._texts(texts)).sum(-1)
        return cosine if self.output == "similarity" else model.logit_scale.float().exp() * cosine

    def _texts(self, texts: list[str]) -> Float[torch.Tensor, "rows width"]:
        known = self._known  # texts are read once
        new = sorted(set(texts) - set(known))
        if new:
            inputs = self.processor.tokenizer(
                new, padding="max_length", truncation=True, return_tensors="pt"
            )
            with torch.no_grad():
                embedded = _pooled(self.model.get_text_features(**inputs.to(self.model.device)))
            known.update(zip(new, normalize(embedded.float(), dim=-1), strict=True))
        return torch.stack([known[text] for text in texts])


def _pooled(features: Any) -> torch.Tensor:
    """Embeddings, whichever way this version of transformers returns them."""
    return features if isinstance(features, torch.Tensor) else features.pooler_output
