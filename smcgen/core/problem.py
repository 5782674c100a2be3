"""One problem of a run that had several."""

from smcgen.core.result import SMCResult

_PER_PROBLEM = (
    "log_evidence",
    "log_weights",
    "founders",
    "status",
    "status_step",
    "status_particle",
)
_OVER_TIME = ("ess", "log_evidence_increments", "resampled", "ancestors", "history_log_weights")


def problem_result(result: SMCResult, index: int | None) -> SMCResult:
    """The run of problem `index`, without its problem axis; all of it if `index` is None.

    Particles and history are a model's own, and stay those of all problems.
    """
    if index is None:
        return result
    changes = {name: getattr(result, name)[index] for name in _PER_PROBLEM}
    for name in _OVER_TIME:
        values = getattr(result, name)
        changes[name] = None if values is None else values[:, index]
    return result.replace(**changes)
