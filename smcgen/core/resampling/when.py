"""When to resample: around any scheme, and not in it.

`smc(ess_threshold=...)` resamples when the effective sample size is low: at 1 always, at 0 never. `AtSteps` and
`Every` say in addition at which steps that may happen, and are handed over as the scheme:

    smc(model, key, resampling=Every(20, start=20, end=80), ess_threshold=1.0)    # at 20, 40, 60, 80
    smc(model, key, resampling=AtSteps((5, 10), "ssp"))                           # there, if ESS < n / 2

Step t = 1..T begins with the resampling, by the weights of time t - 1. Weights not used yet are kept, so the
estimates stay unbiased whatever is chosen.
"""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from smcgen.core._types import PerProblem, RandomKey
from smcgen.core.resampling.base import Scheme, weighted
from smcgen.core.resampling.registry import resolve
from smcgen.errors import InvalidArgument


@dataclass(frozen=True)
class Scheduled:
    """A scheme, and the steps at which it may be used."""

    scheme: Scheme | str

    @abstractmethod
    def allows(self, t: Any) -> bool | Bool[Array, ""]:
        """Whether step t may begin with a resampling. A number of Python needs no JAX."""

    def __call__(self, key: RandomKey, log_weights: Float[Array, " n"]) -> Int32[Array, " n"]:
        """Ancestors by the scheme; so that this is a scheme wherever one is accepted."""
        return weighted(resolve(self.scheme), key, log_weights)[0]


@dataclass(frozen=True, init=False)
class AtSteps(Scheduled):
    """Resample at these steps only.

    Args:
        steps: times 1..T.
        scheme: a scheme or its name.
    """

    steps: tuple[int, ...]

    def __init__(self, steps: Iterable[int], scheme: Scheme | str = "systematic"):
        object.__setattr__(self, "steps", tuple(int(t) for t in steps))
        object.__setattr__(self, "scheme", resolve(scheme))

    def allows(self, t: Any) -> bool | Bool[Array, ""]:
        if isinstance(t, int):
            return t in self.steps
        return jnp.any(jnp.asarray(t) == jnp.asarray(self.steps, jnp.int32))


@dataclass(frozen=True, init=False)
class Every(Scheduled):
    """Resample at steps `start, start + k, start + 2 k, ...` up to `end` only.

    Args:
        k: how many steps apart.
        scheme: a scheme or its name.
        start: the first; k if it is not given.
        end: none after this one; to the end of the run if it is not given.
    """

    k: int
    start: int
    end: int | None

    def __init__(
        self,
        k: int,
        scheme: Scheme | str = "systematic",
        *,
        start: int | None = None,
        end: int | None = None,
    ):
        if k < 1:
            raise InvalidArgument("k", k, "an integer >= 1")
        object.__setattr__(self, "scheme", resolve(scheme))
        object.__setattr__(self, "k", int(k))
        object.__setattr__(self, "start", int(k if start is None else start))
        object.__setattr__(self, "end", None if end is None else int(end))

    def allows(self, t: Any) -> bool | Bool[Array, ""]:
        on = (t >= self.start) & ((t - self.start) % self.k == 0)
        return on if self.end is None else on & (t <= self.end)


@dataclass(frozen=True)
class Adaptive:
    """Resample when it is due: when `ESS < ess_threshold * n`; always at 1, never at 0.

    Wraps any scheme. A skipped resampling keeps the weights.

    Args:
        scheme: what draws.
        ess_threshold: in [0, 1].
        schedule: the steps at which it may; None is all.
    """

    scheme: Scheme
    ess_threshold: float = 0.5
    schedule: Scheduled | None = None

    def due(self, t: Any, ess: PerProblem, n: int) -> Bool[Array, "*problems"]:
        """Whether a population of n with this effective sample size is resampled at step t."""
        low = (ess < self.ess_threshold * n) | (self.ess_threshold >= 1)
        return low if self.schedule is None else low & self.schedule.allows(t)


def resampler(resampling: str | Scheme, ess_threshold: float) -> Adaptive:
    """A scheme, its name, or a scheme at some steps, with the threshold that is asked for."""
    scheme = resolve(resampling)
    if isinstance(scheme, Scheduled):
        return Adaptive(resolve(scheme.scheme), ess_threshold, scheme)
    return Adaptive(scheme, ess_threshold)
