"""Chains of parameters as ArviZ data."""

from typing import Any

import jax
import numpy as np

from smcgen.errors import MissingExtra
from smcgen.inference.result import ParameterChains


def to_inference_data(chains: ParameterChains) -> Any:
    """See `ParameterChains.to_arviz`."""
    try:
        import arviz
    except ImportError as error:
        raise MissingExtra("export to ArviZ", "arviz", "plot") from error
    posterior = {name: np.asarray(x) for name, x in chains.samples.items()}
    for path, leaf in jax.tree_util.tree_leaves_with_path(chains.paths):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        posterior[f"x.{name}" if name else "x"] = np.asarray(leaf)
    stats = {
        "log_likelihood_estimate": np.asarray(chains.log_likelihood),
        "acceptance_rate": np.asarray(chains.acceptance),
    }
    if chains.moved is not None:
        stats["moved"] = np.asarray(chains.moved)
    data = arviz.from_dict(posterior=posterior, sample_stats=stats)
    data.attrs["inference_library"] = "smcgen"
    return data
