"""One problem of a run that had several."""

import numpy as np

from smcgen.core.result import SMCResult
from smcgen.core.status import Status

_PER_PROBLEM = (
    "log_evidence",
    "log_weights",
    "founders",
    "status",
    "status_step",
    "status_particle",
)
_OVER_TIME = (
    "ess",
    "log_evidence_increments",
    "resampled",
    "same_parent",
    "ancestors",
    "history_log_weights",
)


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


class OneProblem:
    """What results of one problem share, whatever its particles are: they have its run in `smc`."""

    smc: SMCResult

    @property
    def log_evidence(self) -> float:
        """log of the estimate of `Z = E_p[psi(x)]`, nats; `exp` of it is unbiased."""
        return float(self.smc.log_evidence)

    @property
    def log_evidence_stderr(self) -> float:
        """Its standard error from this run's genealogy; NaN where that says nothing."""
        return float(self.smc.log_evidence_stderr)

    @property
    def ess(self) -> float:
        """Effective sample size of the final weights."""
        return float(self.smc.ess[-1])

    @property
    def status(self) -> Status:
        """How the run ended."""
        return Status(int(self.smc.status))


def on_host(result: SMCResult) -> SMCResult:
    """The same run with its arrays as NumPy's: many problems are cut out of it in no time."""
    names = [name for name in (*_PER_PROBLEM, *_OVER_TIME) if getattr(result, name) is not None]
    return result.replace(**{name: np.asarray(getattr(result, name)) for name in names})
