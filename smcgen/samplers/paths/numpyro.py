"""NumPyro models as tempering paths, in unconstrained coordinates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.precision import full_precision
from smcgen.errors import MissingExtra, ModelError
from smcgen.samplers.base import Path, Point
from smcgen.samplers.kernels.tuning import static


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NumPyroPath(Path):
    """Prior to posterior of a NumPyro model: `gamma_a(z) = p(x(z)) |dx/dz| p(y | x(z))^a`.

    x are the latent sites and z their unconstrained values, by the transforms that NumPyro itself uses. What is
    tempered is everything but the prior of the latent sites: observed sites, `numpyro.factor`, and what
    `handlers.scale` adds to or takes from the prior. Z is the evidence of the observed sites.

    Build it with `numpyro_path`, which checks the model.

    Attributes:
        model: the model.
        arguments: its positional and keyword arguments: data, so that other values are the same program.
    """

    model: Callable = static(None)
    arguments: Any = ((), {})

    def sample(self, key: RandomKey) -> PyTree:
        """Latent sites from the prior, unconstrained."""
        from numpyro import handlers

        return {
            name: _inside(_transform(site).inv(site["value"]))
            for name, site in self._trace(handlers.seed(self.model, key)).items()
            if is_latent(site)
        }

    @full_precision()
    def evaluate(self, key: RandomKey | None, x: PyTree, at: Any) -> Point:
        """The model, once: log density of its latent sites with their Jacobians, and all the rest."""
        from numpyro import handlers

        def constrained(site: dict[str, Any]) -> Any:
            known = site["name"] in x and is_latent(site)
            return _transform(site)(x[site["name"]]) if known else None

        # all latent sites are given; the seed serves what else may ask for one
        model = handlers.substitute(handlers.seed(self.model, 0), substitute_fn=constrained)
        prior, rest = jnp.zeros(()), jnp.zeros(())
        for name, site in self._trace(model).items():
            if site["type"] != "sample":
                continue
            density = jnp.sum(_scaled(site["fn"].log_prob(site["value"]), site["scale"]))
            if not is_latent(site):
                rest = rest + density
                continue
            drawn = jnp.sum(site["fn"].log_prob(site["value"]))
            jacobian = _transform(site).log_abs_det_jacobian(x[name], site["value"])
            prior = prior + drawn + jnp.sum(jacobian)
            rest = rest if site["scale"] is None else rest + (density - drawn)
        return Point(x, prior, rest)

    def constrain(self, x: PyTree) -> dict[str, Any]:
        """The model's own values of one position: latent and deterministic sites."""
        from numpyro import handlers
        from numpyro.infer.util import constrain_fn

        args, kwargs = self.call()
        model = handlers.seed(self.model, 0)
        return constrain_fn(model, args, kwargs, x, return_deterministic=True)

    def call(self) -> tuple[tuple, dict[str, Any]]:
        """The model's positional and keyword arguments."""
        arguments = self.arguments
        return arguments.value if isinstance(arguments, Constants) else arguments

    def _trace(self, model: Callable) -> dict[str, Any]:
        from numpyro import handlers

        args, kwargs = self.call()
        return handlers.trace(model).get_trace(*args, **kwargs)


class Constants:
    """Arguments that must stay as they are: a model looks at their values. Part of the program."""

    def __init__(self, value: Any):
        self.value = value


def numpyro_path(model: Callable, *args: Any, **kwargs: Any) -> NumPyroPath:
    """The path from prior to posterior of a NumPyro model with these arguments.

    Raises:
        ModelError: the model has no latent site, or a discrete, improper, masked or constant one, or subsamples; it
            observes NaN, or is no model at a draw from the prior.
        MissingExtra: NumPyro is not installed.
    """
    try:
        from numpyro import handlers
    except ImportError as error:
        raise MissingExtra("sampling a NumPyro model", "numpyro", "samplers") from error
    path = NumPyroPath(model, Constants((args, kwargs)))
    try:
        trace = path._trace(handlers.seed(model, 0))
    except ValueError as error:
        if "got invalid" not in str(error):
            raise
        raise ModelError(
            f"at a draw from the prior: {error} Give latent sites priors within what depends on them allows"
        ) from error
    except NotImplementedError as error:
        raise ModelError(
            "a site of the model has no sampler (an improper prior?). Particles begin as draws from the prior: "
            "give the site a proper one, or use smcgen.samplers.from_density"
        ) from error
    _check(trace)
    return path if _looks_at_values(model, args, kwargs) else NumPyroPath(model, (args, kwargs))


def _looks_at_values(model: Callable, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether a model needs the values of its arguments when it is traced, and not only their shapes."""
    leaves, structure = jax.tree.flatten((args, kwargs))
    is_data = [isinstance(leaf, float) or hasattr(leaf, "dtype") for leaf in leaves]

    def run(arrays: list[Any], key: Any) -> Any:
        filled = iter(arrays)
        merged = [next(filled) if data else x for x, data in zip(leaves, is_data, strict=True)]
        path = NumPyroPath(model, jax.tree.unflatten(structure, merged))
        x = path.sample(key)
        return path.evaluate(None, x, 1.0), path.constrain(x)

    try:
        hash(tuple(x for x, data in zip(leaves, is_data, strict=True) if not data))
        arrays = [x for x, data in zip(leaves, is_data, strict=True) if data]
        jax.eval_shape(run, arrays, jax.random.key(0))
    except (
        Exception
    ):  # models may do anything with their data; what is wrong with them shows on the real data
        return True
    return False


def is_latent(site: dict[str, Any]) -> bool:
    """Whether a site is sampled and not observed."""
    return site["type"] == "sample" and not site["is_observed"]


def _check(trace: dict[str, Any]) -> None:
    import numpyro.distributions as dist

    latent = {name: site for name, site in trace.items() if is_latent(site)}
    if not latent:
        raise ModelError("the model has no latent site: there is nothing to sample")

    def named(wrong: Callable[[dict[str, Any]], bool]) -> str:
        return ", ".join(repr(name) for name, site in latent.items() if wrong(site))

    problems = {
        "is discrete; sum it out (a mixture distribution, say), or write a path and a kernel of your own": named(
            lambda site: site["fn"].support.is_discrete
        ),
        "is a constant; use numpyro.deterministic": named(
            lambda site: isinstance(site["fn"], dist.Delta)
        ),
        "is masked, so that its density is improper; mask what is observed": named(
            lambda site: isinstance(site["fn"], dist.MaskedDistribution)
        ),
    }
    for what, sites in problems.items():
        if sites:
            raise ModelError(f"latent site {sites} {what}")
    gone = [
        repr(name)
        for name, site in trace.items()
        if site["type"] == "sample" and site["is_observed"] and _observes_nan(site)
    ]
    if gone:
        raise ModelError(f"observed site {', '.join(gone)} has NaN; mask what is missing")
    subsampled = [
        name
        for name, site in trace.items()
        if site["type"] == "plate" and site["args"][1] not in (None, site["args"][0])
    ]
    if subsampled:
        raise ModelError(
            f"plate {', '.join(map(repr, subsampled))} subsamples; SMC needs all of the data"
        )


def _observes_nan(site: dict[str, Any]) -> bool:
    """Whether an observed site has NaN, and no mask."""
    import numpyro.distributions as dist

    law, value = site["fn"], site["value"]
    while not isinstance(law, dist.MaskedDistribution) and hasattr(law, "base_dist"):
        law = law.base_dist
    masked = isinstance(law, dist.MaskedDistribution)
    return not masked and not isinstance(value, Tracer) and bool(np.isnan(np.asarray(value)).any())


def _transform(site: dict[str, Any]) -> Any:
    from numpyro.distributions import biject_to

    return biject_to(site["fn"].support)


def _scaled(log_prob: Any, scale: Any) -> Any:
    return log_prob if scale is None else scale * log_prob


def _inside(z: Any) -> Any:
    """A draw that was rounded to the end of its support (a Beta's 1, a Gamma's 0), a step inside it."""
    info = jnp.finfo(z.dtype)
    z = jnp.where(z == jnp.inf, -jnp.log(info.eps), z)
    return jnp.where(z == -jnp.inf, jnp.log(info.tiny), z)
