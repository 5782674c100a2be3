"""Resampling schemes, for `smc(..., resampling=SSP())`; `SCHEMES` has those that draw ancestors by name.

Which to use when: `smcgen.core.resampling.base`. Any function of a key and log-weights, shape (n,), to
ancestors is a scheme (`Resampling`). `Every` and `AtSteps` say at which steps one may be used; `Optimal` keeps heavy
particles as they are; `Annealed` resamples by flattened weights and keeps the rest; `StopGradient` and `Transport` are
for derivatives of a whole run.
"""

from typing import TYPE_CHECKING

from smcgen._lazy import lazy

if TYPE_CHECKING:
    from smcgen.core.resampling import SCHEMES as SCHEMES
    from smcgen.core.resampling import SSP as SSP
    from smcgen.core.resampling import Annealed as Annealed
    from smcgen.core.resampling import AtSteps as AtSteps
    from smcgen.core.resampling import Conditional as Conditional
    from smcgen.core.resampling import Every as Every
    from smcgen.core.resampling import Killing as Killing
    from smcgen.core.resampling import Multinomial as Multinomial
    from smcgen.core.resampling import Optimal as Optimal
    from smcgen.core.resampling import Resampling as Resampling
    from smcgen.core.resampling import Residual as Residual
    from smcgen.core.resampling import StopGradient as StopGradient
    from smcgen.core.resampling import Stratified as Stratified
    from smcgen.core.resampling import Systematic as Systematic
    from smcgen.core.resampling import Transform as Transform
    from smcgen.core.resampling import Transport as Transport
    from smcgen.core.resampling import Weighted as Weighted

__all__ = [
    "SCHEMES",
    "SSP",
    "Annealed",
    "AtSteps",
    "Conditional",
    "Every",
    "Killing",
    "Multinomial",
    "Optimal",
    "Resampling",
    "Residual",
    "StopGradient",
    "Stratified",
    "Systematic",
    "Transform",
    "Transport",
    "Weighted",
]
__getattr__, __dir__ = lazy(__name__, dict.fromkeys(__all__, "smcgen.core.resampling"))
