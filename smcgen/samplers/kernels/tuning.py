"""What samplers know for free: the particles show the scale of the target.

A kernel proposes in coordinates z in which the population is white, `x = x_0 + F z` with `F F' ≈ Cov(x)`, and scales
its steps to reach an acceptance that is good for it (Fearnhead and Taylor 2013; Buchholz, Chopin and Jacob 2021).
Both are functions of the particles, so that E[Z-hat] = Z holds only as n grows, unless they are fixed beforehand.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from smcgen.core._types import PyTree
from smcgen.core.precision import full_precision
from smcgen.errors import InvalidArgument
from smcgen.samplers.base import Kernel, Path

Metric = Literal["auto", "dense", "diagonal"]
_LARGEST_DENSE = 300  # a Cholesky factor of every target is kept


def static(default: Any) -> Any:
    """A field that is part of the program, not data."""
    return field(default=default, metadata={"static": True})


class Scale(NamedTuple):
    """A kernel's parameters.

    Attributes:
        log_step: of the step size, in white coordinates.
        factor: Cholesky factor of the covariance, (d, d); or standard deviations, (d,).
    """

    log_step: Any
    factor: Any

    def times(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """From white coordinates."""
        return self.factor @ z if self.factor.ndim == 2 else self.factor * z


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Scaled(Kernel):
    """A kernel on real coordinates that is tuned from the particles.

    Args:
        step_size: in units of the population's standard deviations; None: from the number of coordinates.
        acceptance: the step size is adapted towards this mean acceptance; None: it stays.
        metric: "dense" follows correlations, "diagonal" scales only; "auto" is dense where there are ten
            particles for each of at most 300 coordinates.
        covariance: of the targets, (d, d) or variances (d,), instead of that of the particles. With
            `acceptance=None` nothing is tuned, and E[Z-hat] = Z at any n.
    """

    step_size: Any = None
    acceptance: Any = None
    metric: Metric = static("auto")
    covariance: Any = None

    def default_step_size(self, d: int) -> float:
        """Near the best for a white normal target in d dimensions."""
        raise NotImplementedError

    def check(self, path: Path, x: PyTree) -> None:
        """x must be real."""
        kinds = {jnp.asarray(leaf).dtype for leaf in jax.tree.leaves(x)}
        if not kinds or not all(jnp.issubdtype(kind, jnp.floating) for kind in kinds):
            found = f"{type(self).__name__} for x of type {', '.join(sorted(map(str, kinds)))}"
            raise InvalidArgument("kernel", found, "a kernel of your own where x is not real")

    def tune(self, tuning: PyTree, x: PyTree, log_weights: Any, acceptance: Any) -> Scale:
        """Covariance from the population, step size from the acceptance."""
        flat = jax.vmap(lambda one: ravel_pytree(one)[0])(x)
        d = flat.shape[-1]
        factor = self._factor(flat, log_weights)
        if tuning is None:
            step = self.default_step_size(d) if self.step_size is None else self.step_size
            return Scale(jnp.log(jnp.asarray(step, flat.dtype)), factor)
        # a population of one value, or an overflow, says nothing
        factor = jnp.where(jnp.all(jnp.isfinite(factor)), factor, tuning.factor)
        if self.acceptance is None:
            return Scale(tuning.log_step, factor)
        miss = jnp.where(jnp.isnan(acceptance), 0.0, acceptance - self.acceptance)
        return Scale(tuning.log_step + 2.0 * miss.astype(flat.dtype), factor)

    def _factor(self, flat: Float[Array, "n d"], log_weights: Float[Array, " n"]) -> Array:
        n, d = flat.shape
        if self.covariance is not None:
            known = jnp.asarray(self.covariance, flat.dtype)
            if known.shape not in {(d,), (d, d)}:
                raise InvalidArgument("covariance", known.shape, f"shape ({d},) or ({d}, {d})")
            return jnp.linalg.cholesky(known) if known.ndim == 2 else jnp.sqrt(known)
        few = n < 10 * d or d > _LARGEST_DENSE
        dense = self.metric == "dense" or (self.metric == "auto" and not few)
        return spread(flat, log_weights, dense)


@full_precision()
def spread(flat: Float[Array, "n d"], log_weights: Float[Array, " n"], dense: bool) -> Array:
    """Cholesky factor of the weighted covariance, or standard deviations.

    The covariance is shrunk to its diagonal by d / (ESS + d), so that it is positive definite.
    """
    weights = jax.nn.softmax(log_weights)
    seen = weights[:, None] > 0  # weight zero removes a particle, whatever its value is
    mean = jnp.sum(jnp.where(seen, weights[:, None] * flat, 0.0), 0)
    centred = jnp.where(seen, flat - mean, 0.0)
    variance = jnp.sum(weights[:, None] * centred**2, 0)
    floor = jnp.finfo(flat.dtype).eps ** 2 * (1 + mean**2)
    if not dense:
        return jnp.sqrt(variance + floor)
    # correlations, so that coordinates of very different size lose nothing in single precision
    scale = jnp.sqrt(variance + floor)
    white = centred / scale
    correlation = (weights[:, None] * white).T @ white
    d, ess = flat.shape[-1], 1 / jnp.sum(weights**2)
    shrunk = correlation * (ess / (ess + d))
    shrunk = jnp.fill_diagonal(shrunk, 1.0, inplace=False)
    return scale[:, None] * jnp.linalg.cholesky(shrunk)
