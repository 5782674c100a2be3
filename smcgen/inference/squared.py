"""SMC²: a sampler of parameters whose every particle carries a particle filter.

Targets are the posteriors given the first s observations. A weighting moves each filter one observation on; after a
resampling the parameters move by PMMH (Chopin, Jacob and Papaspiliopoulos 2013). As observations come in, the
filters' estimates get worse and PMMH accepts less: then the filters get more particles, by the exchange step of
their section 3.6.1: new filters for the same parameters, and weights times `p-hat_new / p-hat_old`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from smcgen.core._types import LogG, PyTree, RandomKey
from smcgen.core.arguments import check_counts, settings_of
from smcgen.core.compile import jitted
from smcgen.core.feynman_kac import FeynmanKac
from smcgen.core.resampling import Scheme
from smcgen.core.result import SMCResult
from smcgen.core.smc import smc
from smcgen.errors import InvalidArgument
from smcgen.inference.estimated import FilterPath, proposing
from smcgen.inference.parameters import Parameters, parameters
from smcgen.samplers.base import Kernel, Point, Target
from smcgen.samplers.moves import walk


class State(NamedTuple):
    """Parameters with their filters, and how the run went."""

    points: Point
    path: FilterPath  # with the present number of particles
    tuning: PyTree
    moved: bool  # whether they were resampled, and so must move
    log_weights: Any  # since the last resampling
    n_particles: tuple[int, ...]  # of the filters, at each time so far
    acceptance: tuple[float, ...]  # NaN where nothing moved


class SMC2(FeynmanKac[State]):
    """The sampler as a Feynman-Kac model. Python drives it, because filters may grow; its steps are jitted.

    Time s weights by observation s. See `smc2` for the arguments.
    """

    traceable = False

    def __init__(self, path: FilterPath, kernel: Kernel, moves: int, grow_below: float, most: int):
        self._path, self._kernel, self._moves = path, kernel, moves
        self._grow_below, self._most = grow_below, most
        self.num_steps = path.end - 1

    def init(self, key: Any, n: int) -> tuple[State, LogG]:
        points, log_g = jitted(_begin, self._path, static=(1,))(key, n)
        settings = self._path.settings
        state = State(points, self._path, None, False, log_g, (settings.n,), (np.nan,))
        return state, log_g

    def step(self, key: Any, t: Any, state: State) -> tuple[State, LogG]:
        move_key, grow_key, advance_key = jax.random.split(key, 3)
        path, points, tuning, acceptance = state.path, state.points, state.tuning, np.nan
        log_weights, exchange = state.log_weights, 0.0
        if state.moved:
            move = jitted(_move, path, static=(5,))
            points, tuning, accepted = move(move_key, self._kernel, points, tuning, t, self._moves)
            acceptance = float(accepted)
            if acceptance < self._grow_below and 2 * path.settings.n <= self._most:
                path = path.growing(2)
                points, exchange = jitted(_exchange, path)(grow_key, points, t)
        points, log_g = jitted(_advance, path)(advance_key, points, t)
        log_g = log_g + exchange
        return State(
            points,
            path,
            tuning,
            False,
            log_weights + log_g,
            (*state.n_particles, path.settings.n),
            (*state.acceptance, acceptance),
        ), log_g

    def take(self, state: State, ancestors: Any) -> State:
        """Parameters with their filters; the kernel is tuned to the weighted population that is resampled."""
        tuned = self._kernel.tune(
            state.tuning, state.points.x, state.log_weights, _latest(state.acceptance)
        )
        points = jax.tree.map(lambda x: x[jnp.asarray(ancestors)], state.points)
        flat = jnp.zeros_like(state.log_weights)
        return state._replace(points=points, tuning=tuned, moved=True, log_weights=flat)

    def record(self, state: State) -> PyTree:
        """Parameters, under their constraints."""
        return jax.vmap(self._path.parameters.constrained)(state.points.x)

    def particles(self, state: State) -> State:
        """The whole state."""
        return state


def _latest(acceptance: tuple[float, ...]) -> float:
    seen = [a for a in acceptance if not np.isnan(a)]
    return seen[-1] if seen else float("nan")


def _begin(path: FilterPath, key: Any, n: int) -> tuple[Point, Any]:
    draw, evaluate, advance = jax.random.split(key, 3)
    x = jax.vmap(path.sample)(jax.random.split(draw, n))
    points = jax.vmap(lambda k, x: path.evaluate(k, x, jnp.int32(0)))(
        jax.random.split(evaluate, n), x
    )
    return _advance(path, advance, points, jnp.int32(0))


def _advance(path: FilterPath, key: Any, points: Point, t: Any) -> tuple[Point, Any]:
    """From t observations to t + 1."""
    t = jnp.asarray(t, jnp.int32)
    keys = jax.random.split(key, points.log_likelihood.shape[0])
    return jax.vmap(lambda k, p: path.advance(k, p, t, t + 1))(keys, points)


def _move(
    path: FilterPath, key: Any, kernel: Kernel, points: Point, tuning: Any, t: Any, moves: int
) -> tuple[Point, Any, Any]:
    walked = walk(key, kernel, Target(path, jnp.asarray(t, jnp.int32)), points, tuning, moves)
    return walked.points, tuning, walked.acceptance


def _exchange(path: FilterPath, key: Any, points: Point, t: Any) -> tuple[Point, Any]:
    """New filters, and the log of the ratio of their likelihoods to the old ones'."""
    t = jnp.asarray(t, jnp.int32)
    keys = jax.random.split(key, points.log_likelihood.shape[0])
    new = jax.vmap(lambda k, p: path.evaluate(k, p.x, t))(keys, points)
    return new, new.log_likelihood - points.log_likelihood


@dataclass(frozen=True, repr=False)
class SMC2Result:
    """Weighted draws from the posterior of parameters.

    Attributes:
        samples: by name, shape (n, ...).
        log_weights: normalised, shape (n,).
        log_evidence: estimate of `log p(y_{0:T})`, parameters integrated out.
        predictive: its terms, `log p(y_t | y_{0:t-1})`, shape (T + 1,).
        ess: of the parameters after each observation, (T + 1,).
        n_particles: of the filters at each time, (T + 1,).
        acceptance: of the moves, NaN where there were none, (T + 1,).
        run: the `SMCResult` behind it.
    """

    samples: dict[str, Any]
    log_weights: Any
    log_evidence: Any
    predictive: Any
    ess: Any
    n_particles: np.ndarray
    acceptance: np.ndarray
    run: SMCResult

    def mean(self) -> dict[str, np.ndarray]:
        """Posterior means."""
        w = np.exp(np.asarray(self.log_weights, np.float64))
        return {k: np.tensordot(w / w.sum(), np.asarray(v), 1) for k, v in self.samples.items()}

    def __repr__(self) -> str:
        means = {k: v.round(4).tolist() for k, v in self.mean().items()}
        grown = f"{self.n_particles[0]} to {self.n_particles[-1]} particles each"
        return f"SMC2Result(log_evidence={float(self.log_evidence):.4g}, means {means}, filters of {grown})"


def smc2(
    build: Callable[[dict[str, Any]], Any],
    prior: Mapping[str, Any] | Parameters,
    key: RandomKey | int,
    n_parameters: int = 500,
    n_particles: int = 64,
    *,
    moves: int = 5,
    kernel: str | Kernel | None = None,
    grow_below: float = 0.15,
    max_particles: int = 4096,
    resampling: str | Scheme = "systematic",
    ess_threshold: float = 0.5,
    filter_ess_threshold: float = 0.5,
    on_error: Literal["raise", "return"] = "raise",
    progress: bool = False,
) -> SMC2Result:
    """Sample the posteriors of a model's parameters as observations come in, and estimate the evidence.

    With a kernel that is fixed (`covariance=...`, `acceptance=None`) and `grow_below=0`, E[Z-hat] = Z at any number of
    parameters and particles; tuned kernels and growing filters make that hold as n grows.

    Args:
        build: of parameters (a dictionary), a traceable model of one problem.
        prior: a NumPyro distribution for each parameter.
        key: a JAX key or a seed.
        n_parameters: particles of the sampler.
        n_particles: particles of each filter at first.
        moves: PMMH steps after a resampling.
        kernel: proposes: "random_walk" (the default, tuned from the particles) or a `smcgen.samplers.Kernel` that uses
            no gradients.
        grow_below: acceptance below which the filters get twice the particles; 0: never.
        max_particles: most particles of a filter.
        resampling, ess_threshold: of the parameters. filter_ess_threshold: of the filters.
        on_error: see `smcgen.smc`; the status is in `run`.
        progress: show a progress bar.

    Returns:
        An `SMC2Result`.

    Raises:
        InvalidArgument, ModelError: an argument is not allowed.
        SMCError: no parameters are possible.
    """
    check_counts(n_parameters=n_parameters, moves=moves)
    if not 0 <= grow_below < 1:
        raise InvalidArgument("grow_below", grow_below, "a number in [0, 1)")
    filters = settings_of(n_particles, resampling, filter_ess_threshold, "summary")
    path = FilterPath(parameters(prior), build, filters)
    model = SMC2(path, proposing(kernel, path), moves, grow_below, max_particles)
    options = {"resampling": resampling, "ess_threshold": ess_threshold}
    run = smc(
        model, key, n_parameters, keep="summary", on_error=on_error, progress=progress, **options
    )
    state = run.particles
    return SMC2Result(
        jax.vmap(path.parameters.constrained)(state.points.x),
        run.log_weights,
        run.log_evidence,
        run.log_evidence_increments,
        run.ess,
        np.array(state.n_particles),
        np.array(state.acceptance),
        run,
    )
