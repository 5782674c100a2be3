"""Some of the texts of a run."""

from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Int

from smcgen.text.result import SteerResult


def some_rows(run: SteerResult, rows: Int[np.ndarray, " m"]) -> SteerResult:
    """Some texts of a search: weights in proportion, and a single family, since no two are independent."""
    weights = run.weights[rows]
    total = weights.sum()
    weights = weights / total if total > 0 else weights
    with np.errstate(divide="ignore"):
        log_weights = np.log(weights)
    founders = np.zeros(len(rows), np.int32)
    return replace(
        run,
        texts=[run.texts[row] for row in rows.tolist()],
        weights=weights,
        scores=run.scores[rows],
        finish=run.finish[rows],
        smc=run.smc.replace(log_weights=log_weights, founders=founders, ancestors=None),
        history=[jax.tree.map(lambda x: x[rows], record) for record in run.history],
        population=run.population.of_rows(rows, [run.prompt], len(rows)),
    )
