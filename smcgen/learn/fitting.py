"""Learning what a model is made of: proposals, twists, its own parameters, by its evidence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optax

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.arguments import settings_of
from smcgen.core.feynman_kac import Model
from smcgen.core.resampling import Scheme
from smcgen.errors import InvalidArgument, ModelError
from smcgen.learn.objective import Gradient, check_gradient, filtering_bound
from smcgen.learn.training import Fit, Step, train


def fit(
    build: Callable[[PyTree], Model],
    params: PyTree,
    key: RandomKey | int,
    *,
    n_particles: int = 16,
    batch: int = 4,
    steps: int = 1000,
    optimiser: optax.GradientTransformation | None = None,
    gradient: Gradient = "local",
    resampling: str | Scheme = "systematic",
    ess_threshold: float = 1.0,
    progress: bool = False,
    callback: Callable[[Step], None] | None = None,
    checkpoint: str | Path | None = None,
) -> Fit:
    """Maximise `E[log Z-hat]` of `build(params)` over `params`.

    What is learned is whatever `build` makes of the parameters:

        lambda p: Guided(model, y, GaussianProposal(module, p))          a proposal (FIVO, VSMC, AESMC)
        lambda p: Twisted(model, Quadratic(p["P"], p["h"], p["c"]))      a twist, by the score gradient (see there)
        lambda p: Bootstrap(MyModel(**p), y)                             the model itself: maximum likelihood, nearly
        a model of no steps                                              IWAE; with n_particles=1, a VAE

    With the model fixed, Z is too, and the bound rises by variance lost: the gap is KL(q || target) on the
    variables of the whole run. With the model free, parameters are those that maximise the bound, which for
    finite n are not quite those that maximise Z.

    Args:
        build: from parameters to a traceable model; called under `jit` and `grad`.
        params: where to begin, a pytree of float arrays.
        key: a JAX key or a seed.
        n_particles, batch, gradient, resampling, ess_threshold: see `smcgen.learn.filtering_bound`.
        steps, optimiser, progress, callback, checkpoint: see `smcgen.learn.train`. Losses are `-log Z-hat`, in nats.

    Returns:
        A `Fit`: parameters and losses.

    Raises:
        InvalidArgument: an argument is not allowed.
        ModelError: `build` does not give a traceable model.
        FitError: no gradient was finite for many steps.
    """
    settings_of(n_particles, resampling, ess_threshold, "summary")
    check_gradient(gradient, resampling, ess_threshold)
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise InvalidArgument("batch", batch, "an integer >= 1")

    def loss(params: PyTree, key: RandomKey) -> tuple[Any, Any]:
        model = build(params)
        if not getattr(model, "traceable", True):
            raise ModelError(f"{type(model).__name__} is not traceable: it has no gradient")
        bound, surrogate = filtering_bound(
            model,
            key,
            n_particles,
            batch=batch,
            gradient=gradient,
            resampling=resampling,
            ess_threshold=ess_threshold,
        )
        return -bound, -surrogate

    return train(
        loss,
        params,
        key,
        steps=steps,
        optimiser=optimiser,
        progress=progress,
        callback=callback,
        checkpoint=checkpoint,
        identity=f"{n_particles} {batch} {gradient} {resampling} {ess_threshold}",
    )
