"""What a step does with weights, as a host sees it: an account of the run, in one dispatch for each step."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from smcgen.core import weights
from smcgen.core._types import Ancestors, LogG, LogWeights, PyTree
from smcgen.core.resampling import Adaptive
from smcgen.core.select import Selection, reweight, select
from smcgen.core.status import Status


class Carry(NamedTuple):
    """What the next step needs."""

    state: PyTree
    log_weights: Any
    log_z: Any
    lost: Any  # what rounding dropped from log_z
    ess: Any
    founders: Any
    status: Any
    status_step: Any
    status_particle: Any
    chosen: Any = None  # what the next step resamples, where that is known


@jax.jit
def account(
    carry: Carry, ancestors: Ancestors, log_weights: LogWeights, log_g: LogG, t: Any
) -> tuple[Carry, Any]:
    """Weights, evidence, founders and status after step t; `carry.state` is None."""
    new = reweight(log_weights, log_g)
    alive = carry.status == Status.OK  # a failed problem stays as it failed
    total, lost = weights.compensated_add(carry.log_z, carry.lost, new.increment)
    founders = jnp.take_along_axis(carry.founders, ancestors, axis=-1)
    carry = Carry(
        None,
        jnp.where(alive[..., None], new.log_weights, carry.log_weights),
        jnp.where(alive, total, carry.log_z),
        jnp.where(alive, lost, carry.lost),
        jnp.where(alive, new.ess, carry.ess),
        founders,
        jnp.where(alive, new.status, carry.status),
        jnp.where(alive, jnp.int32(t), carry.status_step),
        jnp.where(alive, new.particle, carry.status_particle),
    )
    return carry, jnp.where(alive, new.increment, 0.0)


@partial(jax.jit, static_argnames="resampler")
def turn(
    carry: Carry,
    ancestors: Ancestors,
    log_weights: LogWeights,
    log_g: LogG,
    t: Any,
    key: Any,
    on: Any,
    pinned: Any,
    resampler: Adaptive,
) -> tuple[Carry, Any, Selection]:
    """`account` for step t, then `select` for the next, with the bits of one after the other."""
    done = account(carry, ancestors, log_weights, log_g, t)
    carry, increment = jax.lax.optimization_barrier(done)
    on = on & (carry.status == Status.OK)
    chosen = select(key, t + 1, carry.log_weights, carry.ess, on, resampler, pinned)
    return carry, increment, chosen
