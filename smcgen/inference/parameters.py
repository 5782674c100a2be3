"""Parameters with a prior: NumPyro distributions by name, and real coordinates for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from smcgen.core._types import PyTree, RandomKey
from smcgen.errors import InvalidArgument, MissingExtra


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Parameters:
    """Independent priors of named parameters.

    Samplers move in real coordinates u; `theta = T(u)` obeys the constraints of the priors, and
    `log p(u) = log p(theta) + log |dT/du|`.

    Args:
        prior: a NumPyro distribution for each name: `{"rho": dist.Uniform(-1, 1), "sigma": dist.HalfNormal(1.0)}`.

    Raises:
        InvalidArgument: a prior is no continuous distribution.
        MissingExtra: NumPyro is not installed.
    """

    prior: dict[str, Any]

    def draw(self, key: RandomKey) -> dict[str, Any]:
        """Real coordinates of a draw from the prior."""
        keys = jax.random.split(key, len(self.prior))
        return {
            name: self._transform(name).inv(law.sample(k))
            for k, (name, law) in zip(keys, self.prior.items(), strict=True)
        }

    def constrained(self, u: Mapping[str, Any]) -> dict[str, Any]:
        """`theta = T(u)`."""
        return {name: self._transform(name)(u[name]) for name in self.prior}

    def unconstrained(self, theta: Mapping[str, Any]) -> dict[str, Any]:
        """`u` of a theta inside the constraints.

        Raises:
            InvalidArgument: theta has other names, or a value that its prior cannot give.
        """
        if set(theta) != set(self.prior):
            raise InvalidArgument("theta", sorted(theta), f"the names {sorted(self.prior)}")
        values = {name: jnp.asarray(theta[name]) for name in self.prior}
        for name, value in values.items():
            support: Any = self.prior[name].support
            if not isinstance(value, Tracer) and not bool(jnp.all(support(value))):
                raise InvalidArgument(f"theta[{name!r}]", theta[name], f"a value in {support!r}")
        return {name: self._transform(name).inv(value) for name, value in values.items()}

    def log_prior(self, u: Mapping[str, Any]) -> Any:
        """`log p(u)`, nats."""
        total = jnp.zeros(())
        for name, law in self.prior.items():
            transform = self._transform(name)
            theta = transform(u[name])
            change = transform.log_abs_det_jacobian(u[name], theta)
            total += jnp.sum(law.log_prob(theta)) + jnp.sum(change)
        return total

    def _transform(self, name: str) -> Any:
        from numpyro.distributions.transforms import biject_to

        return biject_to(self.prior[name].support)


def parameters(prior: Any) -> Parameters:
    """`Parameters` from a dictionary of distributions, or itself."""
    if isinstance(prior, Parameters):
        return prior
    try:
        from numpyro.distributions import Distribution
    except ImportError as error:
        raise MissingExtra("a prior", "numpyro", "learn") from error
    if not isinstance(prior, Mapping) or not prior:
        raise InvalidArgument("prior", prior, "a NumPyro distribution for each name")
    for name, law in prior.items():
        support = getattr(law, "support", None) if isinstance(law, Distribution) else None
        if support is None or support.is_discrete:
            raise InvalidArgument(f"prior[{name!r}]", law, "a continuous NumPyro distribution")
    return Parameters(dict(prior))


def built(build: Any, theta: PyTree) -> Any:
    """`build(theta)`.

    Raises:
        InvalidArgument: `build` is no function.
    """
    if not callable(build):
        raise InvalidArgument("build", build, "a function of parameters to a Feynman-Kac model")
    return build(theta)
