"""Pipelines of diffusers as models to steer: what an adaptor must say of its kind of pipeline.

An adaptor reads an unmodified pipeline: it encodes the prompts once, says what the network predicts for noisy
rows (guidance included), how the scheduler spaces the noise, and how latents become images. The loop is
ours: the same kernel, twists and resampling as for every other diffusion model. The pipeline is never changed; its
own `__call__` is never used.

Rows are particles: row = problem * n + particle, a problem being a prompt. Prompt embeddings belong to problems,
are looked up by a row's problem, and never move. With classifier-free guidance the network sees 2 rows for each
particle, but no one else does: what is resampled is n rows.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from smcgen.diffusion.pipelines._scheduler import Spacing
from smcgen.errors import InvalidArgument

Rows = torch.Tensor  # one row a particle
Time = torch.Tensor  # scalar: what the scheduler tells the network


class Network(Protocol):
    """The network's prediction, guidance included, in the scheduler's `prediction_type`."""

    def __call__(self, x: Rows, time: Time, problem: torch.Tensor) -> Rows:
        """x: what the scheduler feeds in (scaled), (m, *shape); problem: (m,), on the same device."""
        ...


@dataclass(frozen=True)
class Prepared:
    """A pipeline with its prompts, ready for the loop.

    Attributes:
        shape: of one particle: latents (channels, height, width), packed latents, or pixels.
        network: the prediction for noisy rows.
        spacing: the scheduler's noise levels for this run.
        decode: latents to images in [0, 1], shape (m, 3, height, width), float32; differentiable.
        finish: what the pipeline does to images that it hands out (safety checker, watermark).
        rows_per_particle: how many rows the network sees for each particle (2 with guidance).
        device: where the network works; the pipeline looks for it in all its components each time it is asked.
    """

    shape: tuple[int, ...]
    network: Network
    spacing: Spacing
    decode: Callable[[Rows], Rows]
    finish: Callable[[Rows], Rows] = field(default=lambda images: images)
    rows_per_particle: int = 1
    device: Any = "cpu"


class Adaptor(Protocol):
    """A function that prepares pipelines of one kind.

    Its keyword arguments are named as those of the pipeline's `__call__`. `prompts` is None for a
    pipeline that takes none.
    """

    def __call__(
        self, pipe: Any, prompts: list[str] | None, *, num_inference_steps: int, **options: Any
    ) -> Prepared: ...


_OURS = {
    "num_images_per_prompt": "`n_particles`",
    "generator": "`key`",
    "callback_on_step_end": "`callback`",
    "output_type": "`result.samples`, `result.images` or `result.data`",
}
"""Arguments of a pipeline's own call that steering has other words for."""


def call(
    adaptor: Callable[..., Any],
    pipe: Any,
    prompts: list[str] | None,
    options: Mapping[str, Any],
) -> Any:
    """`adaptor(pipe, prompts, **options)`, with an error that lists the options there are."""
    known = [
        name
        for name, parameter in inspect.signature(adaptor).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    for name, value in options.items():
        if name in _OURS:
            raise InvalidArgument(name, value, f"nothing: {_OURS[name]} says it here")
        if name not in known:
            kind = type(pipe).__name__
            allowed = f"an option of {kind} that can be steered: {', '.join(sorted(known))}"
            raise InvalidArgument(name, value, allowed)
    return adaptor(pipe, prompts, **options)


def per_prompt(name: str, value: Any, prompts: Sequence[str]) -> list[str] | None:
    """A second text for each prompt (a negative prompt, ...): one for all, or a list that matches.

    Raises:
        InvalidArgument: it is something else.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return [value] * len(prompts)
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
        raise InvalidArgument(name, value, "a string, or a list with a string for each prompt")
    if len(value) != len(prompts):
        count = f"{len(value)} strings"
        raise InvalidArgument(
            name, count, f"one for all, or one for each of {len(prompts)} prompts"
        )
    return list(value)


def size_of(
    pipe: Any, height: int | None, width: int | None, default: Any, multiple: int
) -> tuple[int, int]:
    """Height and width of the images, in pixels: as asked for, or the pipeline's own."""
    both = default if isinstance(default, list | tuple) else (default, default)
    own = [side * pipe.vae_scale_factor for side in both]
    sizes = {"height": height or own[0], "width": width or own[1]}
    for name, size in sizes.items():
        if size % multiple or size < 1:
            raise InvalidArgument(name, size, f"a multiple of {multiple}")
    return int(sizes["height"]), int(sizes["width"])


def guided(
    network: Callable[[Rows, Time, list[torch.Tensor]], Rows],
    conditions: Sequence[torch.Tensor],
    negative: Sequence[torch.Tensor] | None = None,
    scale: float = 1.0,
    rescale: Callable[[Rows, Rows], Rows] | None = None,
) -> Network:
    """Classifier-free guidance: `e_- + scale (e_+ - e_-)`, both predictions in one call of the network.

    `conditions` and `negative` have one row a problem. Source: Ho and Salimans (2022), with `rescale` after
    Lin et al. (2023, section 3.4).
    """

    def predict(x: Rows, time: Time, problem: torch.Tensor) -> Rows:
        rows = [c.index_select(0, problem) for c in conditions]
        if negative is None:
            return network(x, time, rows)
        other = [c.index_select(0, problem) for c in negative]
        both = [torch.cat(pair) for pair in zip(other, rows, strict=True)]
        without, with_ = network(torch.cat([x, x]), time, both).chunk(2)
        combined = without + scale * (with_ - without)
        return combined if rescale is None else rescale(combined, with_)

    return predict
