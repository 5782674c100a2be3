"""Checks of the laws that a model or a kernel of yours must obey; each raises `LawBroken`, an `AssertionError`.

* `check_unbiased`: E[Z-hat] = Z, and E[Z-hat (f-hat - pi(f))] = 0.
* `check_csmc_invariant`: a sweep of conditional SMC leaves the target as it is.
* `check_take`: `take` moves all of a particle's state.
* `check_twist_consistency`: models that should have the same target have it.
* `check_geweke`: a sampler of parameters and the simulator of data agree (Geweke 2004).
* `sbc_ranks`, `check_ranks`: simulation-based calibration (Talts et al. 2018).

They are z-tests, chi-square and Kolmogorov-Smirnov tests over many cheap runs with a fixed key. A right model fails
one about once in a million (`ALPHA`), and a wrong one the sooner the more runs there are. The error of a single run
against a tolerance proves nothing.
"""

from smcgen.testing.calibration import check_ranks as check_ranks
from smcgen.testing.calibration import sbc_ranks as sbc_ranks
from smcgen.testing.csmc import check_csmc_invariant as check_csmc_invariant
from smcgen.testing.evidence import check_twist_consistency as check_twist_consistency
from smcgen.testing.evidence import check_unbiased as check_unbiased
from smcgen.testing.geweke import check_geweke as check_geweke
from smcgen.testing.laws import ALPHA as ALPHA
from smcgen.testing.laws import LawBroken as LawBroken
from smcgen.testing.laws import Verdict as Verdict
from smcgen.testing.take import check_take as check_take

__all__ = [
    "ALPHA",
    "LawBroken",
    "Verdict",
    "check_csmc_invariant",
    "check_geweke",
    "check_ranks",
    "check_take",
    "check_twist_consistency",
    "check_unbiased",
    "sbc_ranks",
]
