"""Statistics of an evaluation, on plain arrays.

* `bootstrap_interval`: of a mean over problems
* `pass_at_k`: coverage, without bias; `fit_power_law`: how it grows
* `expected_calibration_error`: of answers and their probabilities
* `scaling_ratio`: how many times the budget another strategy needs
* `auc`: how well scores tell right texts from wrong ones
"""

from smcgen.scaling.evaluation.statistics.bootstrap import bootstrap_interval as bootstrap_interval
from smcgen.scaling.evaluation.statistics.calibration import (
    expected_calibration_error as expected_calibration_error,
)
from smcgen.scaling.evaluation.statistics.coverage import PowerLaw as PowerLaw
from smcgen.scaling.evaluation.statistics.coverage import fit_power_law as fit_power_law
from smcgen.scaling.evaluation.statistics.coverage import pass_at_k as pass_at_k
from smcgen.scaling.evaluation.statistics.ranking import auc as auc
from smcgen.scaling.evaluation.statistics.ratio import Curve as Curve
from smcgen.scaling.evaluation.statistics.ratio import Ratio as Ratio
from smcgen.scaling.evaluation.statistics.ratio import scaling_ratio as scaling_ratio

__all__ = [
    "Curve",
    "PowerLaw",
    "Ratio",
    "auc",
    "bootstrap_interval",
    "expected_calibration_error",
    "fit_power_law",
    "pass_at_k",
    "scaling_ratio",
]
