"""Kernels: how a reverse process moves, and its schedules."""

from smcgen.diffusion.base import Kernel as Kernel
from smcgen.diffusion.kernels.gaussian import Gaussian as Gaussian
from smcgen.diffusion.kernels.masked import Masked as Masked
