"""Locally optimal proposals: `p(x_t | x_{t-1}, y_t)`, exact where that is possible and Gaussian where it is not.

With q optimal the weight `G_t = p(y_t | x_{t-1})` does not depend on the draw: no proposal that looks at `x_{t-1}` and
`y_t` alone has less variance (Doucet, Godsill and Andrieu 2000, proposition 2).
"""

from typing import Any

import jax
import jax.numpy as jnp

from smcgen.core._types import LogG, PyTree
from smcgen.errors import InvalidArgument, ModelError
from smcgen.ssm import enumerated, laplace, linear
from smcgen.ssm._tree import Tree, static
from smcgen.ssm.gaussian import is_gaussian
from smcgen.ssm.laws import Law, dist, size
from smcgen.ssm.missing import log_density_seen


class LocallyOptimal(Tree):
    """`q_t(x_t | x_{t-1}, y_t) ∝ f_t(x_t | x_{t-1}) g_t(y_t | x_t)`, and the normaliser `p(y_t | x_{t-1})`.

    Exact if the state is `Categorical`, by enumeration; and if `f_t` is Gaussian (`Normal`, also `to_event(1)`, or
    `MultivariateNormal`) and `log g_t` quadratic in `x_t`. A linear observation with Gaussian noise, seen wholly or in
    part, is recognised by its program, and conditioned on with one gain for all particles. For any other twice
    differentiable `g_t` it is Laplace's approximation around the mode (Doucet, Godsill and Andrieu 2000): a Gaussian
    for each particle, whose error the weights correct.

    Attributes:
        newton_steps: towards the mode of Laplace's approximation, with step halving; take more than one for
            observations that are far from quadratic, counts for example. Each costs a Hessian for each particle.
    """

    newton_steps: int = static(default=1)

    def __post_init__(self) -> None:
        if isinstance(self.newton_steps, bool) or self.newton_steps < 1:
            raise InvalidArgument("newton_steps", self.newton_steps, "an integer >= 1")

    def __call__(self, model: Any, t: Any, x_prev: PyTree | None, y: PyTree) -> Law:
        """The proposal's law; see `smcgen.ssm.Guided`."""
        return self._solve(model, t, x_prev, y)[0]

    def log_predictive(self, model: Any, t: Any, x: PyTree, y_next: PyTree) -> LogG:
        """`log p(y_{t+1} | x_t)`, exact or approximate as the proposal is; shape (n,)."""
        return jnp.broadcast_to(self._solve(model, t + 1, x, y_next)[1], (size(x),))

    def _solve(self, model: Any, t: Any, x_prev: PyTree | None, y: PyTree) -> tuple[Law, Any]:
        prior = model.initial() if x_prev is None else model.transition(t, x_prev)

        def log_g(x: Any) -> Any:  # of k states
            law = model.observation(t, x)
            return log_density_seen(law, y, size(x), "observation(t, x)", "entries")

        if isinstance(prior, dist.CategoricalProbs | dist.CategoricalLogits):
            return enumerated.posterior(prior, log_g)
        if is_gaussian(prior):
            observe = lambda x: model.observation(t, x)
            exact = linear.posterior(prior, _shared_scale(model, t, x_prev), observe, y)
            return exact or laplace.posterior(prior, log_g, self.newton_steps)
        raise ModelError(
            f"LocallyOptimal needs a Categorical or Gaussian transition, not {type(prior).__name__}: "
            "give Guided a proposal of your own"
        )


def _shared_scale(model: Any, t: Any, x_prev: PyTree | None) -> Any:
    """L of the transition's covariance L L', if it is the same from every state."""
    if x_prev is None:
        return None
    one = jax.tree.map(lambda a: a[:1], x_prev)
    return linear.shared(lambda x: linear.scale_of_one(model.transition(t, x)), one)
