"""What a diffusers scheduler says of the law: its noise levels, its spacing, how predictions are read.

`x = alpha data + sigma z` at each level. A scheduler is read, never stepped: its own step draws noise that nobody else
knows of, has no density, and keeps histories that resampling does not reach.

    scheduler                        levels                             its own noise
    DDPM                             sqrt(abar_t), the next timestep    eta = 1, or its fixed variance
    DDIM                             sqrt(abar_t), t - 1000 / steps     eta (argument)
    Euler                            1, sigma (network input scaled)    eta = 0
    Euler ancestral                  1, sigma (network input scaled)    eta = 1
    flow matching Euler              1 - sigma, sigma                   eta = 0

A solver with a history (DPM-Solver, UniPC, DEIS, PNDM, LMS, Heun, ...) lends its noise levels to our kernel, no more;
`Spacing.note` says so.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import retrieve_timesteps
from jaxtyping import Float64

from smcgen.errors import InvalidArgument

Levels = Float64[np.ndarray, " steps"]


@dataclass(frozen=True)
class Spacing:
    """The noise levels of a run, for steps t = 1..T; entry t - 1 is step t.

    Attributes:
        times: what the network is told, shape (T,), in the scheduler's dtype and on its device.
        alpha, sigma: level of x_{t-1}.
        next_alpha, next_sigma: level of x_t. The next entry of `alpha` and `sigma`, but for DDIM with uneven spacing.
        prior: standard deviation of x at the start.
        input_scale: what x is multiplied by before the network sees it.
        prediction: "epsilon", "v_prediction", "sample" or "flow".
        eta: of the scheduler's own noise; None: an argument of its step.
        noise: its own standard deviations where they are not those of eta, else None.
        clip: what the scheduler does to predicted data (clipping, dynamic thresholding), or None.
        follows_clip: the predicted noise is computed again from clipped data (DDPM), or stays (DDIM).
        note: what a person should know, or None.
    """

    times: torch.Tensor
    alpha: Levels
    sigma: Levels
    next_alpha: Levels
    next_sigma: Levels
    prior: float = 1.0
    input_scale: Levels | None = None
    prediction: str = "epsilon"
    eta: float | None = None
    noise: Levels | None = None
    clip: Callable[[torch.Tensor], torch.Tensor] | None = None
    follows_clip: bool = True
    note: str | None = None


def spaced(
    pipe: Any,
    num_inference_steps: int,
    device: Any,
    *,
    timesteps: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    mu: float | None = None,
) -> Spacing:
    """The levels of a pipeline's scheduler for so many steps, or for timesteps or sigmas of one's own.

    Raises:
        InvalidArgument: a scheduler whose law our kernel does not have, or steps that it refuses.
    """
    if isinstance(num_inference_steps, bool) or num_inference_steps < 1:
        raise InvalidArgument("num_inference_steps", num_inference_steps, "an integer >= 1")
    own = pipe.scheduler
    read, scheduler, note = _reader(own)
    custom = {"timesteps": timesteps, "sigmas": sigmas}
    options: dict[str, Any] = (
        {} if mu is None or "Flow" not in type(scheduler).__name__ else {"mu": mu}
    )
    try:
        retrieve_timesteps(scheduler, num_inference_steps, device, **custom, **options)
    except ValueError as error:
        given = {k: v for k, v in custom.items() if v is not None}
        name, got = next(iter(given.items()), ("num_inference_steps", num_inference_steps))
        reason = f"what {type(scheduler).__name__} takes ({error})"
        raise InvalidArgument(name, got, reason) from error
    return read(scheduler, note)


def _reader(own: Any) -> tuple[Callable[[Any, str | None], Spacing], Any, str | None]:
    """How a scheduler is read, the scheduler to read (a copy), and a note."""
    names = [cls.__name__ for cls in type(own).__mro__]
    for name in names:
        if name in _READERS:
            return _READERS[name], copy.deepcopy(own), None
    kind = names[0]
    lent = f"{kind} is a solver with a history: its noise levels are used, its steps are not"
    if hasattr(own, "_sigma_to_alpha_sigma_t") and not hasattr(own.config, "sigma_data"):
        return _variance_preserving, copy.deepcopy(own), lent
    if "PNDMScheduler" in names:
        return _ddim, DDIMScheduler.from_config({"clip_sample": False, **_config(own)}), lent
    if set(names) & _IN_SIGMAS:
        return _exploding, EulerDiscreteScheduler.from_config(_config(own)), lent
    known = ", ".join(sorted({*_READERS, *_IN_SIGMAS, "PNDMScheduler"}))
    raise InvalidArgument(
        "scheduler",
        kind,
        f"{known}, DPM-Solver, UniPC, DEIS or SA-Solver; set pipe.scheduler to one",
    )


def _config(scheduler: Any) -> dict[str, Any]:
    """Its settings, defaults too: another class would put its own in their place."""
    return {k: v for k, v in scheduler.config.items() if k != "_use_default_values"}


def _array(values: Any) -> Levels:
    return np.asarray(torch.as_tensor(values).cpu(), np.float64)


def _clip(scheduler: Any) -> Callable[[torch.Tensor], torch.Tensor] | None:
    config = scheduler.config
    if config.get("thresholding", False):
        return scheduler._threshold_sample
    if config.get("clip_sample", False):
        limit = config.get("clip_sample_range", 1.0)
        return lambda data: data.clamp(-limit, limit)
    return None


def _from_cumulative(scheduler: Any, before: Any, end: float, **more: Any) -> Spacing:
    """Levels sqrt(abar) of integer timesteps; `before` are those of x_t, negative for `end`."""
    cumulative = _array(scheduler.alphas_cumprod)
    times = scheduler.timesteps.cpu().numpy()
    here = cumulative[times]
    there = np.where(before >= 0, cumulative[np.maximum(before, 0)], end)
    prediction = scheduler.config.prediction_type
    if prediction == "epsilon" and here.min() <= 0:
        raise InvalidArgument(
            "scheduler", "rescale_betas_zero_snr with epsilon", "prediction_type='v_prediction'"
        )
    return Spacing(
        times=scheduler.timesteps,
        alpha=np.sqrt(here),
        sigma=np.sqrt(1 - here),
        next_alpha=np.sqrt(there),
        next_sigma=np.sqrt(1 - there),
        prior=float(scheduler.init_noise_sigma),
        prediction=prediction,
        clip=_clip(scheduler),
        **more,
    )


def _ddim(scheduler: Any, note: str | None) -> Spacing:
    gap = scheduler.config.num_train_timesteps // len(scheduler.timesteps)
    before = scheduler.timesteps.cpu().numpy() - gap
    end = float(scheduler.final_alpha_cumprod)
    return _from_cumulative(scheduler, before, end, follows_clip=False, note=note)


def _ddpm(scheduler: Any, note: str | None) -> Spacing:
    before = np.append(scheduler.timesteps.cpu().numpy()[1:], -1)
    levels = _from_cumulative(scheduler, before, 1.0, eta=1.0, note=note)
    kind = scheduler.config.variance_type
    if kind in ("fixed_small", "fixed_small_log"):
        return levels
    if kind != "fixed_large":
        allowed = (
            "'fixed_small', 'fixed_small_log' or 'fixed_large': a learned variance is not read"
        )
        raise InvalidArgument("variance_type", kind, allowed)
    noise = np.sqrt(1 - (levels.alpha / levels.next_alpha) ** 2)
    noise[scheduler.timesteps.cpu().numpy() == 0] = 0  # DDPM adds none there
    return replace(levels, noise=noise)


def _exploding(scheduler: Any, note: str | None) -> Spacing:
    sigmas = _array(scheduler.sigmas)
    here, there = sigmas[:-1], sigmas[1:]
    ancestral = "EulerAncestralDiscreteScheduler" in (c.__name__ for c in type(scheduler).__mro__)
    return Spacing(
        times=scheduler.timesteps,
        alpha=np.ones_like(here),
        sigma=here,
        next_alpha=np.ones_like(here),
        next_sigma=there,
        prior=float(scheduler.init_noise_sigma),
        input_scale=1 / np.sqrt(here**2 + 1),
        prediction=scheduler.config.prediction_type,
        eta=1.0 if ancestral else 0.0,
        note=note,
    )


def _flow(scheduler: Any, note: str | None) -> Spacing:
    if scheduler.config.get("invert_sigmas", False):
        raise InvalidArgument("invert_sigmas", True, "False")
    if scheduler.config.get("stochastic_sampling", False):
        note = (
            "stochastic_sampling of FlowMatchEulerDiscreteScheduler changes the marginals: eta of our kernel, "
            "which keeps them, is used in its place"
        )
    sigmas = _array(scheduler.sigmas)
    here, there = sigmas[:-1], sigmas[1:]
    return Spacing(
        times=scheduler.timesteps,
        alpha=1 - here,
        sigma=here,
        next_alpha=1 - there,
        next_sigma=there,
        prediction="flow",
        eta=0.0,
        note=note,
    )


def _variance_preserving(scheduler: Any, note: str | None) -> Spacing:
    alpha, sigma = (_array(x) for x in scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas))
    prediction = scheduler.config.prediction_type
    return Spacing(
        times=scheduler.timesteps,
        alpha=alpha[:-1],
        sigma=sigma[:-1],
        next_alpha=alpha[1:],
        next_sigma=sigma[1:],
        prior=float(scheduler.init_noise_sigma),
        prediction="flow" if prediction == "flow_prediction" else prediction,
        clip=_clip(scheduler),
        note=note,
    )


_READERS: dict[str, Callable[[Any, str | None], Spacing]] = {
    "DDPMScheduler": _ddpm,
    "DDPMParallelScheduler": _ddpm,
    "DDIMScheduler": _ddim,
    "DDIMParallelScheduler": _ddim,
    "EulerDiscreteScheduler": _exploding,
    "EulerAncestralDiscreteScheduler": _exploding,
    "FlowMatchEulerDiscreteScheduler": _flow,
}
# solvers that keep x as data + sigma z
_IN_SIGMAS = {
    "LMSDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverSDEScheduler",
}
