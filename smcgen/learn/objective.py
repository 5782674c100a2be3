"""Filtering bounds: E[log Z-hat] as something to maximise."""

from collections.abc import Callable
from copy import copy
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.feynman_kac import Model, take_leading
from smcgen.core.resampling import Multinomial, Scheme, StopGradient, Transform
from smcgen.core.resampling.when import resampler
from smcgen.core.result import SMCResult
from smcgen.core.smc import smc
from smcgen.errors import InvalidArgument, UnknownName

Gradient = Literal["local", "biased", "score"]


def filtering_bound(
    model: Model,
    key: RandomKey,
    n_particles: int,
    *,
    batch: int = 1,
    gradient: Gradient = "local",
    resampling: str | Scheme = "systematic",
    ess_threshold: float = 1.0,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The mean of log Z-hat over independent runs (and problems), and something with its gradient.

        E[log Z-hat] <= log Z,   with equality where Z-hat = Z in every run

    (IWAE without steps: Burda, Grosse and Salakhutdinov 2016; FIVO, VSMC, AESMC with resampling: Maddison et al.
    2017, Naesseth et al. 2018, Le et al. 2018). Its gradient is

        E[grad log Z-hat] + E[ sum_t (log Z-hat_{t:T}) grad log P(ancestors_t) ],   Z-hat_{t:T} = Z-hat / Z-hat_{0:t-1}

    "local", for proposals and parameters, is `E[ sum_t grad log(Z-hat_t / Z-hat_{t-1}) ]` with the particles that each
    resampling leaves held fixed: both what moving them would do to later weights and how it would change who is drawn
    are left out. For a proposal the two cancel as n grows, since weights undo what it does. For parameters the gradient
    is then that of `log p(y_t | y_{0:t-1})` with the filter of t - 1 held fixed, whose mean over data is 0 where they
    are true.
    "biased" leaves out the second term alone, as these papers do, so that proposals learn to please observations that
    weights have yet to correct for: on stochastic volatility it led from the model's own law to proposals with several
    times its variance. All three are the same without resampling.
    "score" has both, with the mean of the other runs of the batch as a baseline; unbiased for multinomial resampling at
    fixed times, and of high variance. Twists need it: what a twist does *is* to choose ancestors, and on a
    linear-Gaussian model whose exact twist is in the family "biased" led away from it.
    Two schemes bring gradients of their own, for "biased": `StopGradient`, with which `grad log Z-hat` estimates `grad
    log Z` (not that of this bound), and `Transport`, which moves particles instead of drawing.
    Moves must be differentiable in the parameters, as NumPyro's `rsample` is: what is drawn from a discrete law has no
    gradient here.

    Args:
        model: a traceable model; differentiate in what it was built from.
        key: a JAX key.
        n_particles: particles; with 1 the bound is the ELBO.
        batch: independent runs.
        gradient: see above.
        resampling, ess_threshold: see `smcgen.smc`.

    Returns:
        The estimate, and a surrogate to differentiate whose value means nothing with "score".
    """
    check_gradient(gradient, resampling, ess_threshold)
    score = gradient == "score"
    if gradient == "local":
        model = _held_after_resampling(model)

    def one(key: RandomKey) -> SMCResult:
        return smc(
            model,
            key,
            n_particles,
            resampling=resampling,
            ess_threshold=ess_threshold,
            keep="particles" if score else "summary",
            on_error="return",
        )

    keys = jax.random.split(key, batch)
    if getattr(model, "num_problems", None) is not None:
        fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
        keys = fold(keys, jnp.arange(model.num_problems))  # pyright: ignore[reportAttributeAccessIssue]
    runs = jax.vmap(one)(keys)
    bound = jnp.mean(runs.log_evidence)
    if not score:
        return bound, bound
    return bound, bound + jnp.mean(_score_term(runs))


def _held_after_resampling(model: Model) -> Model:
    """The same model, whose particles have no gradient once they are resampled."""
    take: Callable = getattr(model, "take", take_leading)

    def held(state: PyTree, ancestors: Any) -> PyTree:
        return jax.lax.stop_gradient(take(state, ancestors))

    new = copy(model)
    vars(new)["take"] = held
    return new


def _score_term(runs: SMCResult) -> Float[Array, "batch *p"]:
    """`sum_t stop(log Z-hat_{t:T} - baseline) log P(ancestors_t)` of each run."""
    to_go = jnp.cumsum(runs.log_evidence_increments[:, ::-1], axis=1)[:, ::-1][:, 1:]
    batch = to_go.shape[0]
    others = (jnp.sum(to_go, axis=0) - to_go) / max(batch - 1, 1)
    reward = jax.lax.stop_gradient(to_go - others)  # (batch, T, *p)
    before = runs.history_log_weights[:, :-1]
    drawn = jnp.take_along_axis(before, runs.ancestors, axis=-1)
    # a log-weight of -inf is never drawn, but a run that is not resampled keeps it in place
    log_p = jnp.sum(jnp.where(runs.resampled[..., None], drawn, 0.0), axis=-1)
    return jnp.sum(reward * log_p, axis=1)


def check_gradient(gradient: Any, resampling: Any, ess_threshold: float) -> None:
    """Raise an `InvalidArgument` where the gradient would not be that of the algorithm."""
    if gradient not in get_args(Gradient):
        raise UnknownName("gradient", gradient, get_args(Gradient))
    scheme = resampler(resampling, 1.0).scheme
    if gradient == "local" and isinstance(scheme, StopGradient | Transform):
        allowed = "a scheme without a gradient of its own with gradient='local'; gradient='biased' for this one"
        raise InvalidArgument("resampling", resampling, allowed)
    if gradient == "score" and not isinstance(scheme, Multinomial):
        raise InvalidArgument(
            "resampling",
            resampling,
            "'multinomial' with gradient='score': its draws are independent",
        )
    if gradient == "score" and ess_threshold not in (0, 1):
        raise InvalidArgument(
            "ess_threshold",
            ess_threshold,
            "0 or 1 with gradient='score': resampling at fixed times",
        )
