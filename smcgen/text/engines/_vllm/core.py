"""One vLLM engine driven for many populations at once.

A population (`Writer`) asks for a step and waits until its own rows have written it; whichever thread waits first steps
the engine, for all of them. So problems that run in threads of their own never wait for each other, and one
scores its texts while others write. The engine is touched by one thread at a time, between its steps.
"""

import gc
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from smcgen.errors import EngineError
from smcgen.text.engines._vllm.drawing import Drawing
from smcgen.text.engines._vllm.port import Port, name_of, number_of
from smcgen.text.engines._vllm.processor import HANDLE
from smcgen.text.engines._vllm.scheduler import FORK, ParticleScheduler
from smcgen.text.engines._vllm.writer import Writer


class Core:
    """An engine in this process, and the particles that live in it.

    Args:
        build: makes an `LLMEngine` with a `ParticleScheduler` and a processor that asks its argument.
        restarts: how often an engine that dies is built again.
    """

    def __init__(self, build: Callable[[Any], Any], restarts: int):
        self._build, self.restarts = build, restarts
        self._condition = threading.Condition()
        self._pumping = False
        self._inbox: list[Callable[[], None]] = []  # what waits for the engine to stand still
        self._open: list[Any] = []  # writers at work
        self._failures: dict[Any, BaseException] = {}
        self._numbers = count()
        self._drawing = Drawing()
        self._where = self._drawing.where  # request number -> (writer, row)
        self._there: set[int] = set()  # numbers of the requests that the engine has
        self.dead: BaseException | None = None
        self._suspect = False  # a step was interrupted: the engine's state is not known
        self.engine: Any = build(self._drawing)
        self._port = Port(self.engine)

    @property
    def scheduler(self) -> ParticleScheduler:
        """The engine's."""
        return self.engine.engine_core.engine_core.scheduler

    @property
    def model(self) -> torch.nn.Module:
        """The model, as vLLM runs it."""
        return self.engine.model_executor.driver_worker.get_model()

    # ---- what populations ask for -----------------------------------------------------------------

    def number(self, writer: Writer, row: int) -> int:
        """A number for the request that this row will have."""
        number = next(self._numbers)
        self._where[number] = writer, row
        return number

    def move(self, number: int, writer: Writer, row: int) -> None:
        """A request belongs to another row now."""
        self._where[number] = writer, row

    def abort(self, numbers: Iterable[int]) -> None:
        """These requests are not needed any more."""
        gone = list(numbers)
        for number in gone:
            self._where.pop(number, None)
        if gone:
            with self._condition:
                self._inbox.append(lambda: self._abort(gone))

    def settle(self) -> None:
        """Do what was asked and waits, unless the engine is at work and will do it itself."""
        with self._condition:
            if not self._pumping and self.dead is None:
                self._drain()

    def write(self, writer: Writer, rows: Sequence[int]) -> None:
        """Let these rows write until none of them is active; blocks.

        Raises:
            EngineError: the engine has died.
        """
        with self._condition:
            self._alive()
            self._inbox.append(lambda: self._start(writer, rows))
            self._open.append(writer)
            try:
                while writer in self._open:
                    if self._pumping:
                        self._condition.wait()
                    else:
                        self._pump(writer)
            except BaseException:  # Ctrl-C: the run is over
                if writer in self._open:
                    self._open.remove(writer)
                self._inbox.append(lambda: self._abort(writer.requests))
                raise
            failure = self._failures.pop(writer, None)
        if failure is not None:
            raise failure

    def run(self, action: Callable[[Any], Any]) -> Any:
        """`action(engine)`, alone with the engine; the particles stand still meanwhile."""
        with self._condition:
            self._alive()
            while self._pumping:
                self._condition.wait()
            self._pumping = True
            held = [i for i, r in self.scheduler.requests.items() if r in self.scheduler.running]
        try:
            self.scheduler.pause(held)
            return action(self.engine)
        finally:
            self.scheduler.resume(held)
            with self._condition:
                self._pumping = False
                self._condition.notify_all()

    def close(self) -> None:
        """Shut the engine down."""
        with self._condition:
            while self._pumping:
                self._condition.wait()
            if self.dead is None:
                self.dead = EngineError("it was closed")
                self.engine.engine_core.shutdown()
            self.engine = None

    # ---- the engine's turn ------------------------------------------------------------------------

    def _alive(self) -> None:
        if self.dead is not None:
            why = f"the engine is gone ({type(self.dead).__name__}: {self.dead}); make a new one"
            raise EngineError(why) from self.dead

    def _drain(self) -> None:
        if self._suspect:
            self._suspect = False
            self._again(rebuild=False)
        inbox, self._inbox = self._inbox, []
        for action in inbox:
            action()

    def _pump(self, writer: Any) -> None:
        """Step the engine until `writer` has what it asked for. The lock is held outside of steps."""
        self._pumping = True
        try:
            while True:
                self._drain()
                if writer not in self._open:
                    return
                self._condition.release()
                try:
                    self._turn()
                finally:
                    self._condition.acquire()
        finally:
            self._pumping = False
            self._condition.notify_all()

    def _turn(self) -> None:
        """One step of the engine, for all writers."""
        try:
            outputs = list(self._port.step())
        except Exception as error:
            self._died(error)
            return
        except BaseException:
            self._suspect = True
            raise
        advanced: dict[Any, list[int]] = defaultdict(list)
        for name, got_token, finished in outputs:
            number = number_of(name)
            writer, row = self._where.get(number, (None, 0))
            if finished:
                self._there.discard(number)
            if writer is not None and got_token:
                advanced[writer].append(row)
        for name, tokens in self.scheduler.take_prefilled().items():
            if (number := number_of(name)) in self._where:
                self._where[number][0].read(tokens)
        while self._drawing.broken:
            self._fail(*self._drawing.broken.popitem())
        for writer, rows in advanced.items():
            if writer in self._open:
                self._advance(writer, np.array(rows))
        if self.scheduler.idle > 2:
            error = EngineError(
                "out of KV memory: not even one text fits; raise kv_cache_memory_bytes (or "
                "gpu_memory_utilization), or lower max_length"
            )
            for writer in list(self._open):
                self._fail(writer, error)

    def _advance(self, writer: Any, rows: Int[np.ndarray, " m"]) -> None:
        try:
            pause, go_on = writer.advance(rows)
        except Exception as error:  # a factor's or a user's function
            self._fail(writer, error)
            return
        names = lambda rows: [name_of(r) for i in rows if (r := writer.requests[i]) in self._there]
        self.scheduler.pause(names(pause))
        self.scheduler.resume(names(go_on))
        if not len(writer.active):
            self._closed(writer)

    def _closed(self, writer: Any) -> None:
        with self._condition:
            if writer in self._open:
                self._open.remove(writer)
            self._condition.notify_all()

    def _fail(self, writer: Any, error: BaseException) -> None:
        self._abort(writer.requests)
        self._failures[writer] = error
        self._closed(writer)

    def _died(self, error: Exception) -> None:
        if self.restarts > 0:
            self.restarts -= 1
            warnings.warn(
                f"the engine died ({type(error).__name__}: {error}); it is built again and the "
                f"texts go on where they were ({self.restarts} restarts left)",
                RuntimeWarning,
                stacklevel=2,
            )
            self._again(rebuild=True)
            return
        self.dead = error
        for writer in list(self._open):
            failure = EngineError(f"the engine died: {type(error).__name__}: {error}")
            failure.__cause__ = error
            self._failures[writer] = failure
            self._closed(writer)

    def _again(self, rebuild: bool) -> None:
        """Start what is being written anew, from the texts as they are."""
        if rebuild:
            with suppress(Exception):
                self.engine.engine_core.shutdown()
            self.engine = None
            gc.collect()
            self.engine = self._build(self._drawing)
            self._port = Port(self.engine)
            self._there.clear()
        else:
            self._abort(list(self._there))
        for writer in list(self._open):
            self._start(writer, writer.active)

    def _start(self, writer: Any, rows: Sequence[int]) -> None:
        """Rows go on with their requests, or get one."""
        try:
            resumed = []
            for row in rows:
                if (number := writer.requests[row]) in self._there:
                    resumed.append(name_of(number))
                else:
                    self._add(writer, row)
            self.scheduler.resume(resumed)
        except Exception as error:
            self._fail(writer, error)

    def _add(self, writer: Any, row: int) -> None:
        number = writer.requests[row]
        if number is None:
            number = writer.requests[row] = self.number(writer, row)
        extra: dict[str, Any] = {HANDLE: number}
        if writer.parents[row] in self._there:
            extra[FORK] = name_of(writer.parents[row])
        self._port.add(name_of(number), writer.text(row), extra)
        self._there.add(number)
        writer.parents[row] = None

    def _abort(self, numbers: Iterable[int | None]) -> None:
        gone = self._there.intersection(numbers)
        self._there -= gone
        if gone and self.dead is None:
            self._port.abort([name_of(number) for number in gone])
