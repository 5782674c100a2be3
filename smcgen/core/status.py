"""How a run ended. Failures are values, so they survive `jit` and `vmap`."""

from enum import IntEnum
from typing import Any

from smcgen.errors import SmcgenError


class Status(IntEnum):
    """Result code of a run (one per problem)."""

    OK = 0
    ALL_WEIGHTS_ZERO = 1  # no particle is possible under the target; log evidence is -inf
    NON_FINITE_POTENTIAL = 2  # a log potential is NaN or +inf; log evidence is NaN
    INTERRUPTED = 3  # stopped by the user; the result is the run so far
    BUDGET_EXHAUSTED = 4  # a limit was hit; the result is the best so far


class SMCError(SmcgenError):
    """A run failed. Nothing is lost: `error.result` is the run so far."""

    def __init__(self, message: str, result: Any):
        super().__init__(message)
        self.result = result


class SMCInterrupted(KeyboardInterrupt):
    """Ctrl-C during a run. `interrupt.result` is the run up to its last finished step (of `smc_each`, all runs)."""

    def __init__(self, message: str, result: Any):
        super().__init__(message)
        self.result = result
