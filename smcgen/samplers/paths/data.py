"""Data tempering: the posteriors given the first 0, 1, ..., B batches of the data."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.precision import full_precision
from smcgen.errors import InvalidArgument
from smcgen.samplers.base import Path, Point, Scalar
from smcgen.samplers.paths.tempering import as_data


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DataTempering(Path):
    """`gamma_b(x) = prior(x) prod_{s <= b} p(y_s | x, y_{<s})`: IBIS (Chopin 2002).

    The evidence increments of the run are the predictive log densities of the batches,
    `log p(y_b | y_{<b})`. A weighting costs one batch, a move all batches seen so far.

    Args:
        draw, log_prior: as in `Tempering`.
        log_likelihood: `log_likelihood(x, batch)`, the log density of one batch; nats. A batch may hold
            whatever of the past its density needs.
        batches: the data, a pytree of arrays whose first axis is the batch.

    Raises:
        InvalidArgument: the arrays do not have the same number of batches, or there are none.
    """

    draw: Any
    log_prior: Any
    log_likelihood: Any
    batches: PyTree

    start, continuous = 0, False

    def __post_init__(self):
        for name in ("draw", "log_prior", "log_likelihood"):
            object.__setattr__(self, name, as_data(name, getattr(self, name)))

    @property
    def end(self) -> int:
        """B, the number of batches."""
        lengths = {jnp.shape(a)[0] if jnp.ndim(a) else 0 for a in jax.tree.leaves(self.batches)}
        if len(lengths) != 1 or not min(lengths):
            raise InvalidArgument(
                "batches",
                f"arrays of lengths {sorted(lengths)}",
                "one length of the first axis, >= 1",
            )
        return lengths.pop()

    def sample(self, key: RandomKey) -> PyTree:
        """From the prior."""
        return self.draw(key)

    @full_precision()
    def evaluate(self, key: RandomKey | None, x: PyTree, at: Any) -> Point:
        """The prior, and the likelihood of the batches seen so far."""
        return Point(x, jnp.asarray(self.log_prior(x)), self._between(x, 0, at))

    def log_density(self, point: Point, at: Any) -> Scalar:
        """What `evaluate` found."""
        return jnp.asarray(point.log_prior) + point.log_likelihood

    def log_ratio(self, point: Point, at: Any, to: Any) -> Scalar:
        """The likelihood of the batches that are new."""
        return self._between(point.x, at, to)

    def advance(self, key: RandomKey, point: Point, at: Any, to: Any) -> tuple[Point, Scalar]:
        """Add the likelihood of the batches that are new."""
        new = self._between(point.x, at, to)
        return point._replace(log_likelihood=point.log_likelihood + new), new

    @full_precision()
    def _between(self, x: PyTree, first: Any, last: Any) -> Scalar:
        """`sum of log p(y_s | x)` over batches first + 1..last. A scan: reverse-mode differentiable, and
        the others are skipped, which `where` would not do."""

        def add(total: Scalar, item: tuple[Any, PyTree]) -> tuple[Scalar, None]:
            index, batch = item
            wanted = (index >= first) & (index < last)
            one = lambda: jnp.asarray(self.log_likelihood(x, batch), total.dtype)
            return total + jax.lax.cond(wanted, one, lambda: jnp.zeros_like(total)), None

        zero = jnp.zeros((), jnp.result_type(float))
        return jax.lax.scan(add, zero, (jnp.arange(self.end), self.batches))[0]
