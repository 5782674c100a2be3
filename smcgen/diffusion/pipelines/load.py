"""`from_pipeline`: an unmodified diffusers pipeline as a kernel."""

import importlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smcgen.errors import InvalidArgument, MissingExtra

if TYPE_CHECKING:
    from smcgen.diffusion.base import Kernel

# The nearest class in a pipeline's ancestry decides, so that subclasses are known too.
_ADAPTORS = {
    "DDPMPipeline": "unconditional",
    "DDIMPipeline": "unconditional",
    "StableDiffusionPipeline": "stable_diffusion",
    "StableDiffusionXLPipeline": "stable_diffusion_xl",
    "StableDiffusion3Pipeline": "stable_diffusion_3",
    "FluxPipeline": "flux",
    "LLaDA2Pipeline": "llada2",
}


def from_pipeline(
    pipe: Any,
    prompt: str | Sequence[str] | None = None,
    *,
    eta: float | None = None,
    denoiser_batch_size: int | None = None,
    **options: Any,
) -> "Kernel":
    """A diffusers pipeline as the base law of a `DiffusionModel`.

    Args:
        pipe: a pipeline; or its name on the hub or folder, loaded in half precision if there is a GPU.
        prompt: one prompt, or a list of prompts that are steered together.
        eta: how random each step is, from 0 (deterministic: nothing to resample) to 1; None: the scheduler's own
            noise if it has any (DDPM, Euler ancestral), else 1. Not for masked diffusion.
        denoiser_batch_size: most particles in one call of the network; None: all. Halved where memory runs out.
        options: `num_inference_steps`, `guidance_scale`, `negative_prompt`, `height` and so on, as for the
            pipeline's own call, with its defaults.

    Raises:
        InvalidArgument: a pipeline or scheduler that is not known, an option that this pipeline does not have,
            lists that do not match.
        MissingExtra: diffusers is not installed.
    """
    pipe = loaded(pipe) if isinstance(pipe, str | Path) else pipe
    adaptor = adaptor_of(pipe)
    prompts = _prompts(prompt)
    from smcgen.diffusion.pipelines.base import Prepared, call
    from smcgen.diffusion.pipelines.kernel import kernel_of

    prepared, single = call(adaptor, pipe, prompts, options), not isinstance(prompt, list | tuple)
    if not isinstance(prepared, Prepared):  # masked diffusion
        if eta is not None:
            raise InvalidArgument("eta", eta, f"None: {type(pipe).__name__} has a temperature")
        return prepared(single, denoiser_batch_size)
    kernel = kernel_of(
        prepared,
        prompts,
        single=single,
        device=prepared.device,
        eta=eta,
        batch_size=denoiser_batch_size,
    )
    if kernel.note is not None:
        warnings.warn(kernel.note, stacklevel=2)
    return kernel


def adaptor_of(pipe: Any) -> Callable[..., Any]:
    """What knows this kind of pipeline.

    Raises:
        InvalidArgument: nothing does.
    """
    for cls in type(pipe).__mro__:
        if cls.__name__ in _ADAPTORS and cls.__module__.startswith("diffusers."):
            module = f"smcgen.diffusion.pipelines.{_ADAPTORS[cls.__name__]}"
            return importlib.import_module(module).prepare
    known = ", ".join(sorted(_ADAPTORS))
    allowed = (
        f"a smcgen kernel (Gaussian, Masked, ...), or a diffusers pipeline: {known}, or a subclass"
    )
    raise InvalidArgument("model", type(pipe).__name__, allowed)


def loaded(pipe: str | Path) -> Any:
    """A pipeline by its name or folder."""
    try:
        import torch
        from diffusers import DiffusionPipeline
    except ImportError as error:
        raise MissingExtra("a diffusers pipeline", "diffusers", "diffusers") from error
    on_gpu = torch.cuda.is_available()
    dtype = torch.float16 if on_gpu else torch.float32
    try:
        found = DiffusionPipeline.from_pretrained(str(pipe), dtype=dtype)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        allowed = f"a folder with a diffusers pipeline, or its name on the hub ({reason})"
        raise InvalidArgument("pipe", str(pipe), allowed) from error
    return found.to("cuda") if on_gpu else found


def _prompts(prompt: Any) -> list[str] | None:
    if prompt is None:
        return None
    prompts = [prompt] if isinstance(prompt, str) else prompt
    listed = isinstance(prompts, list | tuple) and len(prompts) > 0
    if not listed or not all(isinstance(p, str) for p in prompts):
        raise InvalidArgument("prompt", prompt, "a string, or a list of strings")
    return list(prompts)
