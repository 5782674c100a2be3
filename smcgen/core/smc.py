"""Sequential Monte Carlo: the public call."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from smcgen.core._types import RandomKey
from smcgen.core.arguments import settings_of
from smcgen.core.body import Keep
from smcgen.core.feynman_kac import Model
from smcgen.core.resampling import Scheme
from smcgen.core.result import SMCResult
from smcgen.core.run import Progress, Watching, execute


def smc(
    model: Model,
    key: RandomKey | int,
    n_particles: int = 1024,
    *,
    resampling: str | Scheme = "systematic",
    ess_threshold: float = 0.5,
    keep: Keep = "ancestors",
    on_error: Literal["raise", "return"] = "raise",
    progress: bool = False,
    callback: Callable[[Progress], None] | None = None,
    checkpoint: str | Path | None = None,
    devices: Sequence[Any] | None = None,
    batch_size: int | None = None,
) -> SMCResult:
    """Run a particle filter on a Feynman-Kac model.

    At t = 0, `x_0 ~ M_0` and `W_0 ∝ G_0`. At t = 1..T: if `ESS < ess_threshold * n`, draw ancestors by
    weight and set the weights to 1/n; move by `M_t`; multiply the weights by `G_t`. With

        log Z-hat = sum_t log sum_i W_{t-1}^i G_t(x_t^i)

    `E[Z-hat] = Z` and `E[Z-hat * pi-hat(f)] = Z * pi(f)` for every n, scheme and threshold (Del Moral 2004; adaptive
    resampling: Del Moral, Doucet and Jasra 2012, Whiteley, Lee and Heine 2016).

    Args:
        model: a `FeynmanKac` model, or any object with its required methods.
        key: a JAX key or a seed; shape (problems,) gives each problem its own. It fixes the whole run.
        n_particles: particles (per problem).
        resampling: a scheme or its name, see `smcgen.core.resampling`.
        ess_threshold: resample when ESS falls below this fraction of n; 1 always, 0 never.
        keep: what is remembered of the way: "summary" (ESS and evidence), "ancestors", or
            "particles" (the model's record of every population).
        on_error: "raise" `SMCError` when all weights are zero or a potential is not finite, or
            "return" the run so far with its status. Inside a JAX transformation always "return".
        progress: show a progress bar.
        callback: called with a `Progress` after each step.
        checkpoint: a file written after each step. If it exists, the run goes on from it, and
            gives what the uninterrupted run would have given.
        devices: share the particles of a traceable model among these: each moves and weights its part. Ancestors are
            drawn from all weights, and the result is that of one device, to rounding.
        batch_size: compute the potentials of a `Markov` model for so many particles at a time, to bound memory;
            with `devices`, for so many of each device. The result stays what it is.

    Returns:
        An `SMCResult`.

    Raises:
        InvalidArgument: an argument is not allowed.
        ModelError: the model is not a Feynman-Kac model, or returns arrays of the wrong shape.
        SMCError: the run failed (`error.result` has it so far).
        SMCInterrupted: Ctrl-C, also a KeyboardInterrupt (`.result` has the run so far).
    """
    settings = settings_of(
        n_particles, resampling, ess_threshold, keep, devices=devices, batch_size=batch_size
    )
    return execute(model, key, settings, on_error, Watching(progress, callback, checkpoint))
