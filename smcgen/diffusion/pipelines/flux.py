"""`FluxPipeline` (dev and schnell): packed latents, and guidance as an input of the transformer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from smcgen.diffusion.pipelines._scheduler import spaced
from smcgen.diffusion.pipelines._vae import decoder
from smcgen.diffusion.pipelines.base import Prepared, Rows, guided, per_prompt, size_of
from smcgen.diffusion.pipelines.stable_diffusion_3 import shift_of
from smcgen.errors import InvalidArgument


def prepare(
    pipe: Any,
    prompts: list[str] | None,
    *,
    num_inference_steps: int = 28,
    sigmas: Sequence[float] | None = None,
    guidance_scale: float = 3.5,
    true_cfg_scale: float = 1.0,
    prompt_2: str | Sequence[str] | None = None,
    negative_prompt: str | Sequence[str] | None = None,
    negative_prompt_2: str | Sequence[str] | None = None,
    height: int | None = None,
    width: int | None = None,
    max_sequence_length: int = 512,
    joint_attention_kwargs: dict[str, Any] | None = None,
) -> Prepared:
    """Prompts through CLIP and T5, a transformer on packed latents; options as those of the pipeline's own call.

    `guidance_scale` is what the distilled model is told; `true_cfg_scale` > 1 with a negative prompt is
    classifier-free guidance.
    """
    if prompts is None:
        raise InvalidArgument("prompt", None, "a string or a list of strings")
    transformer, device = pipe.transformer, pipe._execution_device
    # two latents by two are one token
    multiple = pipe.vae_scale_factor * 2
    sizes = size_of(pipe, height, width, pipe.default_sample_size, multiple)
    rows, columns = (size // multiple for size in sizes)
    guides = true_cfg_scale > 1 and negative_prompt is not None

    def encode(first: list[str] | None, second: list[str] | None) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            return pipe.encode_prompt(
                prompt=first,
                prompt_2=second,
                device=device,
                max_sequence_length=max_sequence_length,
                lora_scale=(joint_attention_kwargs or {}).get("scale"),
            )

    embeds, pooled, text_ids = encode(prompts, per_prompt("prompt_2", prompt_2, prompts))
    negative = None
    if guides:
        first = per_prompt("negative_prompt", negative_prompt, prompts)
        second = per_prompt("negative_prompt_2", negative_prompt_2, prompts)
        negative = encode(first, second)[:2]
    image_ids = pipe._prepare_latent_image_ids(1, rows, columns, device, embeds.dtype)
    told = None
    if transformer.config.guidance_embeds:
        told = torch.full([1], guidance_scale, device=device, dtype=torch.float32)

    dtype = transformer.dtype  # once: it walks over all modules

    def network(x: Rows, time: torch.Tensor, conditions: list[torch.Tensor]) -> Rows:
        return transformer(
            hidden_states=x.to(dtype),
            timestep=time.expand(len(x)).to(dtype) / 1000,
            guidance=None if told is None else told.expand(len(x)),
            pooled_projections=conditions[1],
            encoder_hidden_states=conditions[0],
            txt_ids=text_ids,
            img_ids=image_ids,
            joint_attention_kwargs=joint_attention_kwargs or {},
            return_dict=False,
        )[0]

    def unpack(latents: Rows) -> Rows:
        return pipe._unpack_latents(latents, *sizes, pipe.vae_scale_factor)

    if sigmas is None and not pipe.scheduler.config.get("use_flow_sigmas"):
        sigmas = np.linspace(1.0, 1 / num_inference_steps, num_inference_steps).tolist()
    mu = shift_of(pipe.scheduler, rows * columns, 1.15)
    return Prepared(
        shape=(rows * columns, transformer.config.in_channels),
        network=guided(network, [embeds, pooled], negative, true_cfg_scale),
        spacing=spaced(pipe, num_inference_steps, device, sigmas=sigmas, mu=mu),
        decode=decoder(pipe.vae, unpack),
        rows_per_particle=2 if guides else 1,
        device=device,
    )
