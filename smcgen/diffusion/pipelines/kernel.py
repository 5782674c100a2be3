"""A diffusers pipeline with its prompts as a kernel."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from smcgen.core._types import PyTree, RandomKey
from smcgen.diffusion.backends.base import Index, Tensor, at
from smcgen.diffusion.backends.torch import Torch
from smcgen.diffusion.kernels.gaussian import Gaussian
from smcgen.diffusion.pipelines._scheduler import Spacing
from smcgen.diffusion.pipelines.base import Prepared
from smcgen.diffusion.rewards.microbatch import in_parts, joined
from smcgen.diffusion.schedules import Schedule

_PREDICTS = {"epsilon": "eps", "v_prediction": "v", "sample": "data", "flow": "velocity"}


@dataclass(frozen=True, eq=False)
class PipelineKernel(Gaussian):
    """The Gaussian kernel with a scheduler's own levels, and what schedulers do besides.

    A step is that of `Gaussian`; with the pipeline's initial noise, its eta and its draws, x_T is what the
    pipeline itself makes, up to rounding. What DDIM does with clipped data is another mean,

        x_t = alpha' clip(data) + sqrt(sigma'^2 - tau^2) noise + tau z,    noise = (x - alpha data) / sigma unclipped.

    Attributes:
        pipeline: the adaptor's reading of the pipeline.
        prompts: one for each problem; None for pipelines without prompts.
        single: the prompt came as one string, and results have no problem axis.
        own_noise: use the scheduler's variance where it is another than eta's (DDPM's "fixed_large").
    """

    pipeline: Prepared = field(default=None)  # pyright: ignore[reportAssignmentType]
    prompts: tuple[str, ...] | None = None
    single: bool = True
    own_noise: bool = False

    @property
    def spacing(self) -> Spacing:
        """The scheduler's levels."""
        return self.pipeline.spacing

    @property
    def num_problems(self) -> int | None:
        """How many prompts are steered together; None for one, or none."""
        return None if self.single or self.prompts is None else len(self.prompts)

    @property
    def note(self) -> str | None:
        """What a person should know about how the scheduler was read."""
        return self.spacing.note

    @cached_property
    def _steps(self) -> dict[str, np.ndarray]:
        own = self.spacing
        a, s, a1, s1 = own.alpha, own.sigma, own.next_alpha, own.next_sigma
        tau = np.sqrt(np.maximum(s1**2 * (1 - (a * s1 / (a1 * s)) ** 2), 0))
        of_noise = np.sqrt(np.maximum(s1**2 - (np.asarray(self.eta) * tau) ** 2, 0))
        tau = np.asarray(self.eta) * tau
        if self.own_noise and own.noise is not None:
            tau = own.noise
        rows = {"of_x": of_noise / s, "of_data": a1 - of_noise * a / s, "tau": tau, "clipped": a1}
        return {k: np.concatenate([[0.0], v]) for k, v in rows.items()}

    def finish(self, samples: Tensor) -> Tensor:
        """What the pipeline does to images that it hands out: its safety checker, its watermark."""
        return self.pipeline.finish(samples)

    def _clipped(self, data: Tensor) -> Tensor:
        return data if self.spacing.clip is None else self.spacing.clip(data)

    def predict(self, t: Any, x: Tensor, problem: Index, before: PyTree) -> Tensor:
        data = super().predict(t, x, problem, before)
        return self._clipped(data) if self.spacing.follows_clip else data

    def data(self, t: Any, x: Tensor, prediction: Tensor) -> Tensor:
        return prediction if self.spacing.follows_clip else self._clipped(prediction)

    def draw_data(self, key: RandomKey, t: Any, x: Tensor, prediction: Tensor, k: int) -> Tensor:
        return super().draw_data(key, t, x, self.data(t, x, prediction), k)

    def _mean(self, t: Any, x: Tensor, prediction: Tensor) -> Tensor:
        mean = super()._mean(t, x, prediction)
        if self.spacing.follows_clip or self.spacing.clip is None:
            return mean
        return mean + at(self._steps["clipped"], t) * (self._clipped(prediction) - prediction)


def kernel_of(
    prepared: Prepared,
    prompts: list[str] | None,
    single: bool,
    device: Any,
    eta: float | None,
    batch_size: int | None,
) -> PipelineKernel:
    """The kernel of a prepared pipeline.

    Args:
        eta: None: the scheduler's own noise, 1 where it has none.
        batch_size: most particles in one call of the network.
    """
    spacing = prepared.spacing
    own = spacing.eta is not None and spacing.eta > 0
    levels = Schedule(
        np.append(spacing.alpha, spacing.next_alpha[-1]),
        np.append(spacing.sigma, spacing.next_sigma[-1]),
        np.arange(len(spacing.alpha) + 1),
        prior_scale=spacing.prior,
    )
    return PipelineKernel(
        denoiser=_denoiser(prepared, batch_size),
        schedule=levels,
        shape=prepared.shape,
        predicts=_PREDICTS[spacing.prediction],  # pyright: ignore[reportArgumentType]
        eta=(1.0 if eta is None else eta),
        conditional=True,
        decoder=prepared.decode,
        backend=Torch(device),
        pipeline=prepared,
        prompts=None if prompts is None else tuple(prompts),
        single=single,
        own_noise=own and eta is None,
    )


def _denoiser(prepared: Prepared, batch_size: int | None) -> Any:
    """`fn(x, t, problem)`: rows as the scheduler feeds them to the network, in parts that fit into memory."""
    spacing = prepared.spacing

    def denoise(x: torch.Tensor, t: int, problem: np.ndarray) -> torch.Tensor:
        index = torch.from_numpy(np.asarray(problem, np.int64)).to(x.device)
        fed = x if spacing.input_scale is None else x * float(spacing.input_scale[t])

        def part(own: slice) -> torch.Tensor:
            return prepared.network(fed[own], spacing.times[t], index[own]).to(x.dtype)

        out = joined(in_parts(part, len(x), batch_size))
        if spacing.input_scale is not None and spacing.prediction == "v_prediction":
            out = out / float(spacing.input_scale[t])  # v of x as it was fed in
        return out

    return denoise
