"""Resampling schemes; see `smcgen.core.resampling.base` for which to use, `.when` for when they are used."""

from smcgen.core.resampling.annealed import Annealed as Annealed
from smcgen.core.resampling.base import Conditional as Conditional
from smcgen.core.resampling.base import ConditionalLaw as ConditionalLaw
from smcgen.core.resampling.base import Resampling as Resampling
from smcgen.core.resampling.base import Scheme as Scheme
from smcgen.core.resampling.base import Transform as Transform
from smcgen.core.resampling.base import Weighted as Weighted
from smcgen.core.resampling.base import weighted as weighted
from smcgen.core.resampling.killing import Killing as Killing
from smcgen.core.resampling.multinomial import Multinomial as Multinomial
from smcgen.core.resampling.optimal import Optimal as Optimal
from smcgen.core.resampling.registry import SCHEMES as SCHEMES
from smcgen.core.resampling.registry import conditional as conditional
from smcgen.core.resampling.registry import resolve as resolve
from smcgen.core.resampling.residual import Residual as Residual
from smcgen.core.resampling.ssp import SSP as SSP
from smcgen.core.resampling.stop_gradient import StopGradient as StopGradient
from smcgen.core.resampling.stratified import Stratified as Stratified
from smcgen.core.resampling.systematic import Systematic as Systematic
from smcgen.core.resampling.transport import Transport as Transport
from smcgen.core.resampling.transport import transformed as transformed
from smcgen.core.resampling.when import Adaptive as Adaptive
from smcgen.core.resampling.when import AtSteps as AtSteps
from smcgen.core.resampling.when import Every as Every
from smcgen.core.resampling.when import Scheduled as Scheduled
