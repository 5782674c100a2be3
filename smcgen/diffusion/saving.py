"""Checkpoints of diffusion models: the population as arrays, whichever framework it is in, and what it has cost."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from smcgen.core._types import RandomKey
from smcgen.core.cost import Cost, Meter
from smcgen.core.feynman_kac import FeynmanKac
from smcgen.core.leaves import LeafCheckpointing
from smcgen.diffusion.state import DiffusionState


class Savable(FeynmanKac[DiffusionState]):
    """The capability to be checkpointed; a part of `DiffusionModel`."""

    def fingerprint(self) -> str:
        return LeafCheckpointing(self).fingerprint()

    def dump(self, state: DiffusionState) -> Mapping[str, Any]:
        arrays = LeafCheckpointing(self).dump(state)
        return arrays if state.meter is None else {**arrays, "cost": state.meter.read().as_array()}

    def load(self, key: RandomKey, n: int, arrays: Mapping[str, np.ndarray]) -> DiffusionState:
        population = {name: array for name, array in arrays.items() if name != "cost"}
        state = LeafCheckpointing(self).load(key, n, population)
        if "cost" not in arrays:
            return state
        return replace(state, meter=Meter(Cost.from_array(arrays["cost"]), memory=True))
