"""Arguments of `sample`, checked, with their defaults, as a Feynman-Kac model."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcgen.core._types import PyTree
from smcgen.errors import InvalidArgument
from smcgen.samplers import kernels, ladders
from smcgen.samplers.base import Path
from smcgen.samplers.ladders import Adaptive, Given
from smcgen.samplers.moves import Until
from smcgen.samplers.persistent import PersistentSampler
from smcgen.samplers.sampler import AdaptiveSampler, SMCSampler


@dataclass(frozen=True)
class Plan:
    """What will run.

    Attributes:
        sampler: the Feynman-Kac model.
        groups: its number of particles: chains, if it is waste-free.
        ess_threshold: when it is resampled.
    """

    sampler: SMCSampler | PersistentSampler
    groups: int
    ess_threshold: float

    def remembering(self) -> SMCSampler | PersistentSampler:
        """The sampler as a pilot, whose trace has the kernel's parameters."""
        return replace(self.sampler, keep_tuning=True)

    def fixed(self, trace: PyTree) -> SMCSampler | PersistentSampler:
        """The sampler with the ladder, the kernel's parameters and the numbers of moves of a pilot."""
        sampler = self.sampler
        steps = sampler.num_steps
        if isinstance(sampler.ladder, Adaptive):
            steps = int(np.sum(np.isfinite(trace.at))) - 1
        given = Given(trace.at[1 : steps + 1])
        tuning = jax.tree.map(lambda a: a[: steps + 1], trace.tuning)
        moves = jnp.asarray(trace.moves) if isinstance(sampler.moves, Until) else sampler.moves
        shared = {"ladder": given, "moves": moves, "fixed": tuning}
        if isinstance(sampler, PersistentSampler):
            return replace(sampler, **shared)
        names = ("path", "kernel", "length", "only_resampled", "batch_size")
        return SMCSampler(**{name: getattr(sampler, name) for name in names}, **shared)


def plan(
    path: Path,
    n_particles: Any,
    kernel: Any,
    ladder: Any,
    moves: Any,
    waste_free: Any,
    persistent: bool,
    ess_threshold: Any,
    batch_size: Any = None,
) -> Plan:
    """The sampler that the arguments of `sample` describe."""
    if not isinstance(path, Path):
        allowed = "a path, such as Tempering(draw, log_prior, log_likelihood)"
        raise InvalidArgument("path", type(path).__name__, allowed)
    if (
        isinstance(n_particles, bool)
        or not isinstance(n_particles, int | np.integer)
        or n_particles < 1
    ):
        raise InvalidArgument("n_particles", n_particles, "an integer >= 1")
    if batch_size is not None:
        whole = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
        if not whole or batch_size < 1:
            raise InvalidArgument("batch_size", batch_size, "an integer >= 1, or None")
        batch_size = int(batch_size)
    kernel = ("hmc" if path.differentiable else "random_walk") if kernel is None else kernel
    kernel = kernels.resolve(kernel)
    ladder = ladders.resolve(ladder, path)
    moves = _moves(moves, 1 if waste_free else kernel.moves)
    length = _length(waste_free, int(n_particles), moves, persistent)
    always = length > 1 or persistent
    if always and ess_threshold not in (None, 1):
        which = "waste_free" if length > 1 else "persistent"
        raise InvalidArgument("ess_threshold", ess_threshold, f"1 (or None) with {which}")
    if ess_threshold is None:
        by_ess = isinstance(ladder, Adaptive) and ladder.measure == "ess"
        ess_threshold = 1.0 if always or by_ess else 0.5
    if persistent:
        if not path.continuous:
            raise InvalidArgument("persistent", True, "False: this path is a sequence of targets")
        sampler = PersistentSampler(path, kernel, ladder, moves, batch_size=batch_size)
    else:
        kind = AdaptiveSampler if ladder.adaptive else SMCSampler
        shared = path, kernel, ladder, moves, length
        sampler = kind(*shared, only_resampled=not path.continuous, batch_size=batch_size)
    return Plan(sampler, int(n_particles) // length, ess_threshold)


def _moves(moves: Any, usual: int) -> Any:
    if moves is None:
        return usual
    if isinstance(moves, str) and moves == "auto":
        return Until()
    if isinstance(moves, Until):
        return moves
    if isinstance(moves, bool) or not isinstance(moves, int | np.integer) or moves < 1:
        raise InvalidArgument("moves", moves, "an integer >= 1, 'auto' or Until(...)")
    return int(moves)


def _length(waste_free: Any, n: int, moves: Any, persistent: bool) -> int:
    if waste_free is None:
        return 1
    whole = isinstance(waste_free, int | np.integer) and not isinstance(waste_free, bool)
    if not whole or waste_free < 2 or n % waste_free:
        allowed = f"the length of a chain, an integer >= 2 that divides n_particles={n}"
        raise InvalidArgument("waste_free", waste_free, allowed)
    if isinstance(moves, Until):
        raise InvalidArgument(
            "moves", moves, "an integer with waste_free: moves between its points"
        )
    if persistent:
        raise InvalidArgument("persistent", True, "False with waste_free")
    return int(waste_free)
