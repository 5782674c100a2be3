"""`StableDiffusion3Pipeline` (3 and 3.5): a transformer that predicts the velocity of a rectified flow."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift

from smcgen.diffusion.pipelines._scheduler import spaced
from smcgen.diffusion.pipelines._vae import decoder
from smcgen.diffusion.pipelines.base import Prepared, Rows, guided, per_prompt, size_of
from smcgen.errors import InvalidArgument


def prepare(
    pipe: Any,
    prompts: list[str] | None,
    *,
    num_inference_steps: int = 28,
    sigmas: Sequence[float] | None = None,
    mu: float | None = None,
    guidance_scale: float = 7.0,
    prompt_2: str | Sequence[str] | None = None,
    prompt_3: str | Sequence[str] | None = None,
    negative_prompt: str | Sequence[str] | None = None,
    negative_prompt_2: str | Sequence[str] | None = None,
    negative_prompt_3: str | Sequence[str] | None = None,
    height: int | None = None,
    width: int | None = None,
    clip_skip: int | None = None,
    max_sequence_length: int = 256,
    joint_attention_kwargs: dict[str, Any] | None = None,
) -> Prepared:
    """Prompts through three encoders, a transformer on latents; options as those of the pipeline's own call."""
    if prompts is None:
        raise InvalidArgument("prompt", None, "a string or a list of strings")
    transformer, device = pipe.transformer, pipe._execution_device
    patch = transformer.config.patch_size
    multiple = pipe.vae_scale_factor * patch
    sizes = size_of(pipe, height, width, pipe.default_sample_size, multiple)
    guides = guidance_scale > 1
    texts = {
        "prompt_2": prompt_2,
        "prompt_3": prompt_3,
        "negative_prompt": negative_prompt,
        "negative_prompt_2": negative_prompt_2,
        "negative_prompt_3": negative_prompt_3,
    }
    with torch.no_grad():
        embeds, negative, pooled, negative_pooled = pipe.encode_prompt(
            prompt=prompts,
            device=device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=guides,
            clip_skip=clip_skip,
            max_sequence_length=max_sequence_length,
            lora_scale=(joint_attention_kwargs or {}).get("scale"),
            **{name: per_prompt(name, value, prompts) for name, value in texts.items()},
        )

    dtype = transformer.dtype  # once: it walks over all modules

    def network(x: Rows, time: torch.Tensor, conditions: list[torch.Tensor]) -> Rows:
        return transformer(
            hidden_states=x.to(dtype),
            timestep=time.expand(len(x)),
            encoder_hidden_states=conditions[0],
            pooled_projections=conditions[1],
            joint_attention_kwargs=joint_attention_kwargs,
            return_dict=False,
        )[0]

    latent = tuple(size // pipe.vae_scale_factor for size in sizes)
    if mu is None and pipe.scheduler.config.get("use_dynamic_shifting"):
        mu = shift_of(pipe.scheduler, (latent[0] // patch) * (latent[1] // patch), 1.16)
    return Prepared(
        shape=(transformer.config.in_channels, *latent),
        network=guided(
            network,
            [embeds, pooled],
            [negative, negative_pooled] if guides else None,
            guidance_scale,
        ),
        spacing=spaced(pipe, num_inference_steps, device, sigmas=sigmas, mu=mu),
        decode=decoder(pipe.vae),
        rows_per_particle=2 if guides else 1,
        device=device,
    )


def shift_of(scheduler: Any, tokens: int, max_shift: float) -> float:
    """mu: how far the flow's times are shifted towards noise for an image of so many tokens."""
    config = scheduler.config
    return calculate_shift(
        tokens,
        config.get("base_image_seq_len", 256),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.5),
        config.get("max_shift", max_shift),
    )
