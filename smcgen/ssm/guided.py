"""Guided particle filters: particles move by a proposal that has seen the observation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from smcgen.core._types import LogG, PyTree, RandomKey
from smcgen.errors import InvalidArgument
from smcgen.ssm.filter import Observed, at
from smcgen.ssm.laws import Law, draw, log_density, size
from smcgen.ssm.missing import unseen
from smcgen.ssm.proposals import LocallyOptimal

Proposal = Callable[[Any, Any, PyTree | None, PyTree], Law]


class Guided(Observed):
    """`M_t = q_t(x_t | x_{t-1}, y_t)`, `G_t = f_t g_t / q_t` (Liu and Chen 1998; Doucet, Godsill and Andrieu 2000).

    Args:
        model, y: see `smcgen.ssm.Observed`.
        proposal: `(model, t, x_prev, y_t) -> law`, for `x_prev` of shape (n, ...), or None at t = 0: a function, or
            an object (a pytree, if it has parameters of its own). Its law must be able to go wherever `f_t g_t` can.
            Default: the locally optimal one, `p(x_t | x_{t-1}, y_t)`, exact or approximate; see
            `smcgen.ssm.LocallyOptimal`.

    Where nothing was seen at all particles move by the model, and weights stay as they are; the proposal must
    deal with a row that is NaN in part. Errors: `smcgen.ssm.Observed`.

    Example:
        A proposal of one's own::

            def proposal(model, t, x_prev, y):
                if x_prev is None:
                    return model.initial()
                return dist.Normal(0.5 * (model.rho * x_prev + y), model.sigma)

            result = smcgen.smc(Guided(model, y, proposal), key=0, n_particles=100)
    """

    proposal: Any = LocallyOptimal()

    def __post_init__(self) -> None:
        if not callable(self.proposal):
            allowed = "a function (model, t, x_prev, y_t) -> law"
            raise InvalidArgument("proposal", self.proposal, allowed)
        vars(self)["proposal"] = as_tree(self.proposal)
        super().__post_init__()

    def move(self, y: PyTree, t: Any, x_prev: PyTree | None) -> Law:
        """The proposal's law. Where nothing was seen the model's is used instead of it."""
        seen, gone = at(y, t), self._unseen(y, t)
        if gone is not None:  # any number will do, as long as no NaN comes of it
            seen = jax.tree.map(lambda a: jnp.where(gone, jnp.zeros_like(a), a), seen)
        return self.proposal(self.model, t, x_prev, seen)

    def drawn(self, y: PyTree, t: Any, key: RandomKey, x_prev: PyTree | None, n: int) -> PyTree:
        x, gone = draw(self.move(y, t, x_prev), key, n, _PROPOSAL), self._unseen(y, t)
        if gone is None:
            return x
        free = draw(self.prior(t, x_prev), key, n, "transition(t, x_prev)")
        return jax.tree.map(lambda a, b: jnp.where(gone, a, b), free, x)

    def log_move(self, y: PyTree, t: Any, x_prev: PyTree | None, x: PyTree) -> LogG:
        log_q = log_density(self.move(y, t, x_prev), x, size(x), _PROPOSAL)
        gone = self._unseen(y, t)
        return log_q if gone is None else jnp.where(gone, self.log_prior(t, x_prev, x), log_q)

    def weight(self, y: PyTree, t: Any, x_prev: PyTree | None, x: PyTree) -> LogG:
        log_q = log_density(self.move(y, t, x_prev), x, size(x), _PROPOSAL)
        log_g = self.log_prior(t, x_prev, x) + self.log_likelihood(y, t, x) - log_q
        gone = self._unseen(y, t)
        return log_g if gone is None else jnp.where(gone, 0.0, log_g)

    def _unseen(self, y: PyTree, t: Any) -> Any:
        """Whether nothing at all was seen at time t; None if that never happens."""
        return None if self.missing == "none" else unseen(at(y, t))


_PROPOSAL = "proposal(model, t, x_prev, y)"


def as_tree(function: Any) -> Any:
    """A function as a pytree without leaves; an object that is a pytree as it is."""
    return jax.tree_util.Partial(function) if jax.tree_util.all_leaves([function]) else function
