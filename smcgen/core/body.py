"""The SMC body: what one step does, whoever drives the loop."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from smcgen.core import weights
from smcgen.core._types import LogG, PyTree
from smcgen.core.account import Carry, account, turn
from smcgen.core.batches import Batches
from smcgen.core.drivers import Driver
from smcgen.core.layout import Layout
from smcgen.core.place import beside
from smcgen.core.reference import at
from smcgen.core.resampling import Adaptive, Transform, transformed
from smcgen.core.resolve import Resolved
from smcgen.core.result import SMCResult
from smcgen.core.select import Selection, ancestor_of_reference, select
from smcgen.core.status import Status
from smcgen.errors import ModelError

Keep = Literal["summary", "ancestors", "particles"]

_OK = int(Status.OK)  # looking up a member of an enumeration takes as long as a NumPy operation


@dataclass(frozen=True)
class Settings:
    """What a run is, apart from model and key."""

    n: int
    resampler: Adaptive
    keep: Keep
    ancestor_sampling: bool = False
    # how a run is computed, not what it is: a checkpoint may be resumed by another computer
    layout: Layout = field(default=Layout(), repr=False)
    batches: Batches | None = field(default=None, repr=False)

    @cached_property  # asked at every step, and a Protocol is slow to ask
    def transforms(self) -> bool:
        """Whether resampling makes new particles of the old ones, and so draws no ancestors."""
        return isinstance(self.resampler.scheme, Transform)

    @property
    def shows_ancestors(self) -> bool:
        """Whether the result has them."""
        return self.keep != "summary" and not self.transforms


class Info(NamedTuple):
    """What a person wants to look at afterwards."""

    ancestors: Any
    resampled: Any
    same_parent: Any
    ess: Any
    increment: Any
    record: PyTree
    log_weights: Any = None


def first(
    model: Resolved, key: Any, settings: Settings, path: PyTree = None, ahead: Any = None
) -> tuple[Carry, Info]:
    """Time 0: draw and weight. With a `path`, particle 0 follows it; `ahead`: the steps' key, if a host drives them."""
    if path is None:
        state, log_g = model.init(key, settings.n)
    else:
        assert model.init_pinned is not None
        state, log_g = model.init_pinned(key, settings.n, at(path, 0))
    shape = (settings.n,) if model.num_problems is None else (model.num_problems, settings.n)
    state, log_g = _laid_out(model, settings, state, _checked(log_g, shape, "init"))
    flat = np.full(shape, -np.log(settings.n), log_g.dtype)
    zero, none = flat[..., 0] * 0, np.zeros(shape[:-1], np.int32)
    founders = np.broadcast_to(np.arange(settings.n, dtype=np.int32), shape)
    carry = Carry(None, flat, zero, zero, zero, founders, none, none, none)
    given = carry, founders, flat, state, log_g, 0
    carry, increment = _weighed(model, ahead, settings, path, *given)
    return carry, Info(None, None, None, carry.ess, increment, *kept(model, carry, settings))


def step(
    model: Resolved,
    step_key: Any,
    settings: Settings,
    driver: Driver,
    path: PyTree,
    carry: Carry,
    t: Any,
) -> tuple[Carry, Info]:
    """Times 1..T: resample if due, move, weight. With a `path`, particle 0 follows it."""
    chosen = carry.chosen
    if chosen is None:
        on = _on(model, active(model, carry), t)
        pinned = (
            None if path is None else _pinned(model, step_key, settings, driver, path, carry, t, on)
        )
        with beside(carry.log_weights):
            chosen = select(
                step_key, t, carry.log_weights, carry.ess, on, settings.resampler, pinned
            )
    state = driver.cond(
        chosen.resampled,
        partial(_rearranged, model, settings),
        lambda state, chosen, log_weights: state,
        carry.state,
        chosen,
        carry.log_weights,
    )
    axis = _particle_axis(model)
    state = settings.layout.spread(state, settings.n, axis)
    if path is None:
        state, log_g = model.step(chosen.propagate, t, state)
    else:
        assert model.step_pinned is not None
        state, log_g = model.step_pinned(chosen.propagate, t, state, at(path, t))
    log_g = _checked(log_g, chosen.log_weights.shape, "step")
    state, log_g = _laid_out(model, settings, state, log_g)
    given = carry, chosen.ancestors, chosen.log_weights, state, log_g, t
    carry, increment = _weighed(model, step_key if driver.ahead else None, settings, path, *given)
    ancestors = None
    if settings.shows_ancestors:
        ancestors = settings.layout.spread(chosen.ancestors, settings.n, axis)
    memory = kept(model, carry, settings)
    return carry, Info(
        ancestors, chosen.resampled, chosen.same_parent, carry.ess, increment, *memory
    )


def _weighed(
    model: Resolved,
    ahead: Any,
    settings: Settings,
    path: PyTree,
    carry: Carry,
    ancestors: Any,
    log_weights: Any,
    state: PyTree,
    log_g: LogG,
    t: Any,
) -> tuple[Carry, Any]:
    """Everything that step t does with weights; and with a key `ahead`, what the next one resamples.

    For a host each dispatch takes as long as a hundred operations on a few weights, so both are one.
    """
    given = carry._replace(state=None, chosen=None), ancestors, log_weights, log_g, t
    with beside(log_g):
        if ahead is None or settings.ancestor_sampling:  # which asks the model first
            small, increment = account(*given)
            return small._replace(state=state), increment
        shape = np.shape(carry.ess)
        on = np.full(shape, t < model.num_steps)  # that they have not failed is seen inside
        if t < model.num_steps:
            on = _on(model, _undone(model, on, state), t + 1)
        pinned = None if path is None else np.zeros(shape, np.int32)
        small, increment, chosen = turn(*given, ahead, on, pinned, settings.resampler)
    return small._replace(state=state, chosen=chosen), increment


def _on(model: Resolved, running: Any, t: Any) -> Any:
    """Running problems that resample at step t if their weights say so."""
    return running & model.resamples(t) if model.resamples else running


def _particle_axis(model: Resolved) -> int:
    return 0 if model.num_problems is None else 1


def _laid_out(
    model: Resolved, settings: Settings, state: PyTree, log_g: LogG
) -> tuple[PyTree, LogG]:
    """A population where `devices` wants it."""
    axis, layout = _particle_axis(model), settings.layout
    return layout.spread(state, settings.n, axis), layout.everywhere(log_g, axis)


def until_done(
    step: Callable[[Carry, Any], tuple[Carry, Info]],
    model: Resolved,
    settings: Settings,
    driver: Driver,
) -> Callable[[Carry, Any], tuple[Carry, Info]]:
    """`step` while some problem runs; after that steps are free, and change nothing."""

    def idle(carry: Carry, t: Any) -> tuple[Carry, Info]:
        ancestors = jnp.broadcast_to(jnp.arange(settings.n, dtype=jnp.int32), carry.founders.shape)
        shown = ancestors if settings.shows_ancestors else None
        no, none = jnp.zeros_like(carry.ess, bool), jnp.zeros_like(carry.ess)
        nothing = no, none, carry.ess, jnp.zeros_like(carry.log_z)
        return carry, Info(shown, *nothing, *kept(model, carry, settings))

    return lambda carry, t: driver.cond(active(model, carry), step, idle, carry, t)


def _rearranged(
    model: Resolved, settings: Settings, state: PyTree, chosen: Selection, log_weights: Any
) -> PyTree:
    """The population after resampling."""
    scheme: Any = settings.resampler.scheme
    if settings.transforms:
        return transformed(scheme, log_weights, state, chosen.resampled)
    return model.take(state, chosen.ancestors)


def _pinned(
    model: Resolved,
    step_key: Any,
    settings: Settings,
    driver: Driver,
    path: PyTree,
    carry: Carry,
    t: Any,
    on: Any,
) -> Any:
    """The ancestor of particle 0: itself, or with ancestor sampling one that is drawn where that is due."""
    with beside(carry.ess):
        itself = jnp.zeros(carry.ess.shape, jnp.int32)
    if not settings.ancestor_sampling:
        return itself
    draw = model.log_continue
    assert draw is not None

    def drawn(state: PyTree) -> Any:
        log_continue = _checked(draw(t, state, path), carry.log_weights.shape, "log_continue")
        with beside(carry.log_weights):
            return ancestor_of_reference(step_key, t, carry.log_weights, log_continue)

    due = on & settings.resampler.due(t, carry.ess, settings.n)
    return driver.cond(due, drawn, lambda state: itself, carry.state)


def finish(model: Resolved, carry: Carry, start: Info, infos: Info, history: PyTree) -> SMCResult:
    """Carry and infos as a result."""
    joined = lambda a, b: jnp.concatenate([jnp.asarray(a)[None], jnp.asarray(b)])
    return SMCResult(
        log_evidence=carry.log_z + carry.lost,
        particles=model.particles(carry.state) if model.particles else carry.state,
        log_weights=carry.log_weights,
        ess=joined(start.ess, infos.ess),
        log_evidence_increments=joined(start.increment, infos.increment),
        resampled=infos.resampled,
        same_parent=infos.same_parent,
        ancestors=infos.ancestors,
        founders=carry.founders,
        history=history,
        history_log_weights=None
        if start.log_weights is None
        else joined(start.log_weights, infos.log_weights),
        status=carry.status,
        status_step=carry.status_step,
        status_particle=carry.status_particle,
    )


def active(model: Resolved, carry: Carry) -> Any:
    """Problems that still run: neither failed nor finished; shape (*problems)."""
    if not model.traceable:  # on the host a NumPy operation takes a fortieth of the time of JAX's
        return _undone(model, np.asarray(carry.status) == _OK, carry.state)
    return _undone(model, carry.status == Status.OK, carry.state)


def _undone(model: Resolved, running: Any, state: PyTree) -> Any:
    """Those of these problems that the model has not finished."""
    if not model.done:
        return running
    done = model.done(state)
    return running & ~(jnp.asarray(done) if model.traceable else np.asarray(done))


def record(model: Resolved, state: PyTree, settings: Settings) -> PyTree:
    """What `keep` asks to remember of a population."""
    if settings.keep != "particles":
        return None
    return model.record(state) if model.record else state


def kept(model: Resolved, carry: Carry, settings: Settings) -> tuple[PyTree, Any]:
    """Record and log-weights of a population, if `keep` asks to remember them."""
    if settings.keep != "particles":
        return None, None
    return record(model, carry.state, settings), carry.log_weights


def _checked(log_g: Any, shape: tuple[int, ...], where: str) -> LogG:
    log_g = log_g if isinstance(log_g, np.ndarray) else jnp.asarray(log_g)
    if log_g.shape != shape:
        raise ModelError(
            f"log G of {where} has shape {log_g.shape}; expected {shape}: one per particle"
        )
    # what the host computed goes as it is to the next jitted call, which takes it ten times as fast as `asarray`
    return log_g.astype(weights.precision_of(log_g.dtype), copy=False)
