"""A server's inside: requests become jobs, jobs become replies. No HTTP here but its errors."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from smcgen.core.status import Status
from smcgen.errors import EngineError
from smcgen.scaling.outcome import Outcome
from smcgen.serve.config import Config
from smcgen.serve.failures import APIError, engine_dead, from_run, log
from smcgen.serve.metrics import Metrics
from smcgen.serve.plan import plan
from smcgen.serve.pool import Job, Pool, Stopped
from smcgen.serve.reply import Kind, Reply, report, so_far
from smcgen.serve.schema import Ask, CompletionAsk
from smcgen.serve.steering import Callback, Steering
from smcgen.serve.strategies import STRATEGIES

_FIRST = asyncio.FIRST_COMPLETED
_WARM = 8  # tokens of each text of a warm-up
LATE = 10.0  # seconds that a stopped run has to come to the end of its step, before it is answered without it


class Service:
    """The pool and the counters of one server."""

    def __init__(self, config: Config):
        self.config = config
        self.metrics = Metrics()
        self.pool = Pool(config.max_concurrent, config.max_queue, self.metrics.ended)
        self.metrics.watch(self.pool, lambda: self.dead is None)

    @property
    def dead(self) -> BaseException | None:
        """What ended the engine for good; None while it lives, and for engines that do not say."""
        return getattr(self.config.engine, "dead", None)

    def warm_up(self) -> None:
        """Write a few tokens as the default strategy would: programs are compiled and tables made by then.

        A failure is logged; requests will tell of it.
        """
        most = min(self.config.max_tokens, _WARM)
        ask = CompletionAsk(model=self.config.model, prompt=[0], max_tokens=most, seed=0)
        try:
            steering = plan(self.config, ask)
            STRATEGIES[steering.strategy].run(steering, lambda progress: None)
        except Exception:
            log.warning("the warm-up failed", exc_info=True)

    async def submit(self, ask: Ask, kind: Kind) -> tuple[Job, Reply]:
        """Queue a request.

        Raises:
            InvalidArgument, APIError: it is not allowed, or the engine is dead.
            QueueFull, Draining: there is no room.
        """
        if self.dead is not None:
            raise engine_dead(self.dead)
        self.pool.check_room()  # before a long prompt is read for nothing
        steering = await asyncio.to_thread(plan, self.config, ask)
        run = STRATEGIES[steering.strategy].run

        def work(callback: Callback) -> Outcome:
            return self._counted(run, steering, callback)

        job = self.pool.submit(work, self.config.timeout, steering.strategy)
        return job, Reply(kind, self.config.model, steering)

    def _counted(self, run: Any, steering: Steering, callback: Callback) -> Outcome:
        """A run, with what it cost counted even if it was stopped."""
        try:
            chosen = run(steering, callback)
        except BaseException as error:
            so_far = getattr(error, "result", None)
            if isinstance(so_far, Outcome):
                self.metrics.spent(so_far.cost)
            raise
        self.metrics.spent(chosen.cost)
        return chosen


async def follow(job: Job, gone: asyncio.Future, every: float) -> AsyncIterator[Job]:
    """Yield the job each `every` seconds until it has ended; stop it if the client leaves or time is up."""
    ended = asyncio.wrap_future(job.future)
    ended.add_done_callback(
        lambda future: future.cancelled() or future.exception()
    )  # seen, if not awaited
    until = job.deadline
    try:
        while not ended.done():
            left = max(0.0, until - time.monotonic())
            await asyncio.wait({ended, gone}, timeout=min(every, left), return_when=_FIRST)
            if gone.done():
                job.stop("disconnect")
                return
            if not ended.done() and time.monotonic() >= until:
                if job.reason is not None:  # it was told, and its step does not end
                    return
                job.stop("timeout")
                until = time.monotonic() + LATE
            if not ended.done():
                yield job
    finally:
        if not job.future.done():  # also when this handler itself is cancelled
            job.stop("disconnect")


def outcome(job: Job, reply: Reply) -> Outcome:
    """What an ended (or given up) job chose.

    Raises:
        APIError: it failed, was stopped, or found no text possible.
    """
    if not job.future.done():
        raise from_run(Stopped(job.reason or "disconnect"))
    error = job.future.exception()
    if error is not None:
        result = getattr(error, "result", None)
        partial = None
        if isinstance(result, Outcome):
            partial = so_far(reply.steering, result) | {"text": result.text}
        dead = getattr(reply.steering.engine, "dead", None)
        if dead is not None and isinstance(error, EngineError):
            log.error("the engine has died", exc_info=error)
            raise engine_dead(dead) from error
        raise from_run(error, partial) from error
    chosen: Outcome = job.future.result()
    status = chosen.status
    if status is not Status.OK:
        what = {
            Status.ALL_WEIGHTS_ZERO: "no text is possible under the reward",
            Status.NON_FINITE_POTENTIAL: "the reward gave a value that is not a finite number",
        }
        message = f"the run ended with status {status.name}: {what.get(status, 'it was stopped')}"
        code = status.name.lower()
        raise APIError(422, message, code=code, smcgen=report(reply.steering, chosen))
    return chosen
