"""Parts of masked diffusion: orders, schedules, laws of tokens. The kernel is `smcgen.diffusion.kernels.Masked`."""

from smcgen.diffusion.masked.orders import ORDERS as ORDERS
from smcgen.diffusion.masked.orders import Counted as Counted
from smcgen.diffusion.masked.orders import Independent as Independent
from smcgen.diffusion.masked.orders import Order as Order
