"""Smoothed additive functionals: E[ h_0(x_0) + sum_t h_t(x_{t-1}, x_t) ] under the target.

Sums of terms that each look at two times are all that maximum likelihood, EM and score estimates ask of
smoothing. They need no paths: with tau_t^i the expected sum given that the path ends in particle i at time t,

    tau_t^i = sum_j B_t(i, j) (tau_{t-1}^j + h_t(x_{t-1}^j, x_t^i)),   B_t(i, j) ∝ W_{t-1}^j M_t G_t(x_{t-1}^j, x_t^i),

exactly in O(n^2) per step (Del Moral, Doucet and Singh 2010), or with a few draws from B_t(i, .) for each
particle, which is as stable in t and costs what `Backward` says (PaRIS: Olsson and Westerborn 2017; two draws
are enough, one is not).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import logsumexp

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.arguments import check_counts, keys_of
from smcgen.core.backward import Backward, Method, transition_of
from smcgen.core.compile import inside_trace, jitted
from smcgen.core.reference import repeated
from smcgen.core.result import SMCResult
from smcgen.errors import InvalidArgument


def smooth_additive(
    model: Any,
    result: SMCResult,
    h: Callable[[Any, PyTree, PyTree], Any],
    key: RandomKey | int = 0,
    *,
    draws: int | None = None,
    method: Method = "exact",
    tries: int = 8,
    log_bound: float | Callable[[Any], Any] | None = None,
    batch: int = 256,
) -> Any:
    """Estimate `E[h_0(x_0) + ... + h_s(x_{s-1}, x_s)]` under the target of time s, for each s = 0..T.

    Args:
        model: a traceable model with `log_transition`, one problem.
        result: of `smcgen.smc(model, ..., keep="particles")`.
        h: `h(t, x_prev, x)`, terms element by element, shape (m,) or (m, ...); at t = 0 `x_prev` is `x`.
        key: for `draws`.
        draws: backward draws for each particle and step (PaRIS; at least 2); None: the exact sum.
        method, tries, log_bound, batch: see `smcgen.backward_sample`.

    Returns:
        Shape (T + 1, ...).

    Raises:
        ModelError: the model has no `log_transition`.
        InvalidArgument: an argument is not allowed, or the run kept no particles.
    """
    transition_of(model)
    _check_kept(result)
    if draws is not None and draws < 2:
        raise InvalidArgument(
            "draws", draws, "None or an integer >= 2: with one, the error grows with t"
        )
    key = keys_of(key, None)
    backward = Backward(method, tries, log_bound, batch)
    arrays = (result.history, result.history_log_weights, result.ancestors)
    if inside_trace():
        return _forward(model, key, arrays, h, draws, backward)
    return jitted(_forward, model, static=(2, 3, 4))(key, arrays, h, draws, backward)


def _check_kept(result: SMCResult) -> None:
    """Raise unless a run of one problem of a traceable model kept its particles."""
    allowed = 'a run of one problem of a traceable model with keep="particles"'
    if result.history is None or isinstance(result.history, list):
        raise InvalidArgument("result", "no history", allowed)
    if result.log_weights.ndim > 1:
        raise InvalidArgument("result", "several problems", allowed)


def _forward(
    model: Any, key: Any, arrays: Any, h: Callable, draws: int | None, backward: Backward
) -> Any:
    history, log_weights, ancestors = arrays
    log_transition = transition_of(model)
    n = log_weights.shape[1]
    at = lambda t: jax.tree.map(lambda x: x[t], history)

    def mean(log_w: Any, tau: Any) -> Any:
        w = jnp.exp(log_w).reshape(n, *(1,) * (tau.ndim - 1))
        return jnp.sum(jnp.where(w > 0, w * tau, 0.0), axis=0)

    def exact(t: Any, lw: Any, before: Any, after: Any, tau: Any) -> Any:
        def one(x: Any) -> Any:
            spread = repeated(x, n)
            log_p = lw + log_transition(t, before, spread)
            top = logsumexp(log_p)  # -inf for a particle of weight zero: its value does not count
            log_p = jnp.where(top > -jnp.inf, log_p - top, -jnp.inf)
            return mean(log_p, tau + h(t, before, spread))

        return jax.lax.map(one, after, batch_size=min(n, backward.batch))

    def paris(t: Any, lw: Any, before: Any, after: Any, tau: Any, a: Any) -> Any:
        def one(key: Any) -> Any:
            index = backward.indices(log_transition, key, t, lw, before, after, a)
            past = jax.tree.map(lambda x: x[index], before)
            return tau[index] + h(t, past, after)

        keys = jax.random.split(jax.random.fold_in(key, t), draws or 1)
        return sum(one(k) for k in keys) / len(keys)

    def step(tau: Any, work: Any) -> tuple[Any, Any]:
        t, before, after, lw, lw_after, a = work
        if draws is None:
            tau = exact(t, lw, before, after, tau)
        else:
            tau = paris(t, lw, before, after, tau, a)
        return tau, mean(lw_after, tau)

    first = at(0)
    tau = jnp.asarray(h(0, first, first))
    t = jnp.arange(1, len(log_weights), dtype=jnp.int32)
    work = (t, at(slice(-1)), at(slice(1, None)), log_weights[:-1], log_weights[1:], ancestors)
    _, later = jax.lax.scan(step, tau, work)
    return jnp.concatenate([mean(log_weights[0], tau)[None], later])


def fixed_lag(result: SMCResult, fn: Callable[[PyTree], Any], lag: int) -> Any:
    """`E[fn(x_t)]` given what is known at time min(t + lag, T), for each t; shape (T + 1, ...).

    Follows the genealogy `lag` steps back from each population, over which it has not yet coalesced: a small
    bias, which vanishes with the lag, for a variance that does not grow with T (Kitagawa and Sato
    2001; Olsson et al. 2008).

    Args:
        result: of a run with `keep="particles"` of a traceable model, one problem.
        fn: of a population's records, element by element: shape (n, ...).
        lag: steps.
    """
    _check_kept(result)
    check_counts(least=0, lag=lag)
    values = jax.vmap(fn)(result.history)  # (T + 1, n, ...)
    times, n = values.shape[:2]
    if times == 1:
        return result.expectation(fn)[None]
    weights, ancestors = jnp.exp(result.history_log_weights), jnp.asarray(result.ancestors)

    def one(t: Any) -> Any:
        end = jnp.minimum(t + lag, times - 1)

        def back(i: Any, index: Any) -> Any:
            s = end - i  # the step that made population s
            return jnp.where(s > t, ancestors[jnp.maximum(s - 1, 0)][index], index)

        index = jax.lax.fori_loop(0, lag, back, jnp.arange(n, dtype=jnp.int32))
        w = weights[end].reshape(n, *(1,) * (values.ndim - 2))
        return jnp.sum(w * values[t][index], axis=0)

    return jax.lax.map(one, jnp.arange(times))
