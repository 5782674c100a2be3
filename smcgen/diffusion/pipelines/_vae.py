"""Latents to images: the VAE's decoder in float32."""

from collections.abc import Callable
from typing import Any

import torch
from torch.func import functional_call


class _Decode(torch.nn.Module):
    """`vae.decode` as a forward pass."""

    def __init__(self, vae: Any):
        super().__init__()
        self.vae = vae

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(latents, return_dict=False)[0]


def decode_float32(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """`vae.decode` with weights in float32, whatever their own precision; the VAE is left as it is.

    SDXL's VAE overflows in half precision. The wide weights live as long as the call, or as its gradient.
    """
    weights = dict(vae.named_parameters())
    narrow = any(w.dtype in (torch.float16, torch.bfloat16) for w in weights.values())
    absent = any(
        w.is_meta for w in weights.values()
    )  # offloaded one by one: as the pipeline does it
    if not narrow or absent:
        return vae.decode(latents.to(vae.dtype), return_dict=False)[0]
    wide = {f"vae.{k}": w.to(latents.device, torch.float32) for k, w in weights.items()}
    return functional_call(_Decode(vae), wide, (latents,))


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """Images of [-1, 1] in [0, 1]."""
    return (images / 2 + 0.5).clamp(0, 1)


def decoder(
    vae: Any, unpack: Callable[[torch.Tensor], torch.Tensor] = lambda x: x
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Latents, as the network knows them, to images in [0, 1]; differentiable."""
    config = vae.config
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    shift = getattr(config, "shift_factor", None) or 0.0

    def decode(latents: torch.Tensor) -> torch.Tensor:
        z = unpack(latents).to(torch.float32)
        z = z / config.scaling_factor + shift
        if mean is not None and std is not None:
            as_channels = lambda values: torch.tensor(values, device=z.device).view(1, -1, 1, 1)
            z = z * as_channels(std) + as_channels(mean)
        return to_unit(decode_float32(vae, z).float())

    return decode
