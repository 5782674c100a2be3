"""Steer a diffusion model in one call."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from smcgen.core.compile import inside_trace
from smcgen.core.cost import Cost
from smcgen.core.resampling.when import Scheduled
from smcgen.core.result import SMCResult
from smcgen.core.smc import smc
from smcgen.diffusion.base import Kernel, Twist
from smcgen.diffusion.model import DiffusionModel
from smcgen.diffusion.proposals.base import Base
from smcgen.diffusion.proposals.guided import Guided
from smcgen.diffusion.result import by_problem
from smcgen.diffusion.rewards.resolve import as_reward
from smcgen.diffusion.twists.resolve import as_twist
from smcgen.errors import InvalidArgument, ModelError


def as_kernel(model: Any, prompt: Any, options: dict[str, Any]) -> Kernel:
    """A kernel as it is; a diffusers pipeline, or its name or folder, as a kernel for these prompts."""
    if isinstance(model, Kernel):
        given = dict(options) if prompt is None else {"prompt": prompt, **options}
        for name, value in given.items():
            raise InvalidArgument(name, value, "nothing: a kernel has all that it needs")
        return model
    from smcgen.diffusion.pipelines import from_pipeline

    return from_pipeline(model, prompt, **options)


def steer(
    model: Any,
    reward: Any = None,
    *,
    prompt: Any = None,
    n_particles: int = 16,
    strength: float = 1.0,
    twist: str | Twist | None = "difference",
    draws: int | None = None,
    guidance: float | None = None,
    candidates: int = 1,
    ladder: Any = None,
    resampling: Any = "systematic",
    ess_threshold: float = 0.5,
    batch_size: int | None = None,
    dtype: str | None = None,
    key: Any = 0,
    keep: Literal["ancestors", "particles"] = "ancestors",
    progress: bool = False,
    callback: Any = None,
    checkpoint: str | Path | None = None,
    on_error: Literal["raise", "return"] = "raise",
    **options: Any,
) -> Any:
    """Sample from `pi(x) ∝ p(x) exp(strength r(x))` with a particle filter on the denoising process.

    Args:
        model: a kernel (`Gaussian`, `GaussianMixture`, a masked one); or a diffusers pipeline: object, name or folder.
        reward: r, a function of a batch of samples (or of samples and their prompts) to one number each; larger is
            better. A `FunctionReward` says more about it. None samples the model.
        prompt: of a pipeline: a prompt, or a list of prompts that are steered together.
        n_particles: samples per prompt.
        strength: lambda.
        twist: what guides before the end: "difference", "max", "sum", "immediate", a `Twist`, or None: nothing,
            plain importance sampling (`result.best` is then best-of-n). None of them changes the target.
        draws: look at so many draws of the data given x_t instead of at its prediction, see `ManyDraws`.
        guidance: scale of gradient guidance, see `Guided`; None: none. The reward must be differentiable.
        candidates: draws for each particle and step of which one is kept, see `DiffusionModel`.
        ladder: strengths before the end, T + 1 numbers relative to `strength`, the last of them 1.
        resampling: a scheme or its name; `Every(20, start=20, end=80)` or `AtSteps((5, 10))` say at which steps it may
            happen, and elsewhere the reward is not called.
        ess_threshold: resample when ESS falls below this fraction of n; 1 always, 0 never.
        batch_size: most samples that are decoded and rewarded at a time.
        dtype: "bfloat16" or "float16": the reward sees samples in half precision.
        key: a seed or JAX key. It fixes the whole run, on every device.
        keep: "particles" to keep every population as well, in memory: `result.smc.history`, `.path`, `.trajectories`.
        progress, callback, checkpoint, on_error: see `smcgen.smc`.
        **options: of a pipeline, as in its own call (`num_inference_steps`, `guidance_scale`, ...), and `eta`.

    Returns:
        A `SteerResult`; a list of them for several prompts.

    Raises:
        InvalidArgument: an argument is not allowed.
        RewardError: the reward failed, or did not return one number for each sample.
        ModelError: inside `jit` or `vmap`, where `smcgen.smc` and a `DiffusionModel` do the same.
        SMCError, SMCInterrupted: all weights are zero, a reward is NaN or +inf, or Ctrl-C. `error.result` has what
            there is, as `SteerResult`, whatever the error.

    Source: Singhal et al. (2025), with weights that are kept between resamplings and at the end.
    """
    if inside_trace():
        raise ModelError(
            "steer hands its results out on the host: inside jit or vmap use "
            "smcgen.smc(DiffusionModel(kernel, reward), key, n_particles)"
        )
    kernel = as_kernel(model, prompt, options)
    diffusion = DiffusionModel(
        kernel,
        as_reward(reward, kernel, batch_size, dtype),
        strength,
        as_twist(twist, draws),
        Base() if guidance is None else Guided(guidance),
        candidates,
        resampling if isinstance(resampling, Scheduled) else None,
        ladder,
        kernel.num_problems,
    )

    def shown(run: SMCResult) -> Any:
        if diffusion.traceable and run.cost is not None and run.num_steps == diffusion.num_steps:
            run = run.replace(cost=_counted(run.cost, diffusion.work(n_particles)))
        results = by_problem(run, kernel, kernel.num_problems, batch_size)
        return results[0] if kernel.num_problems is None else results

    try:
        return shown(
            smc(
                diffusion,
                key,
                n_particles,
                resampling=resampling,
                ess_threshold=ess_threshold,
                keep=keep,
                on_error=on_error,
                progress=progress,
                callback=callback,
                checkpoint=checkpoint,
            )
        )
    except (Exception, KeyboardInterrupt) as error:
        so_far = getattr(error, "result", None)
        if isinstance(so_far, SMCResult):
            error.result = shown(so_far)  # pyright: ignore[reportAttributeAccessIssue]
        raise


def _counted(measured: Cost, work: Cost) -> Cost:
    """A jitted run counts nothing; what it did is known."""
    return replace(measured, nfe=work.nfe, reward_calls=work.reward_calls)
