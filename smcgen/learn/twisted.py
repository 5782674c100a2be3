"""Twisted models: kernels that know what comes."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution

from smcgen.core._types import LogG, PyTree
from smcgen.errors import ModelError
from smcgen.learn.kernels import Kernels, law_of
from smcgen.learn.twists.base import Tilting


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Twisted(Kernels):
    """A model whose kernels are twisted by `psi_t(x_t)`, with potentials that make up for it:

        M_0^psi ∝ M_0 psi_0,    M_t^psi(x | x_{t-1}) = M_t(x | x_{t-1}) psi_t(x) / M_t(psi_t)(x_{t-1})
        G_t^psi(x_{t-1}, x_t) = G_t(x_{t-1}, x_t) M_{t+1}(psi_{t+1})(x_t) / psi_t(x_t),    M_{T+1}(psi_{T+1}) = 1

    and a factor `M_0(psi_0)` in `G_0`. The target and E[Z-hat] are those of `model` for every psi > 0. With
    `psi_t = G_t M_{t+1}(psi_{t+1})`, what the potentials from t on are worth, all potentials but the first are 1 and
    Z-hat = Z in every run (Guarniero, Johansen and Lee 2017, proposition 2; Heng et al. 2020). A psi that falls off
    faster than that leaves weights without a bound, perhaps without a variance.

    Args:
        model: a `Kernels` model, or a filter of `smcgen.ssm` for one series.
        twist: a twist that tilts its kernels: `Quadratic` for Gaussian ones, `Table` for finite states.

    Raises:
        ModelError: the model does not show its kernels, or the twist cannot tilt them; when it is first run.
    """

    model: Any
    twist: Any

    @property
    def num_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.model.num_steps

    def initial(self) -> Distribution:
        return self._tilt(0, None)[0]

    def transition(self, t: Any, x_prev: PyTree) -> Distribution:
        return self._tilt(t, x_prev)[0]

    def log_g(self, t: Any, x_prev: PyTree | None, x: PyTree) -> LogG:
        log_psi = self.twist(t, x)
        log_g = self.model.log_g(t, x_prev, x) + self.log_ahead(t, x) - log_psi
        if x_prev is None:
            log_g += self._tilt(0, None)[1]
        # where psi is 0 no twisted kernel goes; a reference path may
        return jnp.where(log_psi == -jnp.inf, -jnp.inf, log_g)

    def log_ahead(self, t: Any, x: PyTree) -> Any:
        """`log M_{t+1}(psi_{t+1})` at each particle; 0 at the end."""
        if self.num_steps == 0:
            return 0.0
        log_mass = self._tilt(jnp.minimum(t + 1, self.num_steps), x)[1]
        return jnp.where(t < self.num_steps, log_mass, 0.0)

    def _tilt(self, t: Any, x_prev: PyTree | None) -> tuple[Distribution, Any]:
        if not isinstance(self.twist, Tilting):
            raise ModelError(
                f"a {type(self.twist).__name__} cannot tilt kernels, as Quadratic and Table can; "
                "smcgen.learn.Lookahead takes any function of t and x"
            )
        return self.twist.tilt(t, law_of(self.model, t, x_prev))
