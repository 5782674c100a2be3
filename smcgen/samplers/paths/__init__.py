"""Paths of targets; see `smcgen.samplers.base.Path`."""

from smcgen.samplers.paths.data import DataTempering as DataTempering
from smcgen.samplers.paths.tempering import Tempering as Tempering
from smcgen.samplers.paths.tempering import from_density as from_density
