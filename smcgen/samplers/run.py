"""The one call for any path: a run, a pilot and its run, or many runs."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any, Literal

import jax
import numpy as np

from smcgen.core import compile as compiling
from smcgen.core._types import RandomKey
from smcgen.core.arguments import check_counts, keys_of
from smcgen.core.cost import Cost, Meter
from smcgen.core.failures import raise_if_failed
from smcgen.core.resampling import Resampling
from smcgen.core.result import SMCResult
from smcgen.core.smc import smc
from smcgen.core.status import SMCError, SMCInterrupted, Status
from smcgen.errors import InvalidArgument
from smcgen.samplers.base import Kernel, Path
from smcgen.samplers.ladders import Adaptive
from smcgen.samplers.plan import Plan, plan
from smcgen.samplers.result import SamplerResult, unpack


def sample(
    path: Path,
    key: RandomKey | int = 0,
    n_particles: int = 1000,
    *,
    kernel: str | Kernel | Callable | None = None,
    ladder: Any = None,
    moves: Any = None,
    waste_free: int | None = None,
    persistent: bool = False,
    unbiased: bool = False,
    n_runs: int = 1,
    resampling: str | Resampling = "systematic",
    ess_threshold: float | None = None,
    batch_size: int | None = None,
    keep: Literal["summary", "ancestors", "particles"] = "summary",
    on_error: Literal["raise", "return"] = "raise",
    progress: bool = False,
    callback: Callable | None = None,
    checkpoint: str | FilePath | None = None,
) -> SamplerResult:
    """Sample the last target of a path, and estimate its normalising constant.

    Args:
        path: targets: `Tempering`, `DataTempering`, `from_density(...)`, `numpyro_path(...)` or your own.
        key: a JAX key or a seed.
        n_particles: points; of waste-free SMC all points of all chains.
        kernel: "hmc", "mala", "nuts", "random_walk", a `Kernel`, or a function `move(key, x, at)`. Default: HMC
            where there are gradients, else a random walk.
        ladder: increasing positions that end where the path ends, "ess", "cess" or an `Adaptive`. Default: "ess",
            which keeps half of the ESS; of a sequence of targets, all of them.
        moves: kernel steps between two targets, `Until(correlation)`, or "auto" for `Until()`. Default: the kernel's.
        waste_free: chains of so many points, all of which count (Dau and Chopin 2022). It divides n_particles.
        persistent: use all past populations again (Karamanis and Seljak 2025).
        unbiased: find ladder, scales and numbers of moves in a first run and fix them for a second with a
            key of its own, in which E[Z-hat] = Z at any n. In a run that adapts, this holds as n grows.
        n_runs: independent runs, mapped over; if more than one, with what one pilot run has found.
        resampling: a scheme or its name.
        ess_threshold: resample below this share of n. Default: 1 (always) with an "ess" ladder, waste-free and
            persistent; .5 otherwise. On a `DataTempering` path particles move after a resampling only, as in IBIS.
        batch_size: move and weight so many particles at a time, to bound memory; what comes out stays as it is.
        keep, on_error, progress, callback, checkpoint: as in `smcgen.smc`. A pilot run's checkpoint is the file
            `checkpoint` with `.pilot` appended.

    Returns:
        A `SamplerResult`.

    Raises:
        InvalidArgument, UnknownName: an argument is not allowed.
        SMCError: a density is NaN, or no particle is possible (`error.result` has the run so far).
        SMCInterrupted: Ctrl-C; `.result` has the run so far.
        MissingExtra: the kernel needs blackjax, which is not installed.
    """
    how = kernel, ladder, moves, waste_free, persistent, ess_threshold, batch_size
    chosen = plan(path, n_particles, *how)
    check_counts(n_runs=n_runs)
    if n_runs > 1 and checkpoint:
        raise InvalidArgument("checkpoint", str(checkpoint), "None with n_runs > 1")
    if persistent and unbiased:
        raise InvalidArgument("unbiased", True, "False with persistent: its weights are estimates")
    if on_error not in ("raise", "return"):
        raise InvalidArgument("on_error", on_error, "'raise' or 'return'")
    options = {
        "resampling": resampling,
        "ess_threshold": chosen.ess_threshold,
        "keep": keep,
    }
    watching = {"progress": progress, "callback": callback}
    run = lambda sampler, key, file: _one(
        sampler, key, chosen.groups, on_error, **options, **watching, checkpoint=file
    )
    key = keys_of(key, None)
    if n_runs == 1 and not unbiased:
        return _finished(run(chosen.sampler, key, checkpoint), chosen)
    pilot_key, key = jax.random.split(key)
    pilot = run(chosen.remembering(), pilot_key, f"{checkpoint}.pilot" if checkpoint else None)
    found = _finished(pilot, chosen)
    if not pilot.ok:
        return found
    fixed = chosen.fixed(pilot.particles.trace)
    if n_runs == 1:
        last = run(fixed, key, checkpoint)
    else:
        last = _many(fixed, jax.random.split(key, n_runs), chosen.groups, options, on_error)
    result = _finished(last, None)
    spent = [run.cost for run in (found, result) if run.cost is not None]
    return replace(result, cost=sum(spent, Cost()))


def _one(sampler: Any, key: RandomKey, n: int, on_error: str, **options: Any) -> SMCResult:
    """One run; errors hand over what `sample` would have returned."""
    try:
        run = smc(sampler, key, n, on_error="return", **options)
        if on_error == "raise" and np.any(np.asarray(run.status) == Status.INTERRUPTED):
            done = f"interrupted after step {run.num_steps}; .result has the run"
            raise SMCInterrupted(done, run)
        if on_error == "raise" and not run.ok:
            # again, step by step, to see which particle it was
            watched = {**options, "checkpoint": None, "callback": _nothing}
            run = smc(sampler, key, n, on_error="raise", **watched)
            raise_if_failed(run)
    except (SMCError, SMCInterrupted) as error:
        error.result = unpack(error.result)
        raise
    return run


def _many(
    sampler: Any, keys: RandomKey, n: int, options: dict[str, Any], on_error: str
) -> SMCResult:
    """Runs, mapped over keys."""
    meter = Meter()
    mapped = compiling.jitted(_mapped, sampler, static=(1, 2))
    runs = jax.block_until_ready(mapped(keys, n, tuple(options.items())))
    runs = runs.replace(cost=meter.read())
    if on_error == "raise" and not runs.ok:
        try:
            raise_if_failed(runs)
        except SMCError as error:
            error.result = unpack(runs)
            raise
    return runs


def _mapped(sampler: Any, keys: RandomKey, n: int, options: tuple) -> SMCResult:
    return jax.vmap(lambda key: smc(sampler, key, n, **dict(options)))(keys)


def _finished(run: SMCResult, chosen: Plan | None) -> SamplerResult:
    result = unpack(run)
    spent = Cost(nfe=int(np.nansum(np.asarray(result.evaluations, np.float64))))
    seconds = run.cost.seconds if run.cost else 0.0
    result = replace(result, cost=spent + Cost(seconds=seconds))
    ladder = chosen.sampler.ladder if chosen else None
    if isinstance(ladder, Adaptive) and result.num_steps == ladder.max_steps and result.ok:
        before, left = np.asarray(result.ladder)[-2], np.asarray(result.ess)[-2]
        if ladder.max_steps > 1 and left < 0.5 * ladder.keep * result.ess[-3]:
            warnings.warn(
                f"the ladder had max_steps={ladder.max_steps} positions and went from {before:.3g} to the end "
                f"in one step, which left an ESS of {left:.1f}: allow more with Adaptive(max_steps=...)",
                RuntimeWarning,
                stacklevel=3,
            )
    return result


def _nothing(told: Any) -> None:
    """A callback that makes Python drive the loop."""
