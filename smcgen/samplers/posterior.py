"""One call from a NumPyro model to its posterior."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax

from smcgen.core._types import RandomKey
from smcgen.core.arguments import keys_of
from smcgen.errors import InvalidArgument
from smcgen.samplers.arviz import inference_data
from smcgen.samplers.base import Kernel
from smcgen.samplers.paths.numpyro import numpyro_path
from smcgen.samplers.run import sample


def sample_posterior(
    model: Callable,
    *args: Any,
    key: RandomKey | int = 0,
    n_particles: int = 1000,
    n_draws: int | None = None,
    equal_weights: bool = True,
    kernel: str | Kernel | Callable | None = None,
    ladder: Any = None,
    moves: Any = None,
    waste_free: int | None = None,
    persistent: bool = False,
    unbiased: bool = False,
    n_runs: int = 1,
    batch_size: int | None = None,
    on_error: Literal["raise", "return"] = "raise",
    progress: bool = False,
    checkpoint: str | Path | None = None,
    arviz_options: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Any:
    """Posterior and evidence of a NumPyro model, by an SMC sampler from the prior.

        data = smcgen.sample_posterior(model, x, y=y)
        data.posterior["slope"], data.attrs["log_evidence"]

    Tempers the likelihood from 0 to 1 in unconstrained coordinates: step t moves particles by a kernel that leaves
    `p(x) p(y|x)^a_t` invariant and weights them by `p(y|x)^(a_{t+1} - a_t)`. Particles that begin all over
    the prior find separated modes, and the weights add up to the evidence.

    Args:
        model: a NumPyro model whose latent sites are continuous. An argument of its own that has the name of one
            below is given by `functools.partial(model, key=...)`.
        *args, **kwargs: the model's arguments, observed values included.
        key: a JAX key or a seed.
        n_particles: particles.
        n_draws: draws in `posterior`, for each run. Default: as many as there are particles.
        equal_weights: draw by weight, so that draws are equally weighted, as ArviZ takes them to be. If False,
            `posterior` has all particles and `sample_stats.log_weight` their weights.
        kernel, ladder, moves, waste_free, persistent, unbiased, batch_size, on_error, progress, checkpoint: see
            `smcgen.samplers.sample`.
        n_runs: independent runs; chains to ArviZ.
        arviz_options: further options of `arviz.from_numpyro`: coords, dims, log_likelihood, ...

    Returns:
        An ArviZ `InferenceData`:

        posterior: latent and deterministic sites, dimensions (chain, draw, plates or site_dim_0, ...).
        sample_stats: by draw `lp` (in unconstrained coordinates), `log_prior`, `log_likelihood`, `log_weight`
            (of the particle, before it was drawn); by step `temperature`, `ess`, `log_evidence_increment`,
            `acceptance_rate`, `n_moves`, `n_evaluations`.
        observed_data: what was observed.
        attrs: `log_evidence`, `log_evidence_stderr`, `ladder`, `ess`, `n_evaluations`, `sampling_time`, `status`, ...

    Raises:
        ModelError: the model has no latent site, or one that is discrete, improper, masked or constant.
        InvalidArgument: an argument is not allowed, or is not one of the model's.
        SMCError: a log density is NaN, or no particle is possible (`error.result`).
        MissingExtra: NumPyro, blackjax or ArviZ is not installed (extra `samplers`).
    """
    if not callable(model):
        raise InvalidArgument("model", model, "a NumPyro model: a function")
    try:
        inspect.signature(model).bind(*args, **kwargs)
    except TypeError as error:
        own = [
            name
            for name in inspect.signature(sample_posterior).parameters
            if name not in ("model", "args", "kwargs")
        ]
        raise InvalidArgument(
            "arguments", str(error), f"the model's arguments, or options: {', '.join(own)}"
        ) from error
    if n_draws is not None and (n_draws < 1 or not equal_weights):
        raise InvalidArgument("n_draws", n_draws, "an integer >= 1, with equal_weights=True")
    key, draw_key = jax.random.split(keys_of(key, None))
    path = numpyro_path(model, *args, **kwargs)
    result = sample(
        path,
        key,
        n_particles,
        kernel=kernel,
        ladder=ladder,
        moves=moves,
        waste_free=waste_free,
        persistent=persistent,
        unbiased=unbiased,
        n_runs=n_runs,
        batch_size=batch_size,
        on_error=on_error,
        progress=progress,
        checkpoint=checkpoint,
    )
    return inference_data(result, path, draw_key, n_draws, equal_weights, arviz_options or {})
