"""Turning a failed run into one clear error."""

from collections.abc import Mapping

import numpy as np

from smcgen.core.result import SMCResult
from smcgen.core.status import SMCError, Status

_WHAT = {
    Status.ALL_WEIGHTS_ZERO: "all weights are zero at step {step}{problem}: no particle is possible under "
    "the target. The particle with the largest weight before that step was number {particle}{shown}",
    Status.NON_FINITE_POTENTIAL: "a log potential is NaN or +inf at step {step}{problem}, "
    "for particle number {particle}{shown}",
}


def raise_if_failed(result: SMCResult, shown: Mapping[int, str] | None = None) -> None:
    """Raise `SMCError` if any problem failed. `shown` has the offending particle per flat problem."""
    status = np.ravel(result.status)
    failed = [b for b in range(status.size) if int(status[b]) in _WHAT]
    if not failed:
        return
    b = failed[0]
    description = (shown or {}).get(b, "")
    message = _WHAT[Status(int(status[b]))].format(
        step=int(np.ravel(result.status_step)[b]),
        particle=int(np.ravel(result.status_particle)[b]),
        problem=f" of problem {b}" if np.ndim(result.status) else "",
        shown=f": {description}" if description else "",
    )
    if len(failed) > 1:
        message += f". {len(failed)} of {status.size} problems failed: {failed}"
    raise SMCError(message + ". error.result has the run; on_error='return' returns it", result)
