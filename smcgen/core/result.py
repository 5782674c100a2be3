"""What a run returns."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.cost import Cost
from smcgen.core.genealogy import along, lineage_of
from smcgen.core.keys import keys_of
from smcgen.core.resampling.fixed import double_uniforms
from smcgen.core.resampling.multinomial import draw, scaled_weights
from smcgen.core.status import Status
from smcgen.errors import InvalidArgument


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class SMCResult:
    """A weighted population and how it came about. `*p` is `problems` if the model has several.

    Attributes:
        log_evidence: log Z-hat, shape (*p); `exp` of it is unbiased for Z.
        particles: the final population, as the model shows it.
        log_weights: shape (*p, n), normalised.
        ess: effective sample size after weighting at t = 0..T, shape (T + 1, *p).
        log_evidence_increments: its terms, shape (T + 1, *p).
        resampled: whether step t = 1..T began with a resampling, shape (T, *p).
        same_parent: how probable it was then that two particles drawn by weight had the same parent, shape (T, *p).
        ancestors: of step t = 1..T, shape (T, *p, n); None with `keep="summary"`, or if there are none.
        founders: index at time 0 of each final particle's ancestor, shape (*p, n).
        history: the model's records at t = 0..T, stacked (a list of them for a model that is not
            traceable); None unless `keep="particles"`.
        status, status_step, status_particle: a `Status` per problem; where and by which particle.
        cost: counted work; None inside a JAX transformation.
        history_log_weights: log-weights at t = 0..T, shape (T + 1, *p, n); None unless `keep="particles"`.
    """

    log_evidence: Any
    particles: PyTree
    log_weights: Any
    ess: Any
    log_evidence_increments: Any
    resampled: Any
    same_parent: Any
    ancestors: Any
    founders: Any
    history: PyTree
    status: Any
    status_step: Any
    status_particle: Any
    cost: Cost | None = None
    history_log_weights: Any = None

    @property
    def n_particles(self) -> int:
        """Particles per problem."""
        return self.log_weights.shape[-1]

    @property
    def num_steps(self) -> int:
        """Steps that were run."""
        return self.ess.shape[0] - 1

    @property
    def weights(self) -> Float[Array, "*p n"]:
        """Normalised weights."""
        return jnp.exp(self.log_weights)

    @property
    def ok(self) -> bool:
        """Whether every problem ended with `Status.OK`."""
        return bool(np.all(np.asarray(self.status) == Status.OK))

    def expectation(self, fn: Callable[[PyTree], PyTree] = lambda x: x) -> PyTree:
        """Self-normalised estimate of `E_pi[fn(x)]`, shape (*p, ...).

        `fn` maps the population to arrays of shape (*p, n, ...): one value for each particle. With problems
        they may also have one row for each particle of all problems, shape (problems * n, ...), as texts do.

        Raises:
            InvalidArgument: `fn` returns something else.
        """
        w = self.weights

        def mean(values: Any) -> Array:
            values = _per_particle(values, w.shape)
            spread = w.reshape(w.shape + (1,) * (values.ndim - w.ndim))
            # weight zero removes a particle, whatever its value is
            return jnp.sum(jnp.where(spread > 0, spread * values, 0.0), axis=w.ndim - 1)

        return jax.tree.map(mean, fn(self.particles))

    def sample(self, key: RandomKey | int, num: int = 1) -> Int[Array, "*p num"]:
        """Indices of particles drawn independently by weight."""
        if num < 1:
            raise InvalidArgument("num", num, "an integer >= 1")
        key = keys_of(key, None)
        flat = jnp.asarray(self.log_weights).reshape(-1, self.n_particles)

        def one(key: RandomKey, log_weights: Array) -> Array:
            # by inversion in double precision: float32 Gumbels tie, and favour the first of a million
            uniforms = double_uniforms(key, (num,))
            with jax.enable_x64(True):
                return draw(uniforms, scaled_weights(log_weights))

        drawn = jax.vmap(one)(jax.random.split(key, len(flat)), flat)
        return drawn.reshape(*self.log_weights.shape[:-1], num)

    def ancestry(self) -> Int[Array, "times *p n"]:
        """Index at each time 0..T of each final particle's ancestor."""
        if self.ancestors is None:
            allowed = "'ancestors' or 'particles', and a resampling that draws ancestors"
            raise InvalidArgument("keep", "summary", allowed)
        final = jnp.broadcast_to(
            jnp.arange(self.n_particles, dtype=jnp.int32), self.log_weights.shape
        )
        return lineage_of(final, jnp.asarray(self.ancestors))

    def trajectories(self) -> PyTree:
        """Paths `x_{0:T}` of the final particles, time leading; needs `keep="particles"`.

        Records whose shape changes with time, as those of texts do, come as a list over time.
        """
        if self.history is None:
            raise InvalidArgument("keep", "ancestors", "'particles' to have trajectories")
        paths = along(self.history, self.ancestry(), self.log_weights.shape)
        if not isinstance(paths, list):
            return paths
        if len({tuple(map(np.shape, jax.tree.leaves(x))) for x in paths}) > 1:
            return paths
        return jax.tree.map(lambda *x: np.stack(x), *paths)

    def path(self, particle: Any) -> PyTree:
        """The path `x_{0:T}` of one final particle (of one in each problem): a reference for conditional SMC.

        Args:
            particle: an index, or one for each problem; `sample` draws them by weight.

        Returns:
            Records with time leading, or a list of them over time for a model that is not traceable.
        """
        if self.history is None or self.ancestors is None:
            allowed = "'particles' to have paths, and a resampling that draws ancestors"
            raise InvalidArgument("keep", "ancestors", allowed)
        shape = self.log_weights.shape[:-1]
        last = jnp.broadcast_to(jnp.asarray(particle, jnp.int32).squeeze(), shape)
        return along(
            self.history, lineage_of(last, jnp.asarray(self.ancestors)), self.log_weights.shape
        )

    @property
    def unique_founders(self) -> Int[np.ndarray, "*p"]:
        """How many particles of time 0 have descendants at the end."""
        founders = np.sort(np.asarray(self.founders), axis=-1)
        return np.asarray(1 + (np.diff(founders, axis=-1) > 0).sum(-1))

    @property
    def log_evidence_stderr(self) -> Float[np.ndarray, "*p"]:
        """Standard error of `log_evidence` from this one run's genealogy.

            V = 1 - n / (n - 1) prod_t (1 - sum_a W_a^2) / (1 - S_t) (1 - sum_e W_e^2)

        estimates the relative variance of Z-hat: W_e is the weight of founder e's descendants, the product is over the
        resamplings, W_a are the weights before and S_t, `same_parent`, is how probable two particles are to have
        the same parent after. Each factor makes up for pairs of different particles that a resampling has lost.

        For multinomial resampling it is n / (n - 1), the estimator is Lee and Whiteley's (2018), and `Z-hat^2 V` is
        unbiased for the variance at fixed times. The other schemes lose fewer pairs, and those that they did lose are
        counted. That takes all pairs for equal, and siblings lie side by side: where a run resamples at half the
        ESS the mean of V was within 3 % of the variance for every scheme; with resampling at every step it was
        .7 to .9 of it (stratified: .4). NaN where the genealogy says nothing: one founder is left, or V < 0; run
        more particles then, or several runs.
        """
        variance = self._relative_variance()
        known = (variance >= 0) & (self.unique_founders > (self.n_particles > 1))
        return np.asarray(np.sqrt(np.where(known, variance, np.nan)))

    def _relative_variance(self) -> Float[np.ndarray, "*p"]:
        n = self.n_particles
        log_weights = np.asarray(self.log_weights, np.float64)
        if n == 1:  # no pair was ever there to be lost
            return np.ones(log_weights.shape[:-1])
        weights = np.exp(log_weights - log_weights.max(-1, keepdims=True))
        # in float32 they sum to 1 up to 1e-7, which (n / (n - 1))^r makes large
        weights, founders = weights / weights.sum(-1, keepdims=True), np.asarray(self.founders)
        flat_w, flat_e = weights.reshape(-1, n), founders.reshape(-1, n)
        mass = np.stack([np.bincount(e, w, n) for e, w in zip(flat_e, flat_w, strict=True)])
        same = (mass**2).sum(-1).reshape(weights.shape[:-1])
        before = 1 / np.maximum(np.asarray(self.ess, np.float64)[:-1], 1)
        after = np.asarray(self.same_parent, np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):  # all children of one: NaN
            lost = np.where(self.resampled, np.log1p(-before) - np.log1p(-after), 0.0).sum(0)
            return np.asarray(1 - n / (n - 1) * np.exp(lost) * (1 - same))

    def replace(self, **changes: Any) -> "SMCResult":
        """A copy with some fields changed."""
        return replace(self, **changes)

    def __repr__(self) -> str:
        if any(isinstance(x, Tracer) for x in jax.tree.leaves((self.log_evidence, self.ess))):
            return f"SMCResult(traced, n_particles={self.n_particles}, num_steps={self.num_steps})"
        shown = {
            "log_evidence": _brief(self.log_evidence),
            "stderr": _brief(self.log_evidence_stderr)
            if np.ndim(self.log_evidence) <= 1
            else "...",
            "n_particles": self.n_particles,
            "num_steps": self.num_steps,
            "ess": _brief(self.ess[-1]),
            "resampled": f"{int(np.sum(self.resampled))} times",
            "unique_founders": _brief(self.unique_founders),
            "status": ", ".join(sorted({Status(int(s)).name for s in np.ravel(self.status)})),
            "cost": self.cost,
        }
        return "SMCResult(" + ", ".join(f"{k}={v}" for k, v in shown.items() if v is not None) + ")"

    def plot(self, **options: Any) -> Any:
        """Figure of ESS, evidence and genealogy (extra `plot`)."""
        from smcgen.diagnostics.plots import plot_result

        return plot_result(self, **options)

    def to_arviz(self, **options: Any) -> Any:
        """ArviZ `InferenceData` of the particles, resampled to equal weights (extra `plot`)."""
        from smcgen.diagnostics.arviz import to_inference_data

        return to_inference_data(self, **options)


def _per_particle(values: Any, shape: tuple[int, ...]) -> Array:
    """What a function of the population returned, particle axes as those of the weights."""
    try:
        values = jnp.asarray(values)
    except (TypeError, ValueError):
        values, found = None, type(values).__name__
    else:
        found = f"an array of shape {values.shape}"
        if values.shape[: len(shape)] == shape:
            return values
        if values.shape[:1] == (math.prod(shape),):  # row = problem * n + particle
            return values.reshape(*shape, *values.shape[1:])
    flat = f" or ({math.prod(shape)}, ...)" if len(shape) > 1 else ""
    rows = f"({', '.join(map(str, shape))}, ...)"
    raise InvalidArgument("fn", found, f"a function to arrays of shape {rows}{flat}: by particle")


def _brief(x: Any) -> str:
    values = np.asarray(x, np.float64)
    if values.ndim == 0:
        return f"{float(values):.4g}"
    shown = ", ".join(f"{v:.4g}" for v in values.ravel()[:4])
    return f"[{shown}{', ...' if values.size > 4 else ''}]"
