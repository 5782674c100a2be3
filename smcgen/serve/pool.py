"""The worker pool: a few threads, a bounded queue, and jobs that can be stopped between two steps.

    submit → waiting (at most `waiting`, else QueueFull) → running (at most `threads`) → its future is set

How many runs share the engine is a property of the pool: `threads`. An engine whose sessions are independent
(transformers: separate populations, each forward pass under the model's own lock) takes several, so that a short
request is not stuck behind a long one; an engine that takes one run at a time gets a pool of one thread.

A job is stopped by an exception out of the callback that `smcgen.smc` calls after each step, so a run always ends
between two steps, its sessions closed, and `error.result` has what there is.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from smcgen.core.arguments import check_counts

Work = Callable[[Callable[[Any], None]], Any]
_SMOOTH = 0.2  # weight of the latest run in the mean duration that Retry-After is made from


class QueueFull(Exception):
    """No room to wait; `seconds` is about when there may be."""

    def __init__(self, running: int, waiting: int, seconds: float):
        super().__init__(
            f"the queue is full: {running} running, {waiting} waiting; try again later"
        )
        self.seconds = seconds


class Draining(Exception):
    """The pool takes no more jobs."""


class Stopped(Exception):
    """A job was stopped: "timeout", "disconnect" or "shutdown"."""

    def __init__(self, reason: str):
        super().__init__(f"stopped: {reason}")
        self.reason = reason


class Job:
    """One request's run.

    Attributes:
        future: what the run returned or raised.
        deadline: when it must have ended, by `time.monotonic`.
        progress: what the run told after its latest step; None before.
        queued, ran: seconds spent waiting and running, once known.
    """

    def __init__(self, pool: "Pool", work: Work, seconds: float, label: str):
        self._pool, self._work, self.label = pool, work, label
        self.future: Future = Future()
        self.future.set_running_or_notify_cancel()  # it is ended by its worker or by `stop`, never cancelled
        self.submitted = time.monotonic()
        self.deadline = self.submitted + seconds
        self.progress: Any = None
        self.reason: str | None = None
        self.queued = self.ran = 0.0
        self._settling = threading.Lock()

    def stop(self, reason: str) -> None:
        """End the job: at once if it waits, after its current step if it runs. The first reason counts."""
        self.reason = self.reason or reason
        self._pool.forget(self)

    def give_up(self, reason: str) -> None:
        """Whoever waits is told now; the run itself still goes on to the end of its step."""
        self.stop(reason)
        self.settle(Stopped(self.reason or reason))

    def settle(self, error: BaseException | None, value: Any = None) -> None:
        """Set the future, unless that has been done: a job may have been given up."""
        with self._settling:
            if self.future.done():
                return
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(value)

    def run(self) -> Any:
        """Do the work in this thread."""
        return self._work(self._watch)

    def _watch(self, progress: Any) -> None:
        self.progress = progress
        if self.reason is None and time.monotonic() > self.deadline:
            self.reason = "timeout"
        if self.reason is not None:
            raise Stopped(self.reason)


class Pool:
    """`threads` workers and room for `waiting` more jobs; `on_end(job, error)` is told of every job's end."""

    def __init__(
        self,
        threads: int,
        waiting: int,
        on_end: Callable[[Job, BaseException | None], None] = lambda job, error: None,
    ):
        check_counts(max_concurrent=threads)
        check_counts(0, max_queue=waiting)
        self._threads, self._room, self._on_end = threads, waiting, on_end
        self._waiting: deque[Job] = deque()
        self._running: set[Job] = set()
        self._changed = threading.Condition()
        self._draining = self._closed = False
        self._mean = 1.0  # seconds a run takes
        # daemons: a reward that never returns must not keep the process from ending
        for i in range(threads):
            threading.Thread(target=self._serve, name=f"smcgen-{i}", daemon=True).start()

    @property
    def running(self) -> int:
        """Jobs that run."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    @property
    def draining(self) -> bool:
        """Whether new jobs are refused for good."""
        return self._draining

    def check_room(self) -> None:
        """Raise `Draining` or `QueueFull` if a job would be refused now."""
        if self._draining:
            raise Draining
        # one that an idle worker is about to take does not wait
        if len(self._waiting) + len(self._running) >= self._threads + self._room:
            ahead = (len(self._waiting) + 1) / self._threads
            # spread out, or all who were refused come back at once
            seconds = ahead * self._mean * random.uniform(0.5, 1.5)
            raise QueueFull(self.running, self.waiting, seconds)

    def submit(self, work: Work, seconds: float, label: str = "") -> Job:
        """Queue `work(callback)`; it is stopped `seconds` from now.

        Raises:
            QueueFull, Draining: it was not taken.
        """
        job = Job(self, work, seconds, label)
        with self._changed:
            self.check_room()
            self._waiting.append(job)
            self._changed.notify()
        return job

    def forget(self, job: Job) -> None:
        """Take a stopped job out of the queue, if it still waits."""
        with self._changed:
            if job not in self._waiting:
                return
            self._waiting.remove(job)
        self._end(job, Stopped(job.reason or "disconnect"))

    def drain(self) -> None:
        """Refuse new jobs; those that were taken go on."""
        self._draining = True

    def stop_all(self, reason: str, at_once: bool = False) -> None:
        """Stop every job; `at_once` waits for no step to end, and whoever waits for a job is told."""
        with self._changed:
            jobs = [*self._waiting, *self._running]
        for job in jobs:
            (job.give_up if at_once else job.stop)(reason)

    def close(self) -> None:
        """Stop every job and end the threads."""
        self.drain()
        self.stop_all("shutdown")
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                job = self._waiting.popleft()
                self._running.add(job)
            began = time.monotonic()
            job.queued = began - job.submitted
            value, error = None, None
            try:
                value = job.run()
            except BaseException as raised:  # whatever it is, it is the job's: the thread lives on
                error = raised
            job.ran = time.monotonic() - began
            with self._changed:  # the slot is free before anyone can know that the job has ended
                self._running.discard(job)
                self._mean += _SMOOTH * (job.ran - self._mean)
            self._end(job, error, value)
            del job, value, error  # an idle worker keeps no population alive

    def _end(self, job: Job, error: BaseException | None, value: Any = None) -> None:
        try:
            self._on_end(job, error)
        finally:  # whoever waits is told, whatever becomes of the counting
            job.settle(error, value)
