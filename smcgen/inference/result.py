"""Chains of parameters: what PMMH and particle Gibbs return."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from smcgen.core._types import PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class ParameterChains:
    """Draws from the posterior of parameters.

    Attributes:
        samples: by name, shape (chains, draws, ...), under their constraints.
        log_likelihood: estimate at each draw (PMMH), or log p(x_{0:T}, y | theta) (particle Gibbs), (chains, draws).
        acceptance: mean probability of acceptance of the moves of theta, (chains, draws).
        paths: of states, (chains, draws, T + 1, ...); None for PMMH.
        moved: how often the state at each time moved, (chains, draws, T + 1); None for PMMH.
    """

    samples: dict[str, Any]
    log_likelihood: Any
    acceptance: Any
    paths: PyTree = None
    moved: Any = None

    def to_arviz(self) -> Any:
        """An ArviZ `InferenceData`: `posterior` (parameters, and states as "x"), `sample_stats`.

        Raises:
            MissingExtra: ArviZ is not installed.
        """
        from smcgen.inference.arviz import to_inference_data

        return to_inference_data(self)

    def __repr__(self) -> str:
        chains, draws = np.shape(self.log_likelihood)
        means = {k: np.asarray(v).mean((0, 1)).round(4).tolist() for k, v in self.samples.items()}
        rate = float(np.mean(np.asarray(self.acceptance)))
        return f"ParameterChains({chains} chains of {draws}, means {means}, acceptance {rate:.2f})"
