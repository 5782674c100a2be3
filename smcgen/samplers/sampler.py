"""The sampler as a Feynman-Kac model: standard, and waste-free."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from smcgen.core import weights
from smcgen.core._types import LogG, Mask, PyTree, RandomKey
from smcgen.core.feynman_kac import FeynmanKac
from smcgen.samplers.base import Kernel, Path, Point, Target
from smcgen.samplers.kernels.tuning import static
from smcgen.samplers.ladders import Ladder
from smcgen.samplers.moves import Walked, chains, over, pick, walk
from smcgen.samplers.trace import Trace
from smcgen.samplers.variance import chain_variance


class Population(NamedTuple):
    """The state: particles, each a chain of `length` points, and what all of them share.

    Attributes:
        points: evaluated points, leaves (n, length, ...).
        log_inner: log weights of the points of a chain, not normalised, (n, length).
        log_weights: of the particles since they were last resampled, not normalised, (n,).
        resampled: whether they were since the last step.
        at: position whose target the weighted particles are from, under which the next step moves.
        tuning: the kernel's parameters for that.
        over: whether the particles have been moved at the end of the path.
        trace: what happened so far.
    """

    points: Point
    log_inner: Any
    log_weights: Any
    resampled: Any
    at: Any
    tuning: PyTree
    over: Any
    trace: Trace


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SMCSampler(FeynmanKac):
    """Particles that move along a path of targets.

    Time 0 draws from the first target and weights by `gamma_{a_1} / gamma_{a_0}`. Step t moves by the kernel
    under `a_t` and weights by `gamma_{a_{t+1}} / gamma_{a_t}`; the last step moves at the end of the path, where
    the weight is 1. `particles` of a result are the whole `Population`; `smcgen.samplers.sample` unpacks it.

    With `length` P > 1 this is waste-free SMC (Dau and Chopin 2022): a particle is a chain of P points, all of which
    count, `G` is the mean of their ratios, and the next chain begins at one of them, drawn by its ratio. Resampling
    chains by `G` and then a point by its ratio selects a point with probability proportional to its ratio, so
    M = n chains are waste-free SMC with N = M P points, and E[Z-hat] = Z by the same theorem.

    Args:
        path: the targets.
        kernel: moves particles.
        ladder: chooses positions of the path.
        moves: kernel steps between two targets (between two points of a chain if `length` > 1), or `Until`.
        length: P, points of a chain; 1 is the standard sampler.
        fixed: parameters of the kernel at times 0..T, leading axis T + 1 (a trace's `tuning`), instead of tuning.
        only_resampled: move after a resampling only, as in IBIS (Chopin 2002).
        keep_tuning: remember the kernel's parameters of every step in the trace.
        batch_size: evaluate so many particles at a time.
    """

    path: Path
    kernel: Kernel
    ladder: Ladder
    moves: Any
    length: int = static(1)
    fixed: Any = None
    only_resampled: bool = static(False)
    keep_tuning: bool = static(False)
    batch_size: int | None = static(None)

    @property
    def num_steps(self) -> int:
        """T, as many as the ladder has positions at most."""
        return self.ladder.max_steps

    def init(self, key: RandomKey, n: int) -> tuple[Population, LogG]:
        """Draws from the first target, weighted towards the second."""
        draw_key, evaluate_key, advance_key = jax.random.split(key, 3)
        count = n * self.length
        start = self.path.start
        x = jax.vmap(self.path.sample)(jax.random.split(draw_key, count))
        self.kernel.check(self.path, jax.tree.map(lambda a: a[0], x))
        evaluate = lambda key, x: self.path.evaluate(key, x, start)
        points = over(evaluate, self.batch_size)(jax.random.split(evaluate_key, count), x)
        points = jax.tree.map(lambda a: a.reshape(n, self.length, *a.shape[1:]), points)
        at = jnp.asarray(start, jnp.result_type(float) if self.path.continuous else jnp.int32)
        zero = jnp.zeros(())
        walked = Walked(points, zero * jnp.nan, jnp.int32(0), zero + count)
        return self._weight(advance_key, 0, walked, jnp.zeros(n), at, None, None)

    def step(self, key: RandomKey, t: Any, state: Population) -> tuple[Population, LogG]:
        """Move under the present target, weight towards the next."""
        pick_key, move_key, advance_key = jax.random.split(key, 3)
        at = self.ladder.at(t, state.at)
        tuning = state.tuning if self.fixed is None else jax.tree.map(lambda a: a[t], self.fixed)
        target = Target(self.path, at)

        def move() -> Walked:
            shared = self.kernel, target, self._pick(pick_key, state), tuning
            if self.length > 1:
                return chains(move_key, *shared, self.length, self.moves, self.batch_size)
            moves = self.moves[t] if isinstance(self.moves, jax.Array) else self.moves
            walked = walk(move_key, *shared, moves, self.batch_size)
            return walked._replace(points=jax.tree.map(lambda a: a[:, None], walked.points))

        if self.only_resampled:
            zero = jnp.zeros(())
            stay = lambda: Walked(state.points, zero * jnp.nan, jnp.int32(0), zero)
            walked = jax.lax.cond(state.resampled, move, stay)
        else:
            walked = move()
        return self._weight(advance_key, t, walked, state.log_weights, at, tuning, state.trace)

    def take(self, state: Population, ancestors: Any) -> Population:
        """Chains are resampled; their weights are even from here on."""
        chosen = lambda a: a[ancestors]
        return state._replace(
            points=jax.tree.map(chosen, state.points),
            log_inner=chosen(state.log_inner),
            log_weights=jnp.zeros_like(state.log_weights),
            resampled=jnp.ones_like(state.resampled),
        )

    def record(self, state: Population) -> Point:
        """Evaluated points; of waste-free SMC with a second axis for the points of a chain."""
        return state.points if self.length > 1 else first_of_chain(state.points)

    def describe(self, state: Population, problem: int, particle: int) -> str:
        """x and its densities."""
        point = jax.tree.map(lambda a: a[particle], state.points)
        x, prior, likelihood = (
            jax.tree.map(lambda a: a.squeeze(0).tolist() if self.length == 1 else a.tolist(), part)
            for part in (point.x, point.log_prior, point.log_likelihood)
        )
        return f"x = {x}, log prior {prior}, log likelihood {likelihood}"

    def _pick(self, key: RandomKey, state: Population) -> Point:
        """A point of each chain, by its weight there."""
        if self.length == 1:
            return first_of_chain(state.points)
        chosen = pick(key, state.log_inner)
        rows = jnp.arange(chosen.shape[0])
        return jax.tree.map(lambda a: a[rows, chosen], state.points)

    def _weight(
        self,
        key: RandomKey,
        t: Any,
        walked: Walked,
        log_weights: Any,
        at: Any,
        tuning: PyTree,
        trace: Trace | None,
    ) -> tuple[Population, LogG]:
        """Choose the next position, weight towards it, tune for it, and write down what happened."""
        n = log_weights.shape[0]
        flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), walked.points)
        flat_weights = jnp.repeat(log_weights, self.length)
        ratio = jax.vmap(self.path.log_ratio, (0, None, None))
        end = jnp.asarray(self.path.end, at.dtype)
        to = self.ladder.next(t, at, end, lambda to: ratio(flat, at, to), flat_weights)
        advance = over(lambda key, point: self.path.advance(key, point, at, to), self.batch_size)
        flat, log_g = advance(jax.random.split(key, n * self.length), flat)
        grid = log_g.reshape(n, self.length)
        group = grid[:, 0] if self.length == 1 else _log_mean(grid)
        new_weights = flat_weights + log_g
        new_tuning = ()
        if self.fixed is None:
            new_tuning = self.kernel.tune(tuning, flat.x, new_weights, walked.acceptance)
        variance = chain_variance(grid, independent=trace is None) if self.length > 1 else jnp.nan
        now = Trace(
            at,
            weights.ess(new_weights),
            walked.acceptance,
            walked.moves,
            walked.evaluations,
            jnp.asarray(variance, log_g.dtype),
            (new_tuning if tuning is None else tuning) if self.keep_tuning else (),
        )
        trace = Trace.begin(now, self.num_steps) if trace is None else trace.write(t, now)
        points = jax.tree.map(lambda a: a.reshape(n, self.length, *a.shape[1:]), flat)
        population = Population(
            points,
            grid,
            log_weights + group,
            jnp.zeros((), bool),
            to,
            new_tuning,
            jnp.asarray(at == end),
            trace,
        )
        return population, group


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AdaptiveSampler(SMCSampler):
    """A sampler that ends when its ladder has reached the end of the path."""

    def done(self, state: Population) -> Mask | bool:
        """Whether the particles have been moved at the end of the path."""
        return state.over


def first_of_chain(points: Point) -> Point:
    """Points (n, 1, ...) as (n, ...)."""
    return jax.tree.map(lambda a: a[:, 0], points)


def _log_mean(log_g: Any) -> Any:
    return jax.nn.logsumexp(log_g, axis=-1) - jnp.log(log_g.shape[-1])
