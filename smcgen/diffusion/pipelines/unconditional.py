"""`DDPMPipeline` and `DDIMPipeline`: a UNet on pixels, no prompt."""

from typing import Any

import torch

from smcgen.diffusion.pipelines._scheduler import spaced
from smcgen.diffusion.pipelines._vae import to_unit
from smcgen.diffusion.pipelines.base import Prepared
from smcgen.errors import InvalidArgument


def prepare(
    pipe: Any, prompts: list[str] | None, *, num_inference_steps: int | None = None
) -> Prepared:
    """A UNet on pixels.

    Args:
        num_inference_steps: None: as in the pipeline's own call, 1000 for DDPM and 50 for DDIM.
    """
    kind = type(pipe).__name__
    if prompts is not None:
        raise InvalidArgument("prompt", prompts, f"None: {kind} takes no prompt")
    unet, device = pipe.unet, pipe._execution_device
    size = unet.config.sample_size
    height, width = (size, size) if isinstance(size, int) else size

    dtype = unet.dtype  # once: it walks over all modules

    def network(x: torch.Tensor, time: torch.Tensor, problem: torch.Tensor) -> torch.Tensor:
        return unet(x.to(dtype), time).sample

    return Prepared(
        shape=(unet.config.in_channels, height, width),
        network=network,
        spacing=spaced(pipe, num_inference_steps or (1000 if "DDPM" in kind else 50), device),
        decode=to_unit,
        device=device,
    )
