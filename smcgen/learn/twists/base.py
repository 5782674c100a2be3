"""Twists: what a particle is worth, as a function of time and state.

    log psi_t(x) ~ log E[ prod_{s >= t} G_s | x_t = x ]        for `Twisted`: its own potential included
    log psi_t(x) ~ log E[ prod_{s > t}  G_s | x_t = x ]        for `Lookahead`: the future's alone

| twist | log psi_t(x) | changes the kernels | fitted by |
|---|---|---|---|
| `Quadratic` | `c_t + h_t' x - x' P_t x / 2` | Gaussian ones, exactly | least squares |
| `Table` | `v_t[x]`, x a state 0..k-1 | categorical ones, exactly | means by state |
| `Network` | a flax module's output | no | gradient steps |
| any function of t and x | | no | |

Any twist leaves the target and E[Z-hat] as they are; it changes the variance alone.
"""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Array, Float
from numpyro.distributions import Distribution

from smcgen.core._types import LogG, PyTree

Values = Float[Array, " n"]


class Twist(ABC):
    """A function of time and of a population."""

    @abstractmethod
    def __call__(self, t: Any, x: PyTree) -> LogG:
        """`log psi_t` of each particle, shape (n,), nats."""


class Tilting(Twist):
    """A twist by which some distributions can be multiplied exactly."""

    @abstractmethod
    def tilt(self, t: Any, law: Distribution) -> tuple[Distribution, Array]:
        """The law `∝ M psi_t`, and `log M(psi_t)`, of the batch shape of M.

        Raises:
            ModelError: this twist cannot tilt such a law.
        """


class Learnable(Twist):
    """A twist that can be fitted, time by time, to log-values at particles."""

    @abstractmethod
    def fitted(self, t: Any, x: PyTree, log_values: Values, weights: Values) -> "Learnable":
        """This twist with another `log psi_t`: the weighted least-squares fit. Traceable, in t too."""

    def least_particles(self) -> int:
        """How many particles determine a fit at one time."""
        return 1
