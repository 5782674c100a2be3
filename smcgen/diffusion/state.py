"""The population of a diffusion model."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax

from smcgen.core._types import PyTree
from smcgen.core.cost import Meter
from smcgen.diffusion.backends.base import PerRow, Tensor


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DiffusionState:
    """All that belongs to particles, one row each; `take` moves every leaf.

    Attributes:
        x: latents x_t.
        prediction: the denoiser's, on x_t.
        gradient: of `strength_t v_t` at x_t, zero where there is none; None without a guided proposal.
        memory: what the twist remembers.
        log_psi: `log psi_t`, nats.
        value: the latest value seen, NaN before the first; at the end the reward.
        meter: the run's counters; None inside a JAX program.
    """

    x: Tensor
    prediction: PyTree
    gradient: Tensor
    memory: PyTree
    log_psi: PerRow
    value: PerRow
    meter: Meter | None = field(default=None, metadata={"static": True})


class Samples(NamedTuple):
    """The final population; particle axes are those of the weights.

    Attributes:
        data: x_T as it came, not decoded.
        reward: r(x_T), NaN without a reward.
    """

    data: Any
    reward: Any


class DiffusionRecord(NamedTuple):
    """What `keep="particles"` remembers of a population; particle axes are those of the weights."""

    x: Any
    prediction: PyTree
    log_psi: Any
    value: Any
    memory: PyTree = ()
