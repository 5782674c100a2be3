"""What a sampler did at each step, kept in its state."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from smcgen.core._types import PyTree


class Trace(NamedTuple):
    """By time 0..T; NaN where there is nothing to tell.

    Attributes:
        at: position of the target from which the particles are, before they were weighted.
        ess: effective sample size after weighting, of all points.
        acceptance: mean acceptance of the kernel.
        moves: how often it was applied.
        evaluations: of the target, by all particles (a gradient's included).
        variance: of the increment of log Z-hat, where the sampler has an estimate of its own.
        tuning: the kernel's parameters; () unless the sampler keeps them.
    """

    at: Any
    ess: Any
    acceptance: Any
    moves: Any
    evaluations: Any
    variance: Any
    tuning: PyTree

    @classmethod
    def begin(cls, first: "Trace", steps: int) -> "Trace":
        """Room for `steps` more entries."""

        def room(value: Any) -> Any:
            value = jnp.asarray(value)
            fill = jnp.nan if jnp.issubdtype(value.dtype, jnp.floating) else 0
            rest = jnp.full((steps, *value.shape), fill, value.dtype)
            return jnp.concatenate([value[None], rest])

        return jax.tree.map(room, first)

    def write(self, t: Any, now: "Trace") -> "Trace":
        """With the entry of time t."""
        return jax.tree.map(lambda all, one: all.at[t].set(one), self, now)
