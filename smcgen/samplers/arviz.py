"""A sampler's result as ArviZ `InferenceData`."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from smcgen.core._types import RandomKey
from smcgen.core.status import Status
from smcgen.errors import MissingExtra
from smcgen.samplers.paths.numpyro import NumPyroPath
from smcgen.samplers.result import SamplerResult


def inference_data(
    result: SamplerResult,
    path: NumPyroPath,
    key: RandomKey,
    num: int | None,
    equal_weights: bool,
    options: dict[str, Any],
) -> Any:
    """Draws of a NumPyro model's sites; runs are chains. See `smcgen.sample_posterior`."""
    try:
        import arviz
    except ImportError as error:
        raise MissingExtra("export to ArviZ", "arviz", "samplers") from error
    runs = jnp.ndim(result.log_evidence) > 0
    chains = jax.tree.map(lambda a: a if runs else jnp.asarray(a)[None], _per_point(result))
    index = _index(chains["log_weights"], key, num, equal_weights)
    drawn = jax.tree.map(lambda a: np.asarray(a)[np.arange(len(index))[:, None], index], chains)
    constrain = jax.jit(jax.vmap(jax.vmap(path.constrain)))
    samples = jax.tree.map(np.asarray, constrain(drawn.pop("x")))
    args, kwargs = path.call()
    mcmc = SimpleNamespace(
        get_samples=lambda group_by_chain=False: samples if group_by_chain else _joined(samples),
        get_extra_fields=lambda group_by_chain=False: {},
        num_chains=index.shape[0],
        num_samples=index.shape[1],
        thinning=1,
        sampler=SimpleNamespace(model=path.model),
        _args=args,
        _kwargs=kwargs,
    )
    data = arviz.from_numpyro(mcmc, **options)
    attributes = _attributes(result, index.shape[1], equal_weights)
    data.add_groups(sample_stats=_stats(result, drawn, runs, attributes))
    for group in (data, data["posterior"]):
        group.attrs.update(attributes)
    return data


def _per_point(result: SamplerResult) -> dict[str, Any]:
    return {
        "x": result.particles,
        "log_weights": result.log_weights,
        "log_prior": result.log_prior,
        "log_likelihood": result.log_likelihood,
    }


def _index(
    log_weights: Any, key: RandomKey, num: int | None, equal_weights: bool
) -> Int[np.ndarray, "chains draws"]:
    """Which points are drawn: all, or systematically by weight, which keeps their order."""
    log_weights = np.asarray(log_weights, np.float64)
    chains, n = log_weights.shape
    if not equal_weights:
        return np.broadcast_to(np.arange(n), (chains, n)).copy()
    draws = n if num is None else num
    offsets = np.asarray(jax.random.uniform(key, (chains, 1)), np.float64)
    weights = np.exp(log_weights - log_weights.max(-1, keepdims=True))
    edges = np.cumsum(weights, -1) / weights.sum(-1, keepdims=True)
    teeth = (np.arange(draws) + offsets) / draws
    found = [np.searchsorted(e, t, side="right") for e, t in zip(edges, teeth, strict=True)]
    last = [np.flatnonzero(w)[-1] for w in weights]
    return np.stack([np.minimum(f, top) for f, top in zip(found, last, strict=True)])


def _joined(samples: dict[str, Any]) -> dict[str, Any]:
    return {name: a.reshape(-1, *a.shape[2:]) for name, a in samples.items()}


def _stats(result: SamplerResult, drawn: dict[str, Any], runs: bool, attributes: dict) -> Any:
    import xarray

    by_draw = {
        "lp": drawn["log_prior"] + drawn["log_likelihood"],
        "log_prior": drawn["log_prior"],
        "log_likelihood": drawn["log_likelihood"],
        "log_weight": drawn["log_weights"],
    }
    by_step = {
        "temperature": result.ladder,
        "ess": result.ess,
        "log_evidence_increment": result.log_evidence_increments,
        "acceptance_rate": result.acceptance,
        "n_moves": result.moves,
        "n_evaluations": result.evaluations,
    }
    time_last = lambda a: np.asarray(a).T if runs else np.asarray(a)[None]
    variables = {name: (("chain", "draw"), value) for name, value in by_draw.items()} | {
        name: (("chain", "step"), time_last(value)) for name, value in by_step.items()
    }
    chains, draws = drawn["log_prior"].shape
    coordinates = {"chain": np.arange(chains), "draw": np.arange(draws)}
    coordinates["step"] = np.arange(result.num_steps + 1)
    return xarray.Dataset(variables, coordinates, attributes)


def _attributes(result: SamplerResult, draws: int, equal_weights: bool) -> dict[str, Any]:
    """What netCDF can hold: numbers, lists of numbers and strings."""
    log_evidence, stderr = result.pooled_log_evidence()
    log_weights = np.asarray(result.log_weights, np.float64)
    ess = 1 / np.sum(np.exp(2 * log_weights), -1)
    cost = result.cost
    return {
        "log_evidence": log_evidence,
        "log_evidence_stderr": stderr,
        "log_evidence_by_run": np.ravel(np.asarray(result.log_evidence, np.float64)).tolist(),
        "ladder": np.asarray(result.ladder, np.float64)
        .reshape(result.num_steps + 1, -1)[:, 0]
        .tolist(),
        "ess": np.ravel(ess).tolist(),
        "n_particles": result.n_particles,
        "n_draws": draws,
        "equal_weights": int(equal_weights),
        "n_evaluations": cost.nfe if cost else 0,
        "sampling_time": cost.seconds if cost else 0.0,
        "status": ", ".join(sorted({Status(int(s)).name for s in np.ravel(result.status)})),
        "inference_library": "smcgen",
    }
