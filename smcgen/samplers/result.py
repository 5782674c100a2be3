"""What `sample` returns: an `SMCResult` with a sampler's own diagnostics."""

from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from smcgen.core._types import PyTree
from smcgen.core.result import SMCResult
from smcgen.core.status import Status
from smcgen.samplers.persistent import Library
from smcgen.samplers.sampler import Population


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class SamplerResult(SMCResult):
    """Weighted points of the last target. `*p` is `runs` if there were several.

    `particles` is x, one row for each point: all points of waste-free chains, all populations of persistent sampling.

    Attributes:
        ladder: position of the target that the particles of time 0..T are from, before weighting, (T + 1, *p).
        acceptance: mean acceptance of the kernel at time 0..T, NaN where nothing moved.
        moves: how often the kernel was applied.
        evaluations: of the target, by all particles.
        log_prior, log_likelihood: of the points, (*p, n).
        stderr: of `log_evidence`, by the method's own estimator, (*p).
    """

    ladder: Any = None
    acceptance: Any = None
    moves: Any = None
    evaluations: Any = None
    log_prior: Any = None
    log_likelihood: Any = None
    stderr: Any = None

    @property
    def log_evidence_stderr(self) -> Float[np.ndarray, "*p"]:
        """Standard error of each run's `log_evidence`, from that run alone.

        Standard samplers: the larger of the root of `sum_t 1 / ESS_t - 1 / n` (t before a resampling), which takes it
        that moves forget, and of the genealogy's (Lee and Whiteley 2018), which sees where they do not. Waste-free:
        from the autocovariances of the chains (Dau and Chopin 2022). Persistent sampling has none: NaN; use several
        runs. A run that failed: NaN.
        """
        return np.asarray(self.stderr)

    def __repr__(self) -> str:
        log_evidence, stderr = self.pooled_log_evidence()
        log_weights = np.asarray(self.log_weights, np.float64)
        ess = np.mean(1 / np.sum(np.exp(2 * log_weights), -1))
        acceptance = np.asarray(self.acceptance)
        moved = acceptance[np.isfinite(acceptance)]
        runs = f", runs={np.size(self.log_evidence)}" if np.ndim(self.log_evidence) else ""
        status = ", ".join(sorted({Status(int(s)).name for s in np.ravel(self.status)}))
        return (
            f"SamplerResult(log_evidence={log_evidence:.4g} +- {stderr:.2g}{runs}, n_particles={self.n_particles}, "
            f"targets={self.num_steps}, ess={ess:.4g}, acceptance={moved.mean() if moved.size else np.nan:.2g}, "
            f"status={status}, cost={self.cost})"
        )

    def pooled_log_evidence(self) -> tuple[float, float]:
        """`log` of the mean of Z-hat over the runs, and its standard error from their spread (of one run, its own)."""
        log_z = np.atleast_1d(np.asarray(self.log_evidence, np.float64))
        if len(log_z) == 1:
            return float(log_z[0]), float(np.ravel(self.stderr)[0])
        top = log_z.max()
        relative = np.exp(log_z - top)
        error = relative.std(ddof=1) / np.sqrt(len(log_z)) / relative.mean()
        return float(top + np.log(relative.mean())), float(error)


def unpack(run: SMCResult) -> SamplerResult:
    """A run whose particles are a sampler's state, run axis leading if there is one, as a `SamplerResult`."""
    state, several = run.particles, np.ndim(run.log_evidence)
    trace = jax.tree.map(np.asarray, state.trace._replace(tuning=()))
    steps = int(np.max(np.sum(_told(trace.at), axis=-1))) - 1
    first = lambda a: np.moveaxis(np.asarray(a)[..., : steps + 1], -1, 0)
    own = {f.name: getattr(run, f.name) for f in fields(SMCResult)}
    if several:  # a mapped run has the run axis before time
        for name in ("ess", "log_evidence_increments", "resampled", "same_parent"):
            own[name] = jnp.moveaxis(own[name], 0, 1)
    own["log_evidence_increments"] = own["log_evidence_increments"][: steps + 1]
    for name in ("resampled", "same_parent"):
        own[name] = own[name][:steps]
    if isinstance(state, Library):
        grid, inner = state.points, state.log_w
        grid, inner = jax.tree.map(
            lambda a: jax.lax.slice_in_dim(a, 0, steps + 1, axis=several), (grid, inner)
        )
        log_weights, own["founders"] = inner, jnp.zeros_like(inner, jnp.int32)
        stderr = np.full(np.shape(run.log_evidence), np.nan)
    else:
        grid, inner = state.points, state.log_inner
        log_weights = run.log_weights[..., None] + jax.nn.log_softmax(inner)
        own["founders"] = jnp.broadcast_to(jnp.asarray(run.founders)[..., None], inner.shape)
        cut = {name: own[name] for name in ("resampled", "same_parent")}
        stderr = _stderr(run.replace(ess=own["ess"][: steps + 1], **cut), trace, inner.shape[-1])
    flat = lambda a: a.reshape(*a.shape[:several], -1, *a.shape[several + 2 :])
    points = jax.tree.map(flat, grid)
    plain = isinstance(state, Population) and inner.shape[-1] == 1
    own["ancestors"] = own["ancestors"][:steps] if plain and own["ancestors"] is not None else None
    if plain and several and own["ancestors"] is not None:
        own["ancestors"] = jnp.moveaxis(run.ancestors, 0, 1)[:steps]
    log_weights = flat(log_weights)
    return SamplerResult(
        **{
            **own,
            "particles": points.x,
            "log_weights": log_weights - jax.nn.logsumexp(log_weights, axis=-1, keepdims=True),
            "founders": flat(own["founders"]),
            "ess": first(trace.ess),
        },
        ladder=first(trace.at),
        acceptance=first(trace.acceptance),
        moves=first(trace.moves),
        evaluations=first(trace.evaluations),
        log_prior=points.log_prior,
        log_likelihood=points.log_likelihood,
        stderr=stderr,
    )


def _told(at: np.ndarray) -> np.ndarray:
    """Which entries of a trace were written: positions increase until then."""
    return np.isfinite(at) if at.dtype.kind == "f" else np.ones(at.shape, bool)


def _stderr(run: SMCResult, trace: PyTree, length: int) -> np.ndarray:
    if length > 1:
        error = np.sqrt(np.nansum(np.asarray(trace.variance), axis=-1))
    else:
        # where every step resamples by a scheme that copies little the genealogy's error is too small; it may be NaN
        error = np.fmax(run.log_evidence_stderr, _if_moves_forget(run, trace))
    return np.asarray(np.where(np.asarray(run.status) == Status.OK, error, np.nan))


def _if_moves_forget(run: SMCResult, trace: PyTree) -> np.ndarray:
    """`sum 1 / ESS - 1 / n` over the times before a resampling and the last one: each a mean of independent weights."""
    resampled = np.asarray(run.resampled)
    end = np.concatenate([resampled, np.ones_like(resampled[:1])])
    ess = np.moveaxis(np.asarray(trace.ess, np.float64), -1, 0)[: len(end)]
    ess = np.where(ess > 0, ess, np.nan)  # of a run that failed
    variance = np.maximum(1 / ess - 1 / run.n_particles, 0.0)
    return np.asarray(np.sqrt(np.sum(np.where(end, variance, 0.0), axis=0)))
