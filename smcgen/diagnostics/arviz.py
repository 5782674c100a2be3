"""Export to ArviZ: a weighted population as equally weighted draws with the run's statistics."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.chains import Chains
from smcgen.core.result import SMCResult
from smcgen.core.status import Status
from smcgen.errors import InvalidArgument, MissingExtra


def to_inference_data(result: SMCResult, key: RandomKey | int = 0, num: int | None = None) -> Any:
    """An ArviZ `InferenceData`: draws by weight in `posterior`, the run in `sample_stats`.

    ArviZ knows no weights, so particles are drawn independently by weight. A particle drawn twice is
    one sample seen twice: take the error of a mean from the ESS of the run, not from the number of
    draws.

    Args:
        result: what `smcgen.smc` returned.
        key: for the draws.
        num: how many draws; default: as many as there are particles.

    Returns:
        `posterior`: every numeric array of the particles, dimensions (chain, draw, ...), one chain,
        named by dictionary keys or fields joined with "."; an array alone is "x". With several
        problems the next dimension is `problem`. `sample_stats`: `log_weight` and `founder` of
        each draw, `ess` and `log_evidence_increment` by `step`. Attributes: `log_evidence`,
        `log_evidence_stderr`, `n_particles`, `status`.

    Raises:
        MissingExtra: ArviZ is not installed.
        InvalidArgument: the particles have no numeric array, or num < 1.
    """
    arviz, xarray = _libraries()
    problems = np.ndim(result.log_evidence)
    index = np.asarray(result.sample(key, result.n_particles if num is None else num))
    several = ("problem",) * problems
    over_draws, over_steps = ("chain", "draw", *several), ("step", *several)

    def drawn(values: Any) -> np.ndarray:
        values = np.asarray(values)
        taken = values[index] if not problems else values[np.arange(len(index))[:, None], index]
        return np.moveaxis(taken, problems, 0)[None]

    posterior = {}
    for name, values in _named(result.particles, result.log_weights.shape):
        dims = (f"{name}_dim_{i}" for i in range(values.ndim - 1 - problems))
        posterior[name] = ((*over_draws, *dims), drawn(values))
    if not posterior:
        raise InvalidArgument(
            "result.particles", type(result.particles).__name__, "numeric arrays, particles leading"
        )
    stats = {
        "log_weight": (over_draws, drawn(result.log_weights)),
        "founder": (over_draws, drawn(result.founders)),
        "ess": (over_steps, np.asarray(result.ess)),
        "log_evidence_increment": (over_steps, np.asarray(result.log_evidence_increments)),
    }
    attributes = {
        "log_evidence": np.asarray(result.log_evidence).tolist(),
        "log_evidence_stderr": np.asarray(result.log_evidence_stderr).tolist(),
        "n_particles": result.n_particles,
        "status": [Status(int(s)).name for s in np.ravel(result.status)],
        "inference_library": "smcgen",
    }
    if not problems:
        attributes["status"] = attributes["status"][0]
    coordinates = {"chain": [0], "draw": np.arange(index.shape[-1])}
    steps = {**coordinates, "step": np.arange(result.num_steps + 1)}
    return arviz.InferenceData(
        posterior=xarray.Dataset(posterior, coordinates, attributes),
        sample_stats=xarray.Dataset(stats, steps, attributes),
        attrs=attributes,
    )


def from_chains(chains: Chains, fn: Callable[[PyTree], PyTree] = lambda path: path) -> Any:
    """An ArviZ `InferenceData` of paths: `fn(path)` in `posterior`, dimensions (chain, draw, ...).

    Args:
        chains: what `smcgen.particle_gibbs` returned.
        fn: of a path, a pytree of arrays of one shape for all paths.

    Returns:
        `posterior`: an array for each leaf, named by its keys joined with ".", an array alone "x".
        `sample_stats`: `log_evidence` and `moved` (by `step`) of each draw.

    Raises:
        MissingExtra: ArviZ is not installed.
        InvalidArgument: `fn` gives no numeric array.
    """
    arviz, xarray = _libraries()
    posterior = {}
    for name, values in _named(chains.map(fn), (chains.n_chains, chains.n_samples)):
        dims = (f"{name}_dim_{i}" for i in range(values.ndim - 2))
        posterior[name] = (("chain", "draw", *dims), values)
    if not posterior:
        raise InvalidArgument("fn", "no numeric array", "a function of a path to numeric arrays")
    moved = np.asarray(chains.moved)
    stats = {
        "log_evidence": (("chain", "draw"), np.asarray(chains.log_evidence)),
        "moved": (("chain", "draw", "step"), moved),
    }
    coordinates = {"chain": np.arange(chains.n_chains), "draw": np.arange(chains.n_samples)}
    steps = {**coordinates, "step": np.arange(moved.shape[2])}
    attributes = {"inference_library": "smcgen"}
    return arviz.InferenceData(
        posterior=xarray.Dataset(posterior, coordinates, attributes),
        sample_stats=xarray.Dataset(stats, steps, attributes),
        attrs=attributes,
    )


def _libraries() -> tuple[Any, Any]:
    try:
        import arviz
        import xarray
    except ImportError as error:
        raise MissingExtra("export to ArviZ", "arviz", "plot") from error
    return arviz, xarray


def _named(particles: PyTree, shape: tuple[int, ...]) -> list[tuple[str, np.ndarray]]:
    """Arrays with one row per particle, and their names."""
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(particles):
        values = np.asarray(leaf)
        if values.dtype.kind in "biufc" and values.shape[: len(shape)] == shape:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            found.append((f"x.{name}" if name.isdigit() else name or "x", values))
    return found
