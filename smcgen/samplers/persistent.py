"""Persistent sampling: no population is thrown away."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from smcgen.core import weights
from smcgen.core._types import LogG, Mask, PyTree, RandomKey
from smcgen.core.feynman_kac import FeynmanKac
from smcgen.samplers.base import Kernel, Path, Point, Target, power
from smcgen.samplers.kernels.tuning import static
from smcgen.samplers.ladders import Ladder
from smcgen.samplers.moves import Walked, over, pick, walk
from smcgen.samplers.trace import Trace


class Library(NamedTuple):
    """The state: all populations so far. Particle i is column i, the points that were ever in its slot.

    Attributes:
        points: leaves (T + 1, n, ...), row s drawn at time s; rows to come are empty.
        log_mixture: `log sum_s L(x)^{a_s} / Z-hat_s` over the targets s sampled from so far, (T + 1, n).
        log_w: log weights of all points for the next target, -inf in empty rows, (T + 1, n).
        log_z: `log Z-hat_s` by time, (T + 1,); `log_z_next` that of the next target.
        chosen: column from which each slot's next point is taken, (n,).
        at, tuning, over, trace: as in `Population`.
    """

    points: Point
    log_mixture: Any
    log_w: Any
    log_z: Any
    log_z_next: Any
    chosen: Any
    at: Any
    tuning: PyTree
    over: Any
    trace: Trace


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PersistentSampler(FeynmanKac):
    """Persistent sampling along a tempering path (Karamanis and Seljak 2025).

    The points of times 0..t are a sample of the mixture of their targets, so for any target a

        w(x) = L(x)^a / [ (t + 1)^-1 sum_{s <= t} L(x)^{a_s} / Z-hat_s ],   Z-hat_a = mean of w over (t + 1) n points.

    Step t draws n of all points by weight, moves them under `a_t`, and adds them. To the SMC body a particle is a
    column of points: the body draws a column by the sum of its weights, this model a point in it by its
    weight, which together draw a point by its weight. `take` moves nothing: it remembers what was drawn.

    The weights contain estimates, so Z-hat is consistent and not unbiased; the genealogy of columns is none of points.
    Resample at every step: `ess_threshold=1`. `particles` of a result are the whole `Library`.

    Args:
        path: a continuous path.
        kernel, ladder, moves, fixed, keep_tuning, batch_size: as for `SMCSampler`. An adaptive ladder keeps a share k
            of the ESS of *all* points, which tends to n k / (1 - k).
    """

    path: Path
    kernel: Kernel
    ladder: Ladder
    moves: Any
    fixed: Any = None
    keep_tuning: bool = static(False)
    batch_size: int | None = static(None)

    @property
    def num_steps(self) -> int:
        """T, as many as the ladder has positions at most."""
        return self.ladder.max_steps

    def init(self, key: RandomKey, n: int) -> tuple[Library, LogG]:
        """Draws from the first target, weighted towards the second."""
        draw_key, evaluate_key = jax.random.split(key)
        at = jnp.asarray(self.path.start, jnp.result_type(float))
        x = jax.vmap(self.path.sample)(jax.random.split(draw_key, n))
        self.kernel.check(self.path, jax.tree.map(lambda a: a[0], x))
        evaluate = lambda key, x: self.path.evaluate(key, x, at)
        points = over(evaluate, self.batch_size)(jax.random.split(evaluate_key, n), x)
        rows = self.num_steps + 1
        room = lambda a: jnp.zeros((rows, *a.shape), a.dtype).at[0].set(a)
        first = power(points.log_likelihood, at)
        empty = Library(
            jax.tree.map(room, points),
            jnp.zeros((rows, n), first.dtype),
            jnp.full((rows, n), -jnp.inf, first.dtype),
            jnp.zeros(rows, first.dtype),
            jnp.zeros((), first.dtype),
            jnp.arange(n, dtype=jnp.int32),
            at,
            (),
            jnp.zeros((), bool),
            (),  # pyright: ignore[reportArgumentType]
        )
        zero = jnp.zeros(())
        walked = Walked(points, zero * jnp.nan, jnp.int32(0), zero + n)
        return self._weight(0, walked, empty, at, None, None)

    def step(self, key: RandomKey, t: Any, state: Library) -> tuple[Library, LogG]:
        """Move n of all points under the present target, add them, and weight all towards the next."""
        pick_key, move_key = jax.random.split(key)
        at = self.ladder.at(t, state.at)
        tuning = state.tuning if self.fixed is None else jax.tree.map(lambda a: a[t], self.fixed)
        columns = state.log_w[:, state.chosen]
        rows = pick(pick_key, columns.T)
        start = jax.tree.map(lambda a: a[rows, state.chosen], state.points)
        moves = self.moves[t] if isinstance(self.moves, jax.Array) else self.moves
        target = Target(self.path, at)
        walked = walk(move_key, self.kernel, target, start, tuning, moves, self.batch_size)
        write = lambda all, new: all.at[t].set(new)
        state = state._replace(
            points=jax.tree.map(write, state.points, walked.points),
            log_z=state.log_z.at[t].set(state.log_z_next),
        )
        return self._weight(t, walked, state, at, tuning, state.trace)

    def take(self, state: Library, ancestors: Any) -> Library:
        """Remember which columns were drawn."""
        return state._replace(chosen=ancestors)

    def done(self, state: Library) -> Mask | bool:
        """Whether points have been moved at the end of the path."""
        return state.over

    def record(self, state: Library) -> Point:
        """The points of the last step."""
        last = jnp.sum(jnp.isfinite(state.trace.at)) - 1
        return jax.tree.map(lambda a: a[last], state.points)

    def describe(self, state: Library, problem: int, particle: int) -> str:
        """The last point of a column."""
        x = jax.tree.map(lambda a: a[particle].tolist(), self.record(state))
        return f"x = {x.x}, log prior {x.log_prior}, log likelihood {x.log_likelihood}"

    def _weight(
        self, t: Any, walked: Walked, state: Library, at: Any, tuning: PyTree, trace: Any
    ) -> tuple[Library, LogG]:
        n = state.log_w.shape[1]
        filled = (jnp.arange(self.num_steps + 1) <= t)[:, None]
        log_l = state.points.log_likelihood
        mixture = self._mixture(t, state, at, trace)
        log_w_at = jnp.where(filled, power(log_l, at) - mixture, -jnp.inf)
        end = jnp.asarray(self.path.end, at.dtype)
        ratio = lambda to: power(log_l, to - at).ravel()
        to = self.ladder.next(t, at, end, ratio, log_w_at.ravel())
        log_w = jnp.where(filled, power(log_l, to) - mixture, -jnp.inf)
        columns = jax.nn.logsumexp(log_w, axis=0)
        log_z = jax.nn.logsumexp(columns) - jnp.log(
            n
        )  # the mixture's (t + 1) and the mean's cancel
        flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), state.points.x)
        new_tuning = ()
        if self.fixed is None:
            new_tuning = self.kernel.tune(tuning, flat, log_w.ravel(), walked.acceptance)
        now = Trace(
            at,
            weights.ess(log_w.ravel()),
            walked.acceptance,
            walked.moves,
            walked.evaluations,
            jnp.full((), jnp.nan, log_w.dtype),
            (new_tuning if tuning is None else tuning) if self.keep_tuning else (),
        )
        return state._replace(
            log_mixture=mixture,
            log_w=log_w,
            log_z_next=log_z,
            at=to,
            tuning=new_tuning,
            over=jnp.asarray(at == end),
            trace=Trace.begin(now, self.num_steps) if trace is None else trace.write(t, now),
        ), columns - state.log_z_next

    def _mixture(self, t: Any, state: Library, at: Any, trace: Any) -> Any:
        """All points under one more component; the new row under all."""
        if trace is None:
            return state.log_mixture  # L^0 / 1
        log_l = state.points.log_likelihood
        with_new = jnp.logaddexp(state.log_mixture, power(log_l, at) - state.log_z_next)
        past = jnp.arange(self.num_steps + 1) <= t
        positions = trace.at.at[t].set(at)
        terms = jax.vmap(lambda a, z: power(log_l[t], a) - z)(positions, state.log_z)
        new_row = jax.nn.logsumexp(jnp.where(past[:, None], terms, -jnp.inf), axis=0)
        return with_new.at[t].set(new_row)
