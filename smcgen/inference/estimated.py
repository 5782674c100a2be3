"""The posterior of parameters whose likelihood a particle filter estimates, as a path of targets.

    gamma_s(u) = p(u) p(y_{0:s-1} | theta),   s = 0..T + 1,   with p-hat of a filter instead of p

On the space of parameters and of all that the filter draws this is exact: E[p-hat] = p for every number of particles
(Andrieu and Roberts 2009; Andrieu, Doucet and Holenstein 2010). PMMH is a chain on the last of these targets, SMC²
a sampler along all of them (Chopin, Jacob and Papaspiliopoulos 2013).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from smcgen.core import body
from smcgen.core._types import PyTree, RandomKey
from smcgen.core.account import Carry
from smcgen.core.body import Settings
from smcgen.core.drivers import TracedDriver
from smcgen.core.resolve import resolve
from smcgen.errors import InvalidArgument, ModelError
from smcgen.inference.parameters import Parameters, built
from smcgen.samplers.base import Kernel, Path, Point, Scalar
from smcgen.samplers.kernels import Custom, RandomWalk
from smcgen.samplers.kernels import resolve as resolve_kernel
from smcgen.samplers.kernels.tuning import static


class Filtered(NamedTuple):
    """What a filter that may go on carries: its population, and the data of its key."""

    carry: Carry
    key: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FilterPath(Path):
    """Posteriors given the first s observations, with estimated likelihoods.

    Args:
        parameters: prior and coordinates.
        build: of parameters, a traceable model of one problem (`lambda theta: Bootstrap(Model(**theta), y)`).
        settings: of the filters.
    """

    parameters: Parameters
    build: Callable[[PyTree], Any] = static(None)
    settings: Settings = static(None)

    start, continuous, differentiable = 0, False, False

    @property
    def end(self) -> int:
        """T + 1, the number of observations."""
        theta = jax.eval_shape(lambda k: self.parameters.constrained(self.parameters.draw(k)), _KEY)
        steps = []
        jax.eval_shape(lambda theta: steps.append(self._model(theta).num_steps), theta)
        return int(steps[0]) + 1

    def growing(self, factor: int) -> "FilterPath":
        """The same with more particles."""
        return replace(self, settings=replace(self.settings, n=self.settings.n * factor))

    def sample(self, key: RandomKey) -> PyTree:
        """Coordinates from the prior."""
        return self.parameters.draw(key)

    def evaluate(self, key: RandomKey | None, x: PyTree, at: Any) -> Point:
        """A filter over the first `at` observations."""
        assert key is not None
        first, steps = jax.random.split(key)
        model = self._model(self.parameters.constrained(x))
        carry, _ = body.first(model, first, self.settings)
        start = Filtered(_plain(carry), jax.random.key_data(steps))
        # at 0 the filter has seen the first observation already, which does not count yet
        filtered = self._onwards(model, start, jnp.int32(1), at)
        seen = jnp.where(jnp.asarray(at) > 0, _log_z(filtered.carry), 0.0)
        return Point(x, self.parameters.log_prior(x), seen, filtered)

    def log_density(self, point: Point, at: Any) -> Scalar:
        """What the filter found."""
        return jnp.asarray(point.log_prior) + point.log_likelihood

    def log_ratio(self, point: Point, at: Any, to: Any) -> Scalar:
        """Costs what `advance` does."""
        return self.advance(jax.random.key(0), point, at, to)[1]

    def advance(self, key: RandomKey, point: Point, at: Any, to: Any) -> tuple[Point, Scalar]:
        """The filter goes on to observation `to`."""
        model = self._model(self.parameters.constrained(point.x))
        filtered = self._onwards(model, point.estimate, jnp.maximum(at, 1), to)
        seen = jnp.where(jnp.asarray(to) > 0, _log_z(filtered.carry), 0.0)
        both = (seen > -jnp.inf) & (point.log_likelihood > -jnp.inf)
        gained = jnp.where(both, seen - point.log_likelihood, -jnp.inf)
        return point._replace(log_likelihood=seen, estimate=filtered), gained

    def _model(self, theta: PyTree) -> Any:
        model = resolve(built(self.build, theta))
        if not model.traceable or model.num_problems is not None:
            raise ModelError("parameters are inferred for a traceable model of one problem")
        return model

    def _onwards(self, model: Any, filtered: Filtered, start: Any, stop: Any) -> Filtered:
        key = jax.random.wrap_key_data(filtered.key)
        step = lambda t, carry: _plain(
            body.step(model, key, self.settings, TracedDriver(), None, carry, t)[0]
        )
        carry = jax.lax.fori_loop(start, jnp.asarray(stop, start.dtype), step, filtered.carry)
        return Filtered(carry, filtered.key)


def _plain(carry: Carry) -> Carry:
    """A carry whose arrays have types that a loop keeps."""
    return jax.tree.map(lambda x: jax.lax.stop_gradient(jnp.asarray(x)), carry)


def _log_z(carry: Carry) -> Scalar:
    log_z = carry.log_z + carry.lost
    return jnp.where(jnp.isnan(log_z), -jnp.inf, log_z)


_KEY = jax.eval_shape(lambda: jax.random.key(0))


def proposing(kernel: Any, path: FilterPath) -> Kernel:
    """A kernel that moves parameters and keeps the estimate of the present ones; default: a random walk.

    Raises:
        InvalidArgument: it is no kernel, or it would make that estimate again, which has another target.
    """
    chosen = RandomWalk() if kernel is None else resolve_kernel(kernel)
    if isinstance(chosen, Custom):
        allowed = "'random_walk' or a smcgen.samplers.Kernel that keeps Point.estimate"
        raise InvalidArgument("kernel", kernel, allowed)
    chosen.check(path, path.sample(jax.random.key(0)))
    return chosen
