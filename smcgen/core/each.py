"""Many runs at once, each at its own pace.

`smc` moves all problems of a model together: each step waits for the slowest. Where an engine serves many
populations (vLLM, a server over HTTP) nobody needs to wait: one model per problem, one thread per run, and
while one run scores or resamples the others keep the engine busy.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Literal

from smcgen.core._types import RandomKey
from smcgen.core.arguments import keys_of
from smcgen.core.feynman_kac import Model
from smcgen.core.interrupts import interrupt_all
from smcgen.core.result import SMCResult
from smcgen.core.run import Progress
from smcgen.core.smc import smc
from smcgen.core.status import SMCInterrupted
from smcgen.errors import InvalidArgument

_PATIENCE = 0.1  # seconds that the first runs wait for each other
_MOMENT = 0.02  # seconds between looks whether interrupted runs have ended


def smc_each(
    models: Sequence[Model],
    key: RandomKey | int,
    n_particles: int = 1024,
    *,
    workers: int = 64,
    on_error: Literal["raise", "return"] = "raise",
    progress: bool = False,
    callback: Callable[[int, Progress], None] | None = None,
    checkpoint: str | Path | None = None,
    **options: Any,
) -> list[SMCResult]:
    """Run a particle filter on each of several models, concurrently.

    Run b has the key `fold_in(key, b)`, which is the key that problem b has when all are problems of one
    model: the results are the same.

    Args:
        models: host-driven models, one problem each, on an engine that threads may share.
        key: a JAX key or a seed, or one key for each model.
        n_particles: particles in each run.
        workers: most runs at a time.
        on_error: "raise" the first error once all other runs have ended, or "return" what there is (None for
            a run that had not begun when Ctrl-C came).
        progress: show how many runs have ended.
        callback: called with a run's number and its `Progress`, from the run's thread.
        checkpoint: a folder with a file for each run.
        **options: see `smcgen.smc`.

    Returns:
        An `SMCResult` for each model.

    Raises:
        SMCError, SMCInterrupted and whatever a model raises: `error.result` is the list of results so
            far, None for a run that has none.
    """
    if workers < 1:
        raise InvalidArgument("workers", workers, "an integer >= 1")
    if not models:
        return []
    keys = keys_of(key, len(models))
    folder = None if checkpoint is None else Path(checkpoint)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    results: list[Any] = [None] * len(models)
    errors: list[tuple[int, BaseException]] = []
    under_way: set[int] = set()
    line = _StartingLine(min(workers, len(models)))

    def run(b: int) -> None:
        def watch(told: Progress) -> None:
            line.reach(b)
            if callback is not None:
                callback(b, told)
            if stop.is_set():
                raise KeyboardInterrupt

        under_way.add(b)  # before the look: whoever is not in it when `stop` is set will not begin
        try:
            if stop.is_set():
                return
            results[b] = smc(
                models[b],
                keys[b],
                n_particles,
                on_error=on_error,
                callback=watch,
                checkpoint=None if folder is None else folder / f"{b:06d}",
                **options,
            )
        except BaseException as error:  # told to the caller once all others are done
            results[b] = getattr(error, "result", None)
            errors.append((b, error))
        finally:
            under_way.discard(b)
            line.reach(b)

    with ThreadPoolExecutor(min(workers, len(models)), "smcgen-run") as pool, ExitStack() as stack:
        shown = _nothing
        if progress:
            from smcgen.progress import CountBar

            shown = stack.enter_context(closing(CountBar("runs", len(models))))
        try:
            futures = [pool.submit(run, b) for b in range(len(models))]
            for done, _ in enumerate(as_completed(futures), 1):
                shown(done)
        except KeyboardInterrupt:  # each run ends with its present step at the latest, and is kept
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            interrupt_all()
            # not the pool's threads: it does not know one in whose start Ctrl-C came
            while under_way:
                time.sleep(_MOMENT)
                interrupt_all()  # who was about to wait for somebody waits now
            if on_error == "return":
                return results
            message = f"interrupted; .result has the {len(models)} runs as far as they came"
            raise SMCInterrupted(message, results) from None
    if errors:
        b, error = min(errors, key=lambda pair: pair[0])
        error.add_note(f"in run {b} of {len(models)}; error.result has all of them")
        error.result = results  # pyright: ignore[reportAttributeAccessIssue]
        raise error
    return results


class _StartingLine:
    """Where the first runs wait until all of them have begun, so that an engine gets their first steps together.

    Starting threads takes milliseconds for each while others are at work. Whoever needs long is not waited for.
    """

    def __init__(self, runs: int):
        self._missing, self._lock, self._all = set(range(runs)), threading.Lock(), threading.Event()

    def reach(self, run: int) -> None:
        """This run has begun, or ended."""
        if self._all.is_set():
            return
        with self._lock:
            self._missing.discard(run)
            if not self._missing:
                self._all.set()
        self._all.wait(_PATIENCE)
        self._all.set()


def _nothing(done: int) -> None:
    """No bar."""
