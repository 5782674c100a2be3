"""Images in [0, 1] as a vision model reads them, on the device they are on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.functional import interpolate

Images = Float[torch.Tensor, "rows 3 height width"]
Read = Float[torch.Tensor, "rows 3 h w"]  # another size
_MODES = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # PIL's numbers


@dataclass(frozen=True)
class Pixels:
    """Resize, crop, normalise: differentiable, and without a trip through 8-bit images on the host.

    Attributes:
        size: (height, width); or the length of the shorter side.
        crop: (height, width) of the centre; None: no crop.
        mode: of interpolation, with antialiasing as PIL has it.
        mean, std: of each channel.
    """

    size: tuple[int, int] | int
    crop: tuple[int, int] | None
    mode: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Images) -> Read:
        height, width = images.shape[-2:]
        size = self.size
        if isinstance(size, int):
            short = min(height, width)
            size = (int(size * height / short), int(size * width / short))
        if size != (height, width):
            smooth = {} if self.mode == "nearest" else {"antialias": True}
            images = interpolate(images, size, mode=self.mode, **smooth).clamp(0, 1)
        if self.crop is not None:
            top, left = ((a - b) // 2 for a, b in zip(size, self.crop, strict=True))
            images = images[..., top : top + self.crop[0], left : left + self.crop[1]]
        as_channels = lambda values: images.new_tensor(values).view(-1, 1, 1)
        return (images - as_channels(self.mean)) / as_channels(self.std)


@dataclass(frozen=True)
class ByProcessor:
    """The model's own image processor, for those that do more than resize, crop and normalise."""

    processor: Any

    def __call__(self, images: Images) -> Read:
        pictures = (images.detach().float().cpu().permute(0, 2, 3, 1).numpy() * 255).round()
        read = self.processor(images=list(pictures.astype(np.uint8)), return_tensors="pt")
        return read["pixel_values"].to(images.device)


def pixels_of(processor: Any) -> Pixels | ByProcessor:
    """What a transformers image processor (or a processor that has one) does, in torch where it can be."""
    processor = getattr(processor, "image_processor", processor)
    size, crop = dict(processor.size or {}), dict(getattr(processor, "crop_size", None) or {})
    plain = (
        set(size) in ({"height", "width"}, {"shortest_edge"})
        and processor.do_resize
        and processor.do_rescale
        and processor.do_normalize
        and getattr(processor, "crop_pct", None) is None
        and not getattr(processor, "do_pad", None)
        and int(processor.resample) in _MODES
    )
    cropped = bool(getattr(processor, "do_center_crop", False))
    if not plain or (cropped and set(crop) != {"height", "width"}):
        return ByProcessor(processor)
    return Pixels(
        size.get("shortest_edge") or _pair(size),
        _pair(crop) if cropped else None,
        _MODES[int(processor.resample)],
        tuple(processor.image_mean),
        tuple(processor.image_std),
    )


def _pair(size: dict[str, int]) -> tuple[int, int]:
    return size["height"], size["width"]


def square(side: int) -> Pixels:
    """The centre of an image, as CLIP and BLIP read it."""
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    return Pixels(side, (side, side), "bicubic", mean, std)
