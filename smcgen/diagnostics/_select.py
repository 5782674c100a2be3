"""One problem of a run, as numpy arrays."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from smcgen.core.result import SMCResult
from smcgen.errors import InvalidArgument


class Run(NamedTuple):
    """What a figure shows of one problem; times are 0..T."""

    ess: Float[np.ndarray, " times"]
    log_evidence: Float[np.ndarray, " times"]  # after each step, nats
    stderr: float
    resampled: Bool[np.ndarray, " steps"]
    log_weights: Float[np.ndarray, " n"]
    ancestors: Int[np.ndarray, "steps n"] | None


def one_problem(result: SMCResult, problem: int | None) -> Run:
    """The run of one problem; `problem` may be left out if there is but one.

    Raises:
        InvalidArgument: there is no such problem.
    """
    shape = np.shape(result.log_evidence)
    count = int(np.prod(shape))
    if len(shape) > 1:
        raise InvalidArgument(
            "result", f"a batch of shape {shape}", "one run: index the batch first"
        )
    if not shape:
        if problem not in (None, 0):
            raise InvalidArgument("problem", problem, "None: this run has one problem")
        where: Any = ()
    else:
        problem = 0 if problem is None and count == 1 else problem
        if problem is None or not -count <= problem < count:
            raise InvalidArgument("problem", problem, f"an index below {count}")
        where = (problem,)
    over_time = lambda x: np.asarray(x)[(slice(None), *where)]
    return Run(
        over_time(result.ess),
        np.cumsum(over_time(result.log_evidence_increments).astype(np.float64)),
        float(np.asarray(result.log_evidence_stderr)[where]),
        over_time(result.resampled).astype(bool),
        np.asarray(result.log_weights)[where],
        None if result.ancestors is None else over_time(result.ancestors),
    )


def tidy_positions(ancestors: Int[np.ndarray, "steps n"]) -> Int[np.ndarray, "times n"]:
    """A place for each particle at each time such that no two lines of descent cross.

    Children stand in the order of their parents; the scheme's own numbering would tangle them.
    """
    steps, n = ancestors.shape
    places = np.empty((steps + 1, n), int)
    places[0] = np.arange(n)
    for t, parents in enumerate(ancestors, 1):
        order = np.argsort(places[t - 1][parents], kind="stable")
        places[t, order] = np.arange(n)
    return places


def survivors(ancestors: Int[np.ndarray, "steps n"], alive: Bool[np.ndarray, " n"]) -> np.ndarray:
    """Whether each particle at each time has a living descendant at the end, shape (times, n)."""
    has = np.zeros((len(ancestors) + 1, len(alive)), bool)
    has[-1] = alive
    for t in range(len(ancestors), 0, -1):
        has[t - 1, ancestors[t - 1][has[t]]] = True
    return has
