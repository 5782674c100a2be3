"""`StableDiffusionPipeline`: 1.4, 1.5, 2.0, 2.1 and their fine-tunings."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from smcgen.diffusion.pipelines._scheduler import spaced
from smcgen.diffusion.pipelines._vae import decoder
from smcgen.diffusion.pipelines.base import Prepared, Rows, guided, per_prompt, size_of
from smcgen.errors import InvalidArgument


def prepare(
    pipe: Any,
    prompts: list[str] | None,
    *,
    num_inference_steps: int = 50,
    timesteps: Sequence[int] | None = None,
    sigmas: Sequence[float] | None = None,
    guidance_scale: float = 7.5,
    guidance_rescale: float = 0.0,
    negative_prompt: str | Sequence[str] | None = None,
    height: int | None = None,
    width: int | None = None,
    clip_skip: int | None = None,
    cross_attention_kwargs: dict[str, Any] | None = None,
) -> Prepared:
    """Prompts through CLIP, a UNet on latents, guidance; options as those of the pipeline's own call."""
    if prompts is None:
        raise InvalidArgument("prompt", None, "a string or a list of strings")
    unet, device = pipe.unet, pipe._execution_device
    own = unet.config.sample_size
    sizes = size_of(pipe, height, width, own, pipe.vae_scale_factor)
    guides = guidance_scale > 1 and unet.config.time_cond_proj_dim is None
    with torch.no_grad():
        embeds, negative = pipe.encode_prompt(
            prompts,
            device,
            1,
            guides,
            per_prompt("negative_prompt", negative_prompt, prompts),
            lora_scale=(cross_attention_kwargs or {}).get("scale"),
            clip_skip=clip_skip,
        )
    scale = guidance_embedding(pipe, guidance_scale, embeds.dtype)

    dtype = unet.dtype  # once: it walks over all modules

    def network(x: Rows, time: torch.Tensor, conditions: list[torch.Tensor]) -> Rows:
        return unet(
            x.to(dtype),
            time,
            encoder_hidden_states=conditions[0],
            timestep_cond=None if scale is None else scale.expand(len(x), -1),
            cross_attention_kwargs=cross_attention_kwargs,
            return_dict=False,
        )[0]

    def finish(images: Rows) -> Rows:
        return checked(pipe, images, embeds.dtype)

    return Prepared(
        shape=(unet.config.in_channels, *(size // pipe.vae_scale_factor for size in sizes)),
        network=guided(
            network,
            [embeds],
            [negative] if guides else None,
            guidance_scale,
            rescaling(guidance_rescale),
        ),
        spacing=spaced(pipe, num_inference_steps, device, timesteps=timesteps, sigmas=sigmas),
        decode=decoder(pipe.vae),
        finish=finish,
        rows_per_particle=2 if guides else 1,
        device=device,
    )


def rescaling(guidance_rescale: float) -> Any:
    """Lin et al.'s rescaling of a guided prediction, None if it is off."""
    if guidance_rescale <= 0:
        return None
    return partial(rescale_noise_cfg, guidance_rescale=guidance_rescale)


def guidance_embedding(pipe: Any, guidance_scale: float, dtype: torch.dtype) -> Any:
    """The guidance scale as an input of UNets distilled to take it (LCM), None for others; shape (1, width)."""
    width = pipe.unet.config.time_cond_proj_dim
    if width is None:
        return None
    scale = torch.tensor([guidance_scale - 1.0])
    embedding = pipe.get_guidance_scale_embedding(scale, embedding_dim=width)
    return embedding.to(pipe._execution_device, dtype)


def checked(pipe: Any, images: Rows, dtype: torch.dtype) -> Rows:
    """Images after the pipeline's safety checker, which blackens those that it flags."""
    if pipe.safety_checker is None:
        return images
    shown, flagged = pipe.run_safety_checker(images * 2 - 1, pipe._execution_device, dtype)
    keep = [not flag for flag in flagged]
    return pipe.image_processor.postprocess(shown, output_type="pt", do_denormalize=keep)
