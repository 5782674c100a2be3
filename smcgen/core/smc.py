"""Sequential Monte Carlo: one body, two drivers."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from smcgen.core import body
from smcgen.core import compile as compiling
from smcgen.core._types import RandomKey
from smcgen.core.body import Carry, Info, Keep, Settings
from smcgen.core.checkpoint import Checkpoint
from smcgen.core.cost import Cost, Meter
from smcgen.core.drivers import HostDriver, TracedDriver
from smcgen.core.failures import raise_if_failed
from smcgen.core.feynman_kac import Model
from smcgen.core.resampling import Resampling
from smcgen.core.resampling import resolve as resampling_scheme
from smcgen.core.resolve import Resolved, resolve
from smcgen.core.result import SMCResult
from smcgen.core.select import Adaptive
from smcgen.core.status import SMCInterrupted, Status
from smcgen.errors import InvalidArgument, UnknownName


class Progress(NamedTuple):
    """What a callback is told after each step."""

    t: int
    num_steps: int
    ess: Any
    log_evidence: Any
    resampled: Any
    cost: Cost


def smc(
    model: Model,
    key: RandomKey | int,
    n_particles: int = 1024,
    *,
    resampling: str | Resampling = "systematic",
    ess_threshold: float = 0.5,
    keep: Keep = "ancestors",
    on_error: Literal["raise", "return"] = "raise",
    progress: bool = False,
    callback: Callable[[Progress], None] | None = None,
    checkpoint: str | Path | None = None,
) -> SMCResult:
    """Run a particle filter on a Feynman-Kac model.

    At t = 0, `x_0 ~ M_0` and `W_0 ∝ G_0`. At t = 1..T: if `ESS < ess_threshold * n`, draw ancestors by
    weight and set the weights to 1/n; move by `M_t`; multiply the weights by `G_t`. With

        log Z-hat = sum_t log sum_i W_{t-1}^i G_t(x_t^i)

    `E[Z-hat] = Z` and `E[Z-hat * pi-hat(f)] = Z * pi(f)` for every n, scheme and threshold (Del Moral 2004; adaptive
    resampling: Del Moral, Doucet and Jasra 2012, Whiteley, Lee and Heine 2016).

    Args:
        model: a `FeynmanKac` model, or any object with its required methods.
        key: a JAX key or a seed; shape (problems,) gives each problem its own. It fixes the whole run.
        n_particles: particles (per problem).
        resampling: a scheme or its name, see `smcgen.core.resampling`.
        ess_threshold: resample when ESS falls below this fraction of n; 1 always, 0 never.
        keep: what is remembered of the way: "summary" (ESS and evidence), "ancestors", or
            "particles" (the model's record of every population).
        on_error: "raise" `SMCError` when all weights are zero or a potential is not finite, or
            "return" the run so far with its status. Inside a JAX transformation always "return".
        progress: show a progress bar.
        callback: called with a `Progress` after each step.
        checkpoint: a file written after each step. If it exists, the run goes on from it, and
            gives what the uninterrupted run would have given.

    Returns:
        An `SMCResult`.

    Raises:
        InvalidArgument: an argument is not allowed.
        ModelError: the model is not a Feynman-Kac model, or returns arrays of the wrong shape.
        SMCError: the run failed (`error.result` has it so far).
        SMCInterrupted: Ctrl-C, also a KeyboardInterrupt (`.result` has the run so far).
    """
    resolved = resolve(model)
    settings = _settings(n_particles, resampling, ess_threshold, keep)
    if on_error not in ("raise", "return"):
        raise InvalidArgument("on_error", on_error, "'raise' or 'return'")
    keys = keys_of(key, resolved.num_problems)
    if resolved.traceable and not (progress or callback or checkpoint):
        if compiling.inside_trace():
            return _traced(resolved, keys, settings)
        meter = Meter()
        run = compiling.jitted(_run, model, static=(1,))
        result = jax.block_until_ready(run(keys, settings))
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
    saved = Checkpoint(Path(checkpoint), resolved, model, keys, settings) if checkpoint else None
    watchers: list[Any] = [callback] if callback else []
    with ExitStack() as stack:
        if progress:
            from smcgen.progress import ProgressBar

            watchers.append(stack.enter_context(closing(ProgressBar())))
        run = _HostRun(model, resolved, keys, settings, watchers, saved)
        result = run.result(on_error)
    if on_error == "raise":
        raise_if_failed(result, run.shown)
    return result


def _run(model: Any, keys: Any, settings: Settings) -> SMCResult:
    return _traced(resolve(model), keys, settings)


def _traced(model: Resolved, keys: Any, settings: Settings) -> SMCResult:
    init_key, step_key = _split(keys)
    carry, first = body.first(model, init_key, settings)
    driver = TracedDriver()
    step = partial(body.step, model, step_key, settings, driver)
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
    ):
        self._model = model.jitted(original) if model.traceable else model.on_host()
        self._init_key, self._step_key = _split(keys)
        self._settings, self._watchers = settings, watchers
        self._meter = Meter()
        self._saved = saved
        self.shown: dict[int, str] = {}  # a failed problem's offender, described while it is there

    def result(self, on_error: str) -> SMCResult:
        """Run to the end, or to where it is stopped."""
        model, driver = self._model, HostDriver(self._stop, self._after)
        try:
            start, carry = self._begin(driver)
            step = partial(body.step, model, self._step_key, self._settings, driver)
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
            driver.carry, self._start = body.first(self._model, self._init_key, self._settings)
            self._after(0, driver.carry, self._start, driver.infos)
        return start, driver.carry

    def _stop(self, carry: Carry) -> bool:
        return not np.any(np.asarray(body.active(self._model, carry)))

    def _after(self, t: int, carry: Carry, info: Info, infos: list[Info]) -> None:
        self._meter.add(nfe=carry.log_weights.size)
        status = np.ravel(carry.status)
        for b in np.flatnonzero(status != Status.OK).tolist():
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
        return self._model.cost(carry.state) if self._model.cost else self._meter.read()

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
    return Info(np.zeros(per_particle, np.int32), resampled, floats, floats, None)


def _settings(n: Any, resampling: Any, ess_threshold: Any, keep: Any) -> Settings:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise InvalidArgument("n_particles", n, "an integer >= 1")
    if not isinstance(ess_threshold, Real) or not 0 <= float(ess_threshold) <= 1:
        raise InvalidArgument("ess_threshold", ess_threshold, "a number in [0, 1]")
    if keep not in get_args(Keep):
        raise UnknownName("keep", keep, get_args(Keep))
    return Settings(int(n), Adaptive(resampling_scheme(resampling), float(ess_threshold)), keep)


def keys_of(key: Any, problems: int | None) -> Any:
    """A typed key, or one per problem."""
    if isinstance(key, bool) or not (hasattr(key, "dtype") or isinstance(key, int)):
        raise InvalidArgument("key", key, "a JAX key or an integer seed")
    if isinstance(key, int | np.integer):
        key = jax.random.key(int(key))
    elif not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    if key.ndim == 0 and problems is not None:
        key = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(problems))
    if key.shape != (() if problems is None else (problems,)):
        allowed = (
            "one key" if problems is None else f"one key, or one for each of {problems} problems"
        )
        raise InvalidArgument("key", key.shape, allowed)
    return key


def _split(keys: Any) -> tuple[Any, Any]:
    """One key for `init`, one from which every step's key is folded."""
    if keys.ndim == 0:
        first, steps = jax.random.split(keys)
        return first, steps
    both = jax.vmap(jax.random.split)(keys)
    return both[:, 0], both[:, 1]
