"""Kernels that move particles and leave a target invariant; see `smcgen.samplers.base.Kernel`.

| name | gradients | moves between targets | use it for |
|---|---|---|---|
| random_walk | no | 20 | few dimensions, densities without gradients, estimated densities |
| mala | yes | 10 | cheap gradients |
| hmc | yes | 3 | the default: many dimensions |
| nuts | yes | 2 | targets whose scale varies much; all particles wait for the longest trajectory |
| `Algorithm` | yes | 10 | any other algorithm of blackjax |
| a function or a `Kernel` | - | 10 | discrete positions, Gibbs steps |
"""

from typing import Any

from smcgen.errors import InvalidArgument, UnknownName
from smcgen.samplers.base import Kernel
from smcgen.samplers.kernels.algorithm import Algorithm as Algorithm
from smcgen.samplers.kernels.custom import Custom as Custom
from smcgen.samplers.kernels.gradient import HMC as HMC
from smcgen.samplers.kernels.gradient import MALA as MALA
from smcgen.samplers.kernels.gradient import NUTS as NUTS
from smcgen.samplers.kernels.random_walk import RandomWalk as RandomWalk

KERNELS: dict[str, type[Kernel]] = {
    "random_walk": RandomWalk,
    "mala": MALA,
    "hmc": HMC,
    "nuts": NUTS,
}


def resolve(kernel: Any) -> Kernel:
    """A kernel, by its name or as a function `move(key, x, at)`."""
    if isinstance(kernel, str):
        if kernel not in KERNELS:
            raise UnknownName("kernel", kernel, KERNELS)
        return KERNELS[kernel]()
    if isinstance(kernel, Kernel):
        return kernel
    if not callable(kernel) or isinstance(kernel, type):
        raise InvalidArgument("kernel", kernel, "a kernel, one of its names, or move(key, x, at)")
    return Custom(kernel)
