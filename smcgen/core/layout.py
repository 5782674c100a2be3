"""How a population lies in memory: spread over devices.

States are the large part of a run: they are spread, and so is the work of moving and weighting them. Log-weights are
one number a particle: every device has all of them and draws the same ancestors, so that a run on eight devices gives
what it gives on one. Only resampled states travel between devices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from smcgen.core._types import PyTree
from smcgen.errors import InvalidArgument


@dataclass(frozen=True)
class Layout:
    """Devices that share the particles; none is JAX's default.

    Args:
        devices: in the order in which they hold particles.
    """

    devices: tuple[Any, ...] = ()

    def spread(self, tree: PyTree, n: int, axis: int) -> PyTree:
        """Arrays with a particle axis, each device with its share of the particles."""
        if not self.devices:
            return tree

        def one(x: Any) -> Any:
            shape = np.shape(x)
            if len(shape) <= axis or shape[axis] != n:
                return x
            return self._placed(x, *(None,) * axis, "particles")

        return jax.tree.map(one, tree)

    def everywhere(self, x: Any, axis: int) -> Any:
        """An array that is computed by shares and then known to every device."""
        return self._placed(self.spread(x, x.shape[axis], axis)) if self.devices else x

    def _placed(self, x: Any, *axes: str | None) -> Any:
        mesh = Mesh(np.array(self.devices), ("particles",))
        where = NamedSharding(mesh, PartitionSpec(*axes))
        return jax.lax.with_sharding_constraint(x, where)


def layout_of(devices: Any, n: int) -> Layout:
    """The layout that an argument `devices` asks for.

    Raises:
        InvalidArgument: these are no devices, or they cannot share n particles evenly.
    """
    if devices is None:
        return Layout()
    if not isinstance(devices, Sequence) or not all(isinstance(d, jax.Device) for d in devices):
        raise InvalidArgument("devices", devices, "a sequence of devices, such as jax.devices()")
    if not devices or n % len(devices):
        allowed = f"devices that share n_particles={n} evenly"
        raise InvalidArgument("devices", f"{len(devices)} devices", allowed)
    return Layout(tuple(devices))
