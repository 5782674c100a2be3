"""`StableDiffusionXLPipeline`: two text encoders, pooled embeddings and picture sizes as conditions."""

from collections.abc import Sequence
from typing import Any

import torch

from smcgen.diffusion.pipelines._scheduler import spaced
from smcgen.diffusion.pipelines._vae import decoder
from smcgen.diffusion.pipelines.base import Prepared, Rows, guided, per_prompt, size_of
from smcgen.diffusion.pipelines.stable_diffusion import guidance_embedding, rescaling
from smcgen.errors import InvalidArgument

Size = tuple[int, int]


def prepare(
    pipe: Any,
    prompts: list[str] | None,
    *,
    num_inference_steps: int = 50,
    timesteps: Sequence[int] | None = None,
    sigmas: Sequence[float] | None = None,
    guidance_scale: float = 5.0,
    guidance_rescale: float = 0.0,
    prompt_2: str | Sequence[str] | None = None,
    negative_prompt: str | Sequence[str] | None = None,
    negative_prompt_2: str | Sequence[str] | None = None,
    height: int | None = None,
    width: int | None = None,
    original_size: Size | None = None,
    crops_coords_top_left: Size = (0, 0),
    target_size: Size | None = None,
    negative_original_size: Size | None = None,
    negative_crops_coords_top_left: Size = (0, 0),
    negative_target_size: Size | None = None,
    clip_skip: int | None = None,
    cross_attention_kwargs: dict[str, Any] | None = None,
) -> Prepared:
    """Prompts through both encoders, a UNet on latents, guidance; options as those of the pipeline's own call."""
    if prompts is None:
        raise InvalidArgument("prompt", None, "a string or a list of strings")
    unet, device = pipe.unet, pipe._execution_device
    sizes = size_of(pipe, height, width, pipe.default_sample_size, pipe.vae_scale_factor)
    guides = guidance_scale > 1 and unet.config.time_cond_proj_dim is None
    texts = {
        "prompt_2": prompt_2,
        "negative_prompt": negative_prompt,
        "negative_prompt_2": negative_prompt_2,
    }
    with torch.no_grad():
        embeds, negative, pooled, negative_pooled = pipe.encode_prompt(
            prompt=prompts,
            device=device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=guides,
            lora_scale=(cross_attention_kwargs or {}).get("scale"),
            clip_skip=clip_skip,
            **{name: per_prompt(name, value, prompts) for name, value in texts.items()},
        )

    def time_ids(original: Size, crops: Size, target: Size) -> torch.Tensor:
        second = pipe.text_encoder_2
        width = pooled.shape[-1] if second is None else second.config.projection_dim
        ids = pipe._get_add_time_ids(original, crops, target, embeds.dtype, int(width))
        return ids.to(device).expand(len(prompts), -1)

    ids = time_ids(original_size or sizes, crops_coords_top_left, target_size or sizes)
    other = ids
    if negative_original_size is not None and negative_target_size is not None:
        crops = negative_crops_coords_top_left
        other = time_ids(negative_original_size, crops, negative_target_size)
    scale = guidance_embedding(pipe, guidance_scale, embeds.dtype)

    dtype = unet.dtype  # once: it walks over all modules

    def network(x: Rows, time: torch.Tensor, conditions: list[torch.Tensor]) -> Rows:
        return unet(
            x.to(dtype),
            time,
            encoder_hidden_states=conditions[0],
            timestep_cond=None if scale is None else scale.expand(len(x), -1),
            cross_attention_kwargs=cross_attention_kwargs,
            added_cond_kwargs={"text_embeds": conditions[1], "time_ids": conditions[2]},
            return_dict=False,
        )[0]

    def finish(images: Rows) -> Rows:
        if pipe.watermark is None:
            return images
        return (pipe.watermark.apply_watermark(images * 2 - 1) / 2 + 0.5).clamp(0, 1)

    return Prepared(
        shape=(unet.config.in_channels, *(size // pipe.vae_scale_factor for size in sizes)),
        network=guided(
            network,
            [embeds, pooled, ids],
            [negative, negative_pooled, other] if guides else None,
            guidance_scale,
            rescaling(guidance_rescale),
        ),
        spacing=spaced(pipe, num_inference_steps, device, timesteps=timesteps, sigmas=sigmas),
        decode=decoder(pipe.vae),
        finish=finish,
        rows_per_particle=2 if guides else 1,
        device=device,
    )
