"""The bootstrap filter: particles move by the model."""

from typing import Any

from smcgen.core._types import LogG, PyTree
from smcgen.ssm.filter import Observed
from smcgen.ssm.laws import Law


class Bootstrap(Observed):
    """`M_t = f_t`, `G_t = g_t(y_t | x_t)` (Gordon, Salmond and Smith 1993).

    The plainest form, and the cheapest step. It needs many particles where observations are informative or states are
    many; then see `Guided`. Arguments and errors: `smcgen.ssm.Observed`.

    Example:
        result = smcgen.smc(Bootstrap(model, y), key=0, n_particles=1000)
    """

    def move(self, y: PyTree, t: Any, x_prev: PyTree | None) -> Law:
        return self.prior(t, x_prev)

    def weight(self, y: PyTree, t: Any, x_prev: PyTree | None, x: PyTree) -> LogG:
        return self.log_likelihood(y, t, x)
