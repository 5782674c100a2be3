"""What comes next, and what else could have been seen: predictive draws from a filter's result."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.arguments import keys_of
from smcgen.core.result import SMCResult
from smcgen.errors import InvalidArgument
from smcgen.ssm._tree import Tree, static
from smcgen.ssm.auxiliary import Auxiliary
from smcgen.ssm.filter import Observed
from smcgen.ssm.inputs import check_inputs
from smcgen.ssm.laws import draw, size
from smcgen.ssm.missing import log_density_seen
from smcgen.ssm.model import StateSpaceModel, compiled, onwards


class Forecast(Tree):
    """Weighted draws of `x_{T+1:T+H}` and `y_{T+1:T+H}` given `y_{0:T}`; `*p` is `series` if there are several.

    Attributes:
        states, observations: arrays of shape (H, *p, n, ...).
        log_weights: of each path, normalised, shape (*p, n).
        model: what they were drawn from.
        start: T.
    """

    states: Any
    observations: Any
    log_weights: Any
    model: StateSpaceModel
    start: int = static()

    def mean(self) -> PyTree:
        """`E[y_{T+h} | y_{0:T}]`, h = 1..H, shape (H, *p, ...)."""
        weights, axis = jnp.exp(self.log_weights), self.log_weights.ndim

        def one(y: Array) -> Array:
            spread = weights.reshape(weights.shape + (1,) * (y.ndim - 1 - axis))
            return jnp.sum(spread * y, axis=axis)

        return jax.tree.map(one, self.observations)

    def quantile(self, q: float) -> PyTree:
        """The q-quantile of each entry of `y_{T+h}`, shape (H, *p, ...).

        It is the least draw whose weight, with that of all draws below it, reaches q.
        """
        if not 0 <= q <= 1:
            raise InvalidArgument("q", q, "a number in [0, 1]")
        weights, axis = jnp.exp(self.log_weights), self.log_weights.ndim

        def one(y: Array) -> Array:
            spread = weights.reshape(weights.shape + (1,) * (y.ndim - 1 - axis))
            order = jnp.argsort(y, axis=axis)
            below = jnp.cumsum(
                jnp.take_along_axis(jnp.broadcast_to(spread, y.shape), order, axis), axis
            )
            place = jnp.sum(below < q * below.take(jnp.array([-1]), axis), axis, keepdims=True)
            place = jnp.minimum(place, y.shape[axis] - 1)
            return jnp.take_along_axis(jnp.take_along_axis(y, order, axis), place, axis).squeeze(
                axis
            )

        return jax.tree.map(one, self.observations)

    def log_scores(self, y: PyTree) -> Float[Array, "horizon *p"]:
        """Estimates of `log p(y_{T+h} | y_{0:T})`, h = 1..H, nats, for what was seen later; NaN is missing.

        Args:
            y: observations of shape (H, ...), or (series, H, ...).
        """

        def one(y: PyTree, states: PyTree, log_weights: Array) -> Array:
            def at_time(h: Any, x: PyTree, y: PyTree) -> Array:
                law = self.model.observation(self.start + 1 + h, x)
                log_g = log_density_seen(law, y, size(x), "observation(t, x)", "entries")
                return jax.nn.logsumexp(log_weights + log_g)

            horizon = jax.tree.leaves(states)[0].shape[0]
            return jax.vmap(at_time)(jnp.arange(horizon), states, y)

        y = jax.tree.map(jnp.asarray, y)
        leading = (*self.log_weights.shape[:-1], jax.tree.leaves(self.states)[0].shape[0])
        for seen in jax.tree.leaves(y):
            if seen.shape[: len(leading)] != leading:
                raise InvalidArgument("y", f"shape {seen.shape}", f"{leading} leading, the horizon")
        if self.log_weights.ndim == 1:
            return one(y, self.states, self.log_weights)
        return jax.vmap(one, (0, 1, 0), 1)(y, self.states, self.log_weights)


def forecast(
    source: Observed | Auxiliary | StateSpaceModel,
    result: SMCResult,
    key: RandomKey | int,
    horizon: int,
) -> Forecast:
    """Draw the future of a filtered series: every particle goes on by the model, and keeps its weight.

        p-hat(x_{T+h}, y_{T+h} | y_{0:T}) = sum_i W_T^i f(x_{T+h} | x_T^i) g(y_{T+h} | x_{T+h})

    Args:
        source: the filter that was run, or its model.
        result: of the run.
        key: a JAX key or a seed, or one for each series.
        horizon: H, how many steps beyond the last observation.

    Returns:
        A `Forecast`.

    Raises:
        InvalidArgument: `horizon` is not an integer >= 1; inputs end before time T + H.
    """
    if isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1:
        raise InvalidArgument("horizon", horizon, "an integer >= 1")
    model = source if isinstance(source, StateSpaceModel) else source.model
    start = result.num_steps
    check_inputs(model, start + horizon + 1, f"to forecast {horizon} steps")
    problems = None if result.log_weights.ndim == 1 else result.log_weights.shape[0]
    run = compiled(_future, model, static=(3, 4))
    keys, several = keys_of(key, problems), problems is not None
    states, observations = run(keys, result.particles, jnp.int32(start), horizon, several)
    return Forecast(states, observations, result.log_weights, model, start)


def posterior_predictive(
    source: Observed | Auxiliary | StateSpaceModel, paths: PyTree, key: RandomKey | int
) -> PyTree:
    """Series that could have been seen instead: `y_t ~ g_t(. | x_t)` along given paths.

    With paths from a smoother, or `result.trajectories()` and their weights, these are draws from the posterior
    predictive law at the model's parameters; map it over models (`jax.vmap`) for draws of the parameters.

    Args:
        source: a filter or its model.
        paths: states of shape (T + 1, n, ...).
        key: a JAX key or a seed.

    Returns:
        Observations of shape (T + 1, n, ...).
    """
    model = source if isinstance(source, StateSpaceModel) else source.model
    times = jax.tree.leaves(paths)[0].shape[0]
    check_inputs(model, times, "as there are states")
    return compiled(_replicates, model)(keys_of(key, None), paths)


def _future(
    model: StateSpaceModel, keys: Any, x: PyTree, start: Any, horizon: int, several: bool
) -> tuple[PyTree, PyTree]:
    times = start + jnp.arange(1, horizon + 1, dtype=jnp.int32)
    one = lambda key, x: onwards(model, key, x, times, size(x))[1]
    return jax.vmap(one, out_axes=1)(keys, x) if several else one(keys, x)


def _replicates(model: StateSpaceModel, key: Any, paths: PyTree) -> PyTree:
    def at_time(t: Any, x: PyTree) -> PyTree:
        law = model.observation(t, x)
        return draw(law, jax.random.fold_in(key, t), size(x), "observation(t, x)")

    times = jnp.arange(jax.tree.leaves(paths)[0].shape[0], dtype=jnp.int32)
    return jax.vmap(at_time)(times, paths)
