"""Kernels as distributions: what a model must show for its moves to be twisted.

A `Markov` model draws. To change *how* it draws one must know the law it draws from. The filters of `smcgen.ssm`
say it; any other model does by being `Kernels`, a `Markov` model whose moves are NumPyro distributions.
"""

from abc import abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution

from smcgen.core._types import LogG, PyTree, RandomKey
from smcgen.core.markov import Markov
from smcgen.errors import ModelError
from smcgen.ssm.filter import Observed


class Kernels(Markov):
    """A Markov model given by distributions: write `num_steps`, `initial`, `transition` and `log_g`.

    Example:
        Stochastic volatility::

            class Volatility(Kernels):
                num_steps = len(y) - 1
                def initial(self): return dist.Normal(0.0, 1.0)
                def transition(self, t, x_prev): return dist.Normal(0.9 * x_prev, 0.5)
                def log_g(self, t, x_prev, x): return dist.Normal(0.0, jnp.exp(x / 2)).log_prob(y[t])
    """

    @abstractmethod
    def initial(self) -> Distribution:
        """`M_0`, of batch shape ()."""

    @abstractmethod
    def transition(self, t: Any, x_prev: PyTree) -> Distribution:
        """`M_t(. | x_{t-1})`, of batch shape (n,), or () if it is the same for all."""

    def draw_initial(self, key: RandomKey, n: int) -> PyTree:
        return self.initial().sample(key, (n,))

    def draw(self, key: RandomKey, t: Any, x_prev: PyTree) -> PyTree:
        law = self.transition(t, x_prev)
        return law.sample(key, () if law.batch_shape else (len(jax.tree.leaves(x_prev)[0]),))

    def log_initial(self, x: PyTree) -> LogG:
        return jnp.asarray(self.initial().log_prob(x))

    def log_m(self, t: Any, x_prev: PyTree, x: PyTree) -> LogG:
        return jnp.asarray(self.transition(t, x_prev).log_prob(x))


def law_of(model: Any, t: Any, x_prev: PyTree | None) -> Distribution:
    """The law of `x_t` given `x_{t-1}`, None at t = 0.

    Raises:
        ModelError: the model does not say it.
    """
    if isinstance(model, Kernels):
        return model.initial() if x_prev is None else model.transition(t, x_prev)
    if not isinstance(model, Observed):
        raise ModelError(
            f"{type(model).__name__} does not show the laws it draws from: make it a smcgen.learn.Kernels model "
            "or a filter of smcgen.ssm; smcgen.learn.Lookahead takes any Markov model"
        )
    law = model.move(model.y, t, x_prev)
    if model.num_problems is not None or not isinstance(law, Distribution):
        found = (
            f"{model.num_problems} series" if model.num_problems else "several variables a state"
        )
        raise ModelError(
            f"{type(model).__name__} has {found}: only one series and one variable can be twisted"
        )
    return law
