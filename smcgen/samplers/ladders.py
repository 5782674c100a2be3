"""Ladders: which positions of a path are visited."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from smcgen.core import weights
from smcgen.errors import InvalidArgument, UnknownName
from smcgen.samplers.base import Path, Scalar
from smcgen.samplers.kernels.tuning import static

LogRatio = Callable[[Any], Any]


class Ladder(Protocol):
    """How the next position is chosen.

    Attributes:
        max_steps: most positions after the start.
        adaptive: the run ends when the end of the path is reached, before `max_steps`.
    """

    @property
    def max_steps(self) -> int: ...

    @property
    def adaptive(self) -> bool: ...

    def at(self, t: Any, at: Any) -> Any:
        """The position under which step t moves; `at` is what `next` chose."""
        ...

    def next(self, t: Any, at: Any, end: Any, log_ratio: LogRatio, log_weights: Any) -> Any:
        """The position after `at`, from the weighted particles that step t moved.

        `log_ratio(to)` has the log of the ratio of the targets at `to` and `at`, by particle.
        """
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Given:
    """Positions fixed beforehand: increasing, after the start of the path, the last one its end."""

    positions: Any

    adaptive = False

    @property
    def max_steps(self) -> int:
        """How many there are."""
        return self.positions.shape[0]

    def at(self, t: Any, at: Any) -> Any:
        """The position number t, counted from 1."""
        return self.positions[t - 1]

    def next(self, t: Any, at: Any, end: Any, log_ratio: LogRatio, log_weights: Any) -> Any:
        """The next one; the last one again."""
        return self.positions[jnp.minimum(t, self.max_steps - 1)]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Adaptive:
    """Each position as far as the weights allow, found by bisection; the last is the end of the path exactly.

    The next position keeps `keep` of the effective sample size: of the weights W as they will be,

        ESS(W g) = keep ESS(W)                                 measure "ess" (Del Moral, Doucet and Jasra 2012)
        (sum W g)^2 / sum W g^2 = keep                         measure "cess" (Zhou, Johansen and Aston 2016)

    g the ratio of the targets, particles of weight zero left out. The two agree where W is even. "ess" goes with
    resampling at every step, "cess" with resampling when it is due.

    A ladder that depends on the particles makes E[Z-hat] = Z true only as n grows (Beskos, Jasra, Kantas and
    Thiery 2016); `sample(..., unbiased=True)` finds it in a first run and fixes it for a second.

    Args:
        keep: in (0, 1); nearer to 1 means more, shorter steps.
        measure: "ess" or "cess".
        max_steps: most positions; the last is the end of the path whatever is left of the weights.

    Raises:
        InvalidArgument, UnknownName: an argument is not allowed.
    """

    keep: float = static(0.5)
    measure: Literal["ess", "cess"] = static("ess")
    max_steps: int = static(200)

    adaptive = True

    def __post_init__(self):
        if not 0 < self.keep < 1:
            raise InvalidArgument("keep", self.keep, "a number in (0, 1)")
        if self.measure not in ("ess", "cess"):
            raise UnknownName("measure", self.measure, ("ess", "cess"))
        if self.max_steps < 1:
            raise InvalidArgument("max_steps", self.max_steps, "an integer >= 1")

    def at(self, t: Any, at: Any) -> Any:
        """What was chosen."""
        return at

    def next(self, t: Any, at: Any, end: Any, log_ratio: LogRatio, log_weights: Any) -> Any:
        """By bisection."""
        possible = log_ratio(end) > -jnp.inf
        log_weights = jnp.where(possible, log_weights, -jnp.inf)

        def kept(to: Any) -> Scalar:
            log_g = jnp.where(possible, log_ratio(to), 0.0)
            if self.measure == "ess":
                return weights.ess(log_weights + log_g) / weights.ess(log_weights)
            mean, square = (jax.nn.logsumexp(log_weights + k * log_g) for k in (1, 2))
            return jnp.exp(2 * mean - square - jax.nn.logsumexp(log_weights))

        return jnp.where(
            t >= self.max_steps - 1, end, farthest(lambda to: kept(to) >= self.keep, at, end)
        )


def farthest(allowed: Callable[[Any], Any], at: Any, end: Any) -> Any:
    """The largest position up to `end` that is allowed, at least one rounding step after `at`."""

    def halve(_: Any, bracket: tuple[Any, Any]) -> tuple[Any, Any]:
        low, high = bracket
        middle = low + 0.5 * (high - low)
        fine = allowed(middle)
        return jnp.where(fine, middle, low), jnp.where(fine, high, middle)

    # from 0, every halving gives a digit of the first position, however small it is
    low, high = jax.lax.fori_loop(0, 60, halve, (at, jnp.full_like(at, end)))
    return jnp.where(allowed(end), jnp.full_like(at, end), jnp.where(low > at, low, high))


def resolve(ladder: Any, path: Path) -> Any:
    """A ladder: one of its own kind, its name, or positions.

    Raises:
        InvalidArgument: positions do not increase, or do not lead from the start to the end of the path.
        UnknownName: no ladder has that name.
    """
    if isinstance(ladder, Adaptive | Given):
        chosen = ladder
    elif ladder is None:
        chosen = Adaptive() if path.continuous else Given(jnp.arange(path.start + 1, path.end + 1))
    elif isinstance(ladder, str):
        if ladder not in ("ess", "cess"):
            raise UnknownName("ladder", ladder, ("ess", "cess"))
        chosen = Adaptive(measure=ladder, keep=0.5 if ladder == "ess" else 0.9)
    elif not isinstance(ladder, np.ndarray | jax.Array | list | tuple):
        return ladder
    else:
        chosen = Given(_positions(ladder, path))
    if isinstance(chosen, Adaptive) and not path.continuous:
        raise InvalidArgument(
            "ladder", ladder, f"positions from {path.start} to {path.end}: this path is a sequence"
        )
    return chosen


def _positions(values: Any, path: Path) -> Any:
    values = np.asarray(values)
    if values.ndim == 1 and values.size and values[0] == path.start:
        values = values[1:]
    fine = values.ndim == 1 and values.size > 0 and bool(np.all(np.diff(values) > 0))
    if not (fine and values[0] > path.start and values[-1] == path.end):
        allowed = f"increasing positions from above {path.start} to {path.end}"
        raise InvalidArgument("ladder", values.tolist(), allowed)
    if not path.continuous:
        return jnp.asarray(values, jnp.int32)
    return jnp.asarray(values, jnp.result_type(float))
