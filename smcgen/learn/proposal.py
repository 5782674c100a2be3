"""Proposals: move particles by another law, and weight them for it."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from flax import linen
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
            `x_prev` is None. A pytree if it has parameters (`GaussianProposal`), or a function.

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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GaussianProposal:
    """A Gaussian that a network moves away from the model's own law:

        q_t = N(m_t + s_t a, (s_t exp(b))^2),    (a, b) = f_theta(x_{t-1}, y_t, [t = 0])

    m and s are mean and standard deviation of the model's law of x_t, coordinate by coordinate, so a network that
    says 0 proposes by the model where its coordinates are independent. For `smcgen.ssm.Guided` and `Proposed`.

    Args:
        module: f, a flax module from (n, features) to (n, 2 d). Features are the d numbers of `x_{t-1}` (0 at t = 0),
            those of y_t if there are any, and 1 at t = 0, else 0.
        params: theta; `GaussianProposal.params_for` makes some.

    Raises:
        ModelError: the module gives another shape; when it is first run.
    """

    module: linen.Module = field(metadata={"static": True})
    params: PyTree

    @staticmethod
    def params_for(module: linen.Module, dim: int, seen: int = 0, key: int = 0) -> PyTree:
        """Parameters to begin with, for states of `dim` numbers and observations of `seen`."""
        return module.init(jax.random.key(key), jnp.zeros((1, dim + seen + 1)))

    def __call__(self, model: Any, t: Any, x_prev: Any, y: Any = None) -> Distribution:
        prior = model.initial() if x_prev is None else model.transition(t, x_prev)
        event = prior.event_shape
        d = event[0] if event else 1
        n = 1 if x_prev is None else len(x_prev)
        last = jnp.zeros((n, d)) if x_prev is None else jnp.reshape(x_prev, (n, d))
        seen = jnp.zeros((n, 0)) if y is None else jnp.broadcast_to(jnp.ravel(y), (n, jnp.size(y)))
        first = jnp.full((n, 1), float(x_prev is None))
        out = self.module.apply(self.params, jnp.concatenate([last, seen, first], axis=-1))
        if getattr(out, "shape", None) != (n, 2 * d):
            found = f"shape {out.shape}" if isinstance(out, jax.Array) else type(out).__name__
            raise ModelError(
                f"module {type(self.module).__name__} gives {found}; expected {(n, 2 * d)}: shift and log-scale of "
                f"each of {d} coordinates"
            )
        shift, log_scale = jnp.split(out, 2, axis=-1)  # pyright: ignore[reportArgumentType]
        if x_prev is None:
            shift, log_scale = shift[0], log_scale[0]
        if not event:
            shift, log_scale = shift[..., 0], log_scale[..., 0]
        scale = jnp.sqrt(prior.variance)
        law = dist.Normal(prior.mean + scale * shift, scale * jnp.exp(log_scale))
        return law.to_event(len(event)) if event else law
