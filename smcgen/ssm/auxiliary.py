"""Auxiliary particle filters: particles are resampled for the observation to come."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from smcgen.core._types import LogG, PyTree, RandomKey
from smcgen.core.compile import inside_trace, jitted
from smcgen.core.result import SMCResult
from smcgen.errors import InvalidArgument, ModelError
from smcgen.ssm.filter import Filter, Observed, at
from smcgen.ssm.guided import Guided, as_tree
from smcgen.ssm.laws import size
from smcgen.ssm.missing import unseen
from smcgen.ssm.model import StateSpaceModel
from smcgen.ssm.proposals import LocallyOptimal


class Auxiliary(Filter):
    """`G'_t = G_t eta_t(x_t) / eta_{t-1}(x_{t-1})`, eta_t an approximation of `p(y_{t+1} | x_t)`, `eta_T = 1`.

    The target and the normalising constant are those of the form inside, whatever eta is; resampling by G' keeps the
    particles that will explain the next observation. Written as a twist (Johansen and Doucet 2008) it allows
    adaptive resampling, which the first form of Pitt and Shephard (1999) did not. A poor eta is worse than none:
    it must not fall off faster than `p(y_{t+1} | x_t)` does.

    Weights of the run at t < T are those of the twisted law; `filtered` and `log_scores` take the twist off.

    Args:
        inner: a `Bootstrap` or `Guided` filter.
        log_eta: `(model, t, x_t, y_{t+1}) -> log eta_t`, shape (n,): a function, or an object (a pytree if it has
            parameters); or a `LocallyOptimal`, whose `log_predictive` is meant. It is 0 where nothing is seen at t + 1.

    Example:
        result = smcgen.smc(Auxiliary(Bootstrap(model, y)), key=0, n_particles=1000)
    """

    inner: Observed
    log_eta: Any = LocallyOptimal()

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Observed):
            raise ModelError(
                f"Auxiliary wraps a Bootstrap or Guided filter, not {type(self.inner).__name__}"
            )
        if not callable(self.log_eta):
            allowed = "a function (model, t, x_t, y_next) -> log eta_t, or a LocallyOptimal"
            raise InvalidArgument("log_eta", self.log_eta, allowed)
        vars(self)["log_eta"] = as_tree(self.log_eta)

    @property
    def model(self) -> StateSpaceModel:
        """The state-space model."""
        return self.inner.model

    @property
    def num_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """T: one less than there are observations."""
        return self.inner.num_steps

    @property
    def num_problems(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """How many series; None for one without a series axis."""
        return self.inner.num_problems

    def each(self, one: Callable[..., Any], *arguments: Any) -> Any:
        return self.inner.each(one, *arguments)

    def draw_initial(self, key: RandomKey, n: int) -> PyTree:
        return self.inner.draw_initial(key, n)

    def draw(self, key: RandomKey, t: Any, x_prev: PyTree) -> PyTree:
        return self.inner.draw(key, t, x_prev)

    def log_initial(self, x: PyTree) -> LogG:
        return self.inner.log_initial(x)

    def log_m(self, t: Any, x_prev: PyTree, x: PyTree) -> LogG:
        return self.inner.log_m(t, x_prev, x)

    def log_g(self, t: Any, x_prev: PyTree | None, x: PyTree) -> LogG:
        return self.inner.log_g(t, x_prev, x) + self._gain(t, x_prev, x)

    def log_transition(self, t: Any, previous: PyTree, current: PyTree) -> LogG:
        return self.inner.log_transition(t, previous, current) + self._gain(t, previous, current)

    def filtered_log_weights(self, result: SMCResult) -> Any:
        """See `Filter`. The twist is taken off."""
        return jax.nn.log_softmax(self._untwisted(result), axis=-1)

    def log_scores(self, result: SMCResult) -> Any:
        """See `Filter`; from the weights without the twist, so it needs `keep="particles"`."""
        so_far = jnp.cumsum(result.log_evidence_increments, axis=0)
        total = so_far + jax.nn.logsumexp(self._untwisted(result), axis=-1)
        return jnp.diff(total, axis=0, prepend=0.0)

    def _untwisted(self, result: SMCResult) -> Any:
        log_weights = super().filtered_log_weights(result)
        etas = partial(_log_etas, self) if inside_trace() else jitted(_log_etas, self)
        return log_weights - etas(result.history)

    def _gain(self, t: Any, x_prev: PyTree | None, x: PyTree) -> LogG:
        gain = self._log_eta(t, x)
        return gain if x_prev is None else gain - self._log_eta(t - 1, x_prev)

    def _log_eta(self, t: Any, x: PyTree) -> LogG:
        last = self.num_steps
        locally_optimal = isinstance(self.log_eta, LocallyOptimal)
        log_eta = self.log_eta.log_predictive if locally_optimal else self.log_eta

        def one(y: PyTree, x: PyTree) -> Any:
            now = jnp.minimum(t, last - 1)
            seen = at(y, now + 1)
            gone = unseen(seen) | (t == last)
            seen = jax.tree.map(lambda a: jnp.where(gone, jnp.zeros_like(a), a), seen)
            return jnp.where(gone, 0.0, log_eta(self.model, now, x, seen))

        return self.each(one if last else lambda _, x: jnp.zeros(size(x)), x)

    def __repr__(self) -> str:
        return f"Auxiliary({self.inner!r})"


def fully_adapted(
    model: StateSpaceModel, y: Any, newton_steps: int = 1, *, several: bool | None = None
) -> Auxiliary:
    """The fully adapted auxiliary filter: the locally optimal proposal with `eta_t = p(y_{t+1} | x_t)`.

    Where both are exact (`smcgen.ssm.LocallyOptimal`) no weight depends on what was drawn in its own step but through
    eta: `G'_t = eta_t`. Otherwise both are Laplace's approximation, and the weights correct it. Arguments and
    errors: `smcgen.ssm.Observed`.
    """
    optimal = LocallyOptimal(newton_steps)
    return Auxiliary(Guided(model, y, optimal, several=several), optimal)


def _log_etas(filter: Auxiliary, history: PyTree) -> Any:
    """`log eta_t` of the particles of every time, in one program."""
    times = jnp.arange(filter.num_steps + 1, dtype=jnp.int32)
    return jax.vmap(filter._log_eta)(times, history)
