"""Proposals: move particles by another law, and weight them for it."""

from dataclasses import dataclass
from typing import Any

import jax
from numpyro.distributions import Distribution

from smcgen.core._types import LogG, PyTree
from smcgen.errors import ModelError
from smcgen.learn.kernels import Kernels


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Proposed(Kernels):
    """Any `Markov` model with densities, moved by a proposal:

        M'_t = q_t(x_t | x_{t-1}),    G'_t = G_t M_t / q_t

    The target and E[Z-hat] are those of `model` if q can go wherever `M_t G_t` can. For a model of `smcgen.ssm` use
    `smcgen.ssm.Guided`, which hands y_t to the proposal and knows what is missing.

    Args:
        model: a `Markov` model with `log_initial` and `log_m`.
        proposal: `(model, t, x_prev) -> law`, a NumPyro distribution of batch shape (n,), or () at t = 0, where
            `x_prev` is None. A pytree if it has parameters, or a function.

    Raises:
        ModelError: the model lacks a density; when it is first run.
    """

    model: Any
    proposal: Any

    @property
    def num_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.model.num_steps

    def initial(self) -> Distribution:
        return self.proposal(self.model, 0, None)

    def transition(self, t: Any, x_prev: PyTree) -> Distribution:
        return self.proposal(self.model, t, x_prev)

    def log_g(self, t: Any, x_prev: PyTree | None, x: PyTree) -> LogG:
        try:
            if x_prev is None:
                log_m, law = self.model.log_initial(x), self.initial()
            else:
                log_m, law = self.model.log_m(t, x_prev, x), self.transition(t, x_prev)
        except NotImplementedError as error:
            raise ModelError(
                f"{type(self.model).__name__} lacks log_initial or log_m: the weights of a proposal need "
                "the density of what it replaces"
            ) from error
        return self.model.log_g(t, x_prev, x) + log_m - law.log_prob(x)
