"""Every resampling scheme in one compiled program: which of them runs is data."""

from typing import Any

import jax

from smcgen.core.resampling import SCHEMES, conditional

NAMES = list(SCHEMES)


class Numbered:
    """The scheme `NAMES[index]`; the index may be traced, so that a program is compiled once for all."""

    def __init__(self, index: Any):
        self.index = index

    def __call__(self, key: Any, log_weights: Any) -> Any:
        return jax.lax.switch(self.index, list(SCHEMES.values()), key, log_weights)

    def conditional(self, key: Any, log_weights: Any, pinned: Any) -> Any:
        laws = [conditional(name) for name in NAMES]
        return jax.lax.switch(self.index, laws, key, log_weights, pinned)
