"""A state-space model and its observations, compiled to a Feynman-Kac model: what all forms share.

Every form (bootstrap, guided, auxiliary) has the same target, `p(x_{0:T} | y_{0:T})`, and the same normalising
constant, the likelihood `p(y_{0:T})`; they differ in how particles move and when they are weighted, so in variance
and cost.
All are `smcgen.Markov` models: particle filters, conditional SMC, ancestor and backward sampling run on each.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import jax

from smcgen.core._types import LogG, PyTree, RandomKey
from smcgen.core.markov import Markov
from smcgen.core.precision import full_precision
from smcgen.core.result import SMCResult
from smcgen.errors import InvalidArgument
from smcgen.ssm._tree import Tree, static
from smcgen.ssm.laws import Law, draw, log_density, size
from smcgen.ssm.missing import Missing, log_density_seen
from smcgen.ssm.model import StateSpaceModel
from smcgen.ssm.series import check_model, check_moves, examine


class Filter(Tree, Markov):
    """A form of filter: `Bootstrap`, `Guided` or `Auxiliary`. Pass it to `smcgen.smc`."""

    @abstractmethod
    def each(self, one: Callable[..., Any], *arguments: Any) -> Any:
        """`one(y, *arguments)` of each series, y its observations."""

    def filtered_log_weights(self, result: SMCResult) -> Any:
        """Log-weights of `p(x_t | y_{0:t})` for the particles in `result.history`, t = 0..T, shape (T + 1, *p, n)."""
        if result.history is None:
            allowed = "'particles' to know the filter at every time"
            raise InvalidArgument("keep", "ancestors", allowed)
        return result.history_log_weights

    def filtered(self, result: SMCResult, fn: Callable[[PyTree], PyTree] = lambda x: x) -> PyTree:
        """Estimates of `E[fn(x_t) | y_{0:t}]` at t = 0..T, shape (T + 1, *p, ...).

        Args:
            result: a run of this filter with `keep="particles"`.
            fn: maps states of shape (*p, n, ...) to arrays with these axes leading.

        Raises:
            InvalidArgument: the particles were not kept.
        """

        def one(log_weights: Any, x: PyTree) -> PyTree:
            return result.replace(log_weights=log_weights, particles=x).expectation(fn)

        return jax.vmap(one)(self.filtered_log_weights(result), result.history)

    def log_scores(self, result: SMCResult) -> Any:
        """Estimates of `log p(y_t | y_{0:t-1})` at t = 0..T, nats, shape (T + 1, *p): one-step predictive scores."""
        return result.log_evidence_increments


class Observed(Filter):
    """A model with its observations, particles moved by one law and weighted by what remains.

    Attributes:
        model: a `StateSpaceModel`.
        y: observations `y_0..y_T`, shape (T + 1, ...), or (series, T + 1, ...) for several series at once: each is
            then a problem of its own. NaN is missing. A dictionary if the model's `observation` is one.
        several: whether y has an axis of series. What shape y has says that, unless there are as many series as times:
            a column, shape (T + 1, 1), is more often a mistake, and is refused unless you say True.

    Raises:
        InvalidArgument: `y` has a wrong shape, is infinite, is nothing that the law can give, or misses what cannot be
            integrated out; a parameter is not finite or breaks a constraint of its law at time 0 or 1; inputs end
            before the observations.
        ModelError: a law has a wrong shape, or is none.
    """

    model: StateSpaceModel
    y: Any
    several: bool | None = static(default=None, kw_only=True)
    missing: Missing = static(init=False)

    def __post_init__(self) -> None:
        check_model(self.model)
        vars(self).update(examine(self.model, self.y, self.several)._asdict())
        check_moves(self)

    @property
    def num_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """T: one less than there are observations."""
        return jax.tree.leaves(self.y)[0].shape[1 if self.several else 0] - 1

    @property
    def num_problems(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """How many series; None for one without a series axis."""
        return jax.tree.leaves(self.y)[0].shape[0] if self.several else None

    # ---- one series: what a form says -----------------------------------------------------------

    @abstractmethod
    def move(self, y: PyTree, t: Any, x_prev: PyTree | None) -> Law:
        """The law particles are drawn from; `y` is the series, `x_prev` is None at t = 0."""

    @abstractmethod
    def weight(self, y: PyTree, t: Any, x_prev: PyTree | None, x: PyTree) -> LogG:
        """`log G_t`."""

    def log_prior(self, t: Any, x_prev: PyTree | None, x: PyTree) -> LogG:
        """`log f_t(x_t | x_{t-1})`, or `log mu(x_0)`."""
        return log_density(self.prior(t, x_prev), x, size(x), _PRIOR)

    def log_likelihood(self, y: PyTree, t: Any, x: PyTree) -> LogG:
        """`log g_t(y_t | x_t)`; 0 where nothing was seen."""
        law = self.model.observation(t, x)
        return log_density_seen(law, at(y, t), size(x), "observation(t, x)", self.missing)

    def prior(self, t: Any, x_prev: PyTree | None) -> Law:
        """The model's law of `x_t`."""
        return self.model.initial() if x_prev is None else self.model.transition(t, x_prev)

    def drawn(self, y: PyTree, t: Any, key: RandomKey, x_prev: PyTree | None, n: int) -> PyTree:
        """n particles of the move."""
        return draw(self.move(y, t, x_prev), key, n, _PRIOR)

    def log_move(self, y: PyTree, t: Any, x_prev: PyTree | None, x: PyTree) -> LogG:
        """Log-density of the move."""
        return log_density(self.move(y, t, x_prev), x, size(x), _PRIOR)

    # ---- all series: what algorithms ask --------------------------------------------------------

    def each(self, one: Callable[..., Any], *arguments: Any) -> Any:
        with full_precision():
            return (jax.vmap(one) if self.several else one)(self.y, *arguments)

    def draw_initial(self, key: RandomKey, n: int) -> PyTree:
        return self.each(lambda y, key: self.drawn(y, 0, key, None, n), key)

    def draw(self, key: RandomKey, t: Any, x_prev: PyTree) -> PyTree:
        return self.each(lambda y, key, x: self.drawn(y, t, key, x, size(x)), key, x_prev)

    def log_initial(self, x: PyTree) -> LogG:
        return self.each(lambda y, x: self.log_move(y, 0, None, x), x)

    def log_m(self, t: Any, x_prev: PyTree, x: PyTree) -> LogG:
        return self.each(lambda y, x_prev, x: self.log_move(y, t, x_prev, x), x_prev, x)

    def log_g(self, t: Any, x_prev: PyTree | None, x: PyTree) -> LogG:
        return self.each(lambda y, x_prev, x: self.weight(y, t, x_prev, x), x_prev, x)

    def log_transition(self, t: Any, previous: PyTree, current: PyTree) -> LogG:
        """`log f_t g_t`, whatever the proposal is."""

        def one(y: PyTree, x_prev: PyTree, x: PyTree) -> LogG:
            return self.log_prior(t, x_prev, x) + self.log_likelihood(y, t, x)

        return self.each(one, previous, current)

    def __repr__(self) -> str:
        series = f"{self.num_problems} series, " if self.several else ""
        missing = "" if self.missing == "none" else ", some missing"
        return (
            f"{type(self).__name__}({self.model}, y: {series}{self.num_steps + 1} times{missing})"
        )


_PRIOR = "initial() or transition(t, x_prev)"


def at(y: PyTree, t: Any) -> PyTree:
    """The observation of time t."""
    return jax.tree.map(lambda a: a[t], y)
