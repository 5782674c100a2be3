"""Backward sampling: paths drawn from a particle filter's history, not from its genealogy.

A filter's own ancestral lines have coalesced a few steps before the end. Drawing each ancestor anew,

    P(i | x_t) ∝ W_{t-1}^i M_t(x_t | x_{t-1}^i) G_t(x_{t-1}^i, x_t),

gives paths that differ at all times (Godsill, Doucet and West 2004). Three ways to draw that index:

* "exact": all n probabilities, O(n) for one index.
* "rejection": O(1) on average; needs a bound on `log_transition`. After `tries` proposals it is exact (Douc et al.
  2011; Dau and Chopin 2023).
* "mcmc": O(tries); Metropolis steps with proposals by weight, from the particle's own ancestor (Bunch and
  Godsill 2013; Dau and Chopin 2023).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.arguments import keys_of
from smcgen.core.compile import inside_trace, jitted
from smcgen.core.genealogy import along, gridded
from smcgen.core.reference import repeated
from smcgen.core.resampling.fixed import double_uniforms
from smcgen.core.resampling.multinomial import draw, scaled_weights
from smcgen.core.resolve import resolve
from smcgen.core.result import SMCResult
from smcgen.errors import InvalidArgument, ModelError, UnknownName

Method = Literal["exact", "rejection", "mcmc"]


@dataclass(frozen=True)
class Backward:
    """How an ancestor's index is drawn.

    Attributes:
        method: "exact", "rejection" or "mcmc".
        tries: proposals before rejection gives up and is exact; Metropolis steps.
        log_bound: of "rejection": at least `log_transition(t, ., .)` everywhere; a number or a function of t.
        batch: how many current particles are treated at a time by "exact"; bounds memory to `batch * n`.
    """

    method: Method = "exact"
    tries: int = 8
    log_bound: float | Callable[[Any], Any] | None = None
    batch: int = 256

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise UnknownName("method", self.method, get_args(Method))
        if self.method == "rejection" and self.log_bound is None:
            raise InvalidArgument(
                "log_bound", None, "a bound on log_transition for method='rejection'"
            )
        for name in ("tries", "batch"):
            if getattr(self, name) < 1:
                raise InvalidArgument(name, getattr(self, name), "an integer >= 1")

    def indices(
        self,
        log_transition: Callable[[Any, PyTree, PyTree], Any],
        key: RandomKey,
        t: Any,
        log_weights: Any,
        previous: PyTree,
        current: PyTree,
        ancestors: Any,
    ) -> Any:
        """For each of m current particles, the index of a past among the n previous ones.

        Args:
            log_transition: of the model.
            key: a JAX key.
            t: the time of `current`.
            log_weights: of the previous population, shape (n,).
            previous, current: records, n and m of them.
            ancestors: where "mcmc" starts, shape (m,).
        """
        m = ancestors.shape[0]
        if self.method == "exact":
            return self._exact(log_transition, key, t, log_weights, previous, current, m)
        compare = lambda index: log_transition(t, _pick(previous, index), current)
        keys = jax.random.split(key, self.tries + 1)
        if self.method == "mcmc":
            return self._metropolis(compare, keys, log_weights, ancestors)
        bound = self.log_bound(t) if callable(self.log_bound) else self.log_bound

        def propose(carry: Any, key: Any) -> tuple[Any, None]:
            index, accepted = carry
            proposed, log_u = _proposal(key, log_weights, m)
            now = ~accepted & (log_u < compare(proposed) - bound)
            return (jnp.where(now, proposed, index), accepted | now), None

        start = (jnp.zeros(m, jnp.int32), jnp.zeros(m, bool))
        (index, accepted), _ = jax.lax.scan(propose, start, keys[:-1])
        exact = lambda: self._exact(log_transition, keys[-1], t, log_weights, previous, current, m)
        return jnp.where(accepted, index, jax.lax.cond(jnp.all(accepted), lambda: index, exact))

    def _exact(
        self,
        log_transition: Any,
        key: Any,
        t: Any,
        log_weights: Any,
        previous: Any,
        current: Any,
        m: int,
    ) -> Any:
        n = log_weights.shape[0]

        def one(work: Any) -> Any:
            uniform, x = work
            log_p = log_weights + log_transition(t, previous, repeated(x, n))
            with jax.enable_x64(True):
                return draw(uniform[None], scaled_weights(log_p))[0]

        uniforms = double_uniforms(key, (m,))
        return jax.lax.map(one, (uniforms, current), batch_size=min(m, self.batch))

    def _metropolis(self, compare: Any, keys: Any, log_weights: Any, start: Any) -> Any:
        def move(carry: Any, key: Any) -> tuple[Any, None]:
            index, value = carry
            proposed, log_u = _proposal(key, log_weights, index.shape[0])
            new = compare(proposed)
            accept = log_u < new - value
            return (jnp.where(accept, proposed, index), jnp.where(accept, new, value)), None

        (index, _), _ = jax.lax.scan(move, (start, compare(start)), keys[:-1])
        return index


def _proposal(key: Any, log_weights: Any, m: int) -> tuple[Any, Any]:
    first, second = jax.random.split(key)
    uniforms = double_uniforms(first, (m,))
    with jax.enable_x64(True):
        index = draw(uniforms, scaled_weights(log_weights))
    return index, jnp.log(jax.random.uniform(second, (m,), minval=1e-37))


def _pick(records: PyTree, index: Any) -> PyTree:
    return jax.tree.map(lambda x: jnp.asarray(x)[index], records)


def backward_lineages(
    model: Any,
    result: SMCResult,
    key: RandomKey,
    last: Any,
    backward: Backward = Backward(),
    only_resampled: bool = False,
) -> Any:
    """Indices at t = 0..T of paths drawn backward from the final particles `last`; shape (T + 1, m).

    Args:
        model: it has `log_transition`; one problem.
        result: of a run with `keep="particles"`.
        key: a JAX key.
        last: indices of final particles, shape (m,).
        backward: how an index is drawn.
        only_resampled: where no resampling took place the path stays with its particle, as it must in particle Gibbs.
    """
    log_transition = transition_of(model)
    if result.history is None or result.ancestors is None:
        raise InvalidArgument("keep", "ancestors", "'particles' to sample backward")
    if result.log_weights.ndim > 1:
        raise InvalidArgument("result", "several problems", "a run of one problem")
    if isinstance(result.history, list):
        return _on_host(log_transition, result, key, last, backward, only_resampled)
    arrays = (result.history, result.history_log_weights, result.ancestors, result.resampled)
    if inside_trace():
        return _scan(model, key, last, arrays, backward, only_resampled)
    return jitted(_scan, model, static=(3, 4))(key, last, arrays, backward, only_resampled)


def transition_of(model: Any) -> Callable:
    """The model's `log_transition`.

    Raises:
        ModelError: it has none.
    """
    log_transition = resolve(model).log_transition
    if log_transition is None:
        raise ModelError(
            f"{type(model).__name__} lacks log_transition: backward sampling needs a smcgen.Markov model with log_m, "
            "or a FeynmanKac model with log_transition"
        )
    return log_transition


def _scan(
    model: Any, key: Any, last: Any, arrays: Any, backward: Backward, only_resampled: bool
) -> Any:
    history, log_weights, ancestors, resampled = arrays
    log_transition = transition_of(model)

    def back(index: Any, work: Any) -> tuple[Any, Any]:
        t, previous, record, lw, a, did = work
        key_t = jax.random.fold_in(key, t)
        current, own = _pick(record, index), a[index]
        new = backward.indices(log_transition, key_t, t, lw, previous, current, own)
        index = jnp.where(did, new, own) if only_resampled else new
        return index, index

    t = jnp.arange(1, len(log_weights), dtype=jnp.int32)
    before, after = (_pick(history, part) for part in (slice(-1), slice(1, None)))
    work = (t, before, after, log_weights[:-1], ancestors, resampled)
    last = jnp.asarray(last, jnp.int32)
    _, earlier = jax.lax.scan(back, last, work, reverse=True)
    return jnp.concatenate([earlier, last[None]])


def _on_host(
    log_transition: Any, result: Any, key: Any, last: Any, backward: Backward, only_resampled: bool
) -> Any:
    """For a model that is not traceable: the exact method, one path after another."""
    if backward.method != "exact":
        raise InvalidArgument(
            "method", backward.method, "'exact' for a model that is not traceable"
        )
    n, index = result.n_particles, np.asarray(last)
    records = [gridded(x, (n,)) for x in result.history]
    log_weights = np.asarray(result.history_log_weights, np.float64)
    lines = [index]
    for t in range(len(records) - 1, 0, -1):
        own = np.asarray(result.ancestors[t - 1])[index]
        if only_resampled and not result.resampled[t - 1]:
            index = own
        else:
            uniforms = np.asarray(double_uniforms(jax.random.fold_in(key, t), (len(index),)))
            index = np.array(
                [
                    _drawn(
                        u,
                        log_weights[t - 1],
                        log_transition(t, records[t - 1], _copies(records[t], j, n)),
                    )
                    for u, j in zip(uniforms.tolist(), index.tolist(), strict=True)
                ]
            )
        lines.append(index)
    return np.stack(lines[::-1])


def _copies(records: PyTree, j: int, n: int) -> PyTree:
    return jax.tree.map(lambda x: np.broadcast_to(x[j], (n, *x.shape[1:])), records)


def _drawn(uniform: float, log_weights: np.ndarray, log_transition: Any) -> int:
    log_p = log_weights + np.asarray(log_transition, np.float64)
    mass = np.cumsum(np.exp(log_p - log_p.max()))
    return int(np.searchsorted(mass, uniform * mass[-1], side="right"))


def backward_sample(
    model: Any,
    result: SMCResult,
    key: RandomKey | int,
    num: int = 1,
    *,
    method: Method = "exact",
    tries: int = 8,
    log_bound: float | Callable[[Any], Any] | None = None,
    batch: int = 256,
) -> PyTree:
    """Paths drawn from the smoothing distribution that a particle filter's history approximates.

    The last state is drawn by the final weights, each earlier one given the one after it; independent
    paths given the history.

    Args:
        model: the model that was run; it has `log_transition` (a `smcgen.Markov` model with `log_m`).
        result: of `smcgen.smc(model, ..., keep="particles")`.
        key: a JAX key or a seed.
        num: paths.
        method, tries, log_bound, batch: see `Backward`.

    Returns:
        Records along `num` paths: leaves of shape (T + 1, num, ...), or a list over time.

    Raises:
        ModelError: the model has no `log_transition`.
        InvalidArgument: an argument is not allowed, or the run kept no particles.
    """
    backward = Backward(method, tries, log_bound, batch)
    first, second = jax.random.split(keys_of(key, None))
    lines = backward_lineages(model, result, second, result.sample(first, num), backward)
    return along(result.history, lines, result.log_weights.shape)
