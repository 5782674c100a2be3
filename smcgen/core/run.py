"""Running the SMC body: which driver, and what a run that Python drives can do."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from smcgen.core import body
from smcgen.core import compile as compiling
from smcgen.core._types import RandomKey
from smcgen.core.account import Carry
from smcgen.core.arguments import keys_of
from smcgen.core.body import Info, Settings
from smcgen.core.checkpoint import Checkpoint
from smcgen.core.cost import Cost, Meter
from smcgen.core.drivers import HostDriver, TracedDriver
from smcgen.core.failures import raise_if_failed
from smcgen.core.feynman_kac import Model
from smcgen.core.place import beside, to_host
from smcgen.core.resolve import Resolved, resolve
from smcgen.core.result import SMCResult
from smcgen.core.status import SMCInterrupted, Status
from smcgen.errors import InvalidArgument


class Progress(NamedTuple):
    """What a callback is told after each step."""

    t: int
    num_steps: int
    ess: Any
    log_evidence: Any
    resampled: Any
    cost: Cost


class Watching(NamedTuple):
    """How a run is watched; any of it makes Python drive the loop."""

    progress: bool = False
    callback: Callable[["Progress"], None] | None = None
    checkpoint: str | Path | None = None


def execute(
    model: Model,
    key: RandomKey | int,
    settings: Settings,
    on_error: str,
    watching: Watching = Watching(),
    path: Any = None,
) -> SMCResult:
    """Run the SMC body on a model by the driver that fits; along a reference path if there is one."""
    resolved = resolve(model, settings.batches)
    if on_error not in ("raise", "return"):
        raise InvalidArgument("on_error", on_error, "'raise' or 'return'")
    if settings.layout.devices and not resolved.traceable:
        allowed = f"None: {type(model).__name__} is not traceable, and moves its particles itself"
        raise InvalidArgument("devices", f"{len(settings.layout.devices)} devices", allowed)
    keys = keys_of(key, resolved.num_problems)
    if resolved.traceable and not any(watching):
        if compiling.inside_trace():
            return _traced(resolved, keys, settings, path)
        meter = Meter()
        run = compiling.jitted(_run, model, static=(1,))
        result = jax.block_until_ready(run(keys, settings, path))
        meter.add(nfe=result.log_weights.size * (result.num_steps + 1))
        result = result.replace(cost=meter.read())
        if on_error == "raise":
            raise_if_failed(result)
        return result
    if compiling.inside_trace():
        allowed = (
            "a traceable model without progress, callback or checkpoint inside a transformation"
        )
        raise InvalidArgument("model", type(model).__name__, allowed)
    file = watching.checkpoint
    saved = Checkpoint(Path(file), resolved, model, keys, settings) if file else None
    watchers: list[Any] = [watching.callback] if watching.callback else []
    with ExitStack() as stack:
        if watching.progress:
            from smcgen.progress import ProgressBar

            watchers.append(stack.enter_context(closing(ProgressBar())))
        run = _HostRun(model, resolved, keys, settings, watchers, saved, path)
        result = run.result(on_error)
    if on_error == "raise":
        raise_if_failed(result, run.shown)
    return result


def _run(model: Any, keys: Any, settings: Settings, path: Any) -> SMCResult:
    return _traced(resolve(model, settings.batches), keys, settings, path)


def _traced(model: Resolved, keys: Any, settings: Settings, path: Any = None) -> SMCResult:
    init_key, step_key = _split(keys)
    carry, first = body.first(model, init_key, settings, path)
    driver = TracedDriver()
    step = partial(body.step, model, step_key, settings, driver, path)
    if model.done:
        step = body.until_done(step, model, settings, driver)
    carry, infos = driver.loop(step, carry, 1, model.num_steps)
    history = None
    if settings.keep == "particles":
        stack = lambda a, b: jnp.concatenate([jnp.asarray(a)[None], b])
        history = jax.tree.map(stack, first.record, infos.record)
    return body.finish(model, carry, first, infos, history)


class _HostRun:
    """A run driven by Python: it can be watched, interrupted, checkpointed and resumed."""

    def __init__(
        self,
        original: Any,
        model: Resolved,
        keys: Any,
        settings: Settings,
        watchers: list,
        saved: Checkpoint | None,
        path: Any,
    ):
        compiled = lambda: model.jitted(original, settings.batches)
        self._model = compiled() if model.traceable else model.on_host()
        keys = keys if model.traceable else to_host(keys)
        with beside(keys):
            self._init_key, self._step_key = _split(keys)
        self._settings, self._watchers = settings, watchers
        self._meter = Meter()
        self._saved, self._path = saved, path
        self.shown: dict[int, str] = {}  # a failed problem's offender, described while it is there

    def result(self, on_error: str) -> SMCResult:
        """Run to the end, or to where it is stopped."""
        model, driver = self._model, HostDriver(self._stop, self._after)
        try:
            start, carry = self._begin(driver)
            step = partial(body.step, model, self._step_key, self._settings, driver, self._path)
            driver.loop(step, carry, start + 1, model.num_steps)
        except KeyboardInterrupt as interrupt:
            if driver.carry is None:
                raise
            result = self._so_far(driver)
            running = np.asarray(body.active(model, driver.carry))  # a finished problem is whole
            result = result.replace(status=np.where(running, Status.INTERRUPTED, result.status))
            if on_error == "return":
                return result
            message = f"interrupted after step {result.num_steps} of {model.num_steps}; .result has the run"
            raise SMCInterrupted(message, result) from interrupt
        except Exception as error:  # a model, reward or callback failed: nothing is lost
            if driver.carry is not None:
                step = len(driver.infos) + 1
                error.add_note(f"at step {step}; error.result has the run before it")
                error.result = self._so_far(driver)  # pyright: ignore[reportAttributeAccessIssue]
            raise
        finally:
            if model.close and driver.carry is not None:
                model.close(driver.carry.state)
        return self._so_far(driver)

    def _begin(self, driver: HostDriver) -> tuple[int, Carry]:
        resumed = self._saved.read() if self._saved else None
        if resumed:
            start, driver.carry, self._start, driver.infos = resumed
            self._meter.add(nfe=driver.carry.log_weights.size * (start + 1))
        else:
            start = 0
            driver.carry, self._start = body.first(
                self._model, self._init_key, self._settings, self._path, self._step_key
            )
            self._after(0, driver.carry, self._start, driver.infos)
        return start, driver.carry

    def _stop(self, carry: Carry) -> bool:
        return not np.asarray(body.active(self._model, carry)).any()

    def _after(self, t: int, carry: Carry, info: Info, infos: list[Info]) -> None:
        self._meter.add(nfe=carry.log_weights.size)
        status = np.asarray(carry.status)
        for b in np.flatnonzero(status).tolist() if status.any() else ():  # `Status.OK` is 0
            if b not in self.shown:
                particle = int(np.ravel(carry.status_particle)[b])
                show = self._model.describe
                self.shown[b] = show(carry.state, b, particle) if show else ""
        if self._saved:
            self._saved.write(t, carry, self._start, infos)
        if self._watchers:
            log_z, cost = carry.log_z + carry.lost, self._cost(carry)
            told = Progress(t, self._model.num_steps, carry.ess, log_z, info.resampled, cost)
            for watcher in self._watchers:
                watcher(told)

    def _cost(self, carry: Carry) -> Cost:
        own = self._model.cost(carry.state) if self._model.cost else None
        return self._meter.read() if own is None else own

    def _so_far(self, driver: HostDriver) -> SMCResult:
        infos = driver.infos
        stacked = _stacked(infos) if infos else _no_steps(driver.carry)
        history = (
            [i.record for i in (self._start, *infos)]
            if self._settings.keep == "particles"
            else None
        )
        if history and self._model.traceable:
            history = jax.tree.map(lambda *x: jnp.stack(x), *history)
        result = body.finish(self._model, driver.carry, self._start, stacked, history)
        return result.replace(cost=self._cost(driver.carry))


def _stacked(infos: list[Info]) -> Info:
    infos = [info._replace(record=None) for info in infos]
    return jax.tree.map(lambda *x: np.stack([np.asarray(a) for a in x]), *infos)


def _no_steps(carry: Carry) -> Info:
    per_problem, per_particle = (0, *carry.ess.shape), (0, *carry.log_weights.shape)
    resampled, floats = np.zeros(per_problem, bool), np.zeros(per_problem, np.float32)
    weights = np.zeros(per_particle, np.float32)
    return Info(np.zeros(per_particle, np.int32), resampled, floats, floats, floats, None, weights)


def _split(keys: Any) -> tuple[Any, Any]:
    """One key for `init`, one from which every step's key is folded."""
    if keys.ndim == 0:
        first, steps = jax.random.split(keys)
        return first, steps
    both = jax.vmap(jax.random.split)(keys)
    return both[:, 0], both[:, 1]
