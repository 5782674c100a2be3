"""One vLLM engine driven for many populations at once.

A population (`Writer`) asks for a step and waits until its own rows have written it; whichever thread waits first steps
the engine, for all of them. So problems that run in threads of their own never wait for each other, and one
scores its texts while others write. The engine is touched by one thread at a time, between its steps.
"""

import gc
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import numpy as np
from jaxtyping import Int

from smcgen.errors import EngineError
from smcgen.text.engines._vllm.company import Company
from smcgen.text.engines._vllm.drawing import Drawing
from smcgen.text.engines._vllm.requests import Requests
from smcgen.text.engines._vllm.scheduler import STARVED, ParticleScheduler
from smcgen.text.engines._vllm.writer import Writer


class Core:
    """An engine in this process, and the particles that live in it.

    Args:
        build: a `Build` or `Adopted`: makes an `LLMEngine` with a `ParticleScheduler`, which asks its argument
            for tokens, and shuts one down.
        restarts: how often an engine that dies is built again.
    """

    def __init__(self, build: Any, restarts: int):
        self._build, self.restarts = build, restarts
        self._condition = threading.Condition()
        self._company = Company(self._condition)
        self._pumping = 0  # the thread that steps the engine
        self._inbox: list[Callable[[], None]] = []  # what waits for the engine to stand still
        self._open: list[Any] = []  # writers at work
        self._failures: dict[Any, BaseException] = {}
        self._numbers = count()
        self._drawing = Drawing()
        self._where = self._drawing.where  # name of a request -> (writer, row)
        self.dead: BaseException | None = None
        self._suspect = False  # a step was interrupted: the engine's state is not known
        self._make()

    def _make(self) -> None:
        self.engine: Any = self._build(self._drawing)
        self._requests = Requests(self.engine, self.name, self._where)

    def _unmake(self) -> None:
        """End the engine and let go of all that knows its memory."""
        with suppress(Exception):
            self._build.shut(self.engine)
        for name in ("engine", "_requests"):  # they are gone if it has been ended before
            self.__dict__.pop(name, None)
        self._drawing.forget()

    @property
    def scheduler(self) -> ParticleScheduler:
        return self._requests.scheduler

    def name(self, writer: Writer, row: int) -> str:
        """A name for the request that this row will have; others may have requests of their own."""
        name = f"particle-{next(self._numbers)}"
        self._where[name] = writer, row
        return name

    def move(self, name: str, writer: Writer, row: int) -> None:
        """A request belongs to another row now."""
        self._where[name] = writer, row

    def abort(self, names: Iterable[str]) -> None:
        """These requests are not needed any more."""
        gone = list(names)
        for name in gone:
            self._where.pop(name, None)
        if gone:
            with self._condition:
                self._inbox.append(lambda: self._abort(gone))

    def joined(self, writer: Writer) -> None:
        """A population that will write many steps."""
        with self._condition:
            self._company.joined(writer)

    def gone(self, writer: Writer) -> None:
        """It will write no more."""
        with self._condition:
            self._company.gone(writer)

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
            try:
                self._inbox.append(lambda: self._start(writer, rows))
                self._open.append(writer)
                self._company.came(writer)
                while writer in self._open:
                    if self._pumping:
                        self._condition.wait()
                    else:
                        self._pump(writer)
            except BaseException:  # Ctrl-C: the run is over
                if writer in self._open:
                    self._open.remove(writer)
                    self._company.left(writer)
                self._inbox.append(lambda: self._abort(writer.requests))
                raise
            failure = self._failures.pop(writer, None)
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Shut the engine down; who still writes is told."""
        with self._condition:
            self._outside()
            while self._pumping:
                self._condition.wait()
            if self.dead is None:
                self._end(EngineError("it was closed"))
            self._unmake()

    def _outside(self) -> None:
        if self._pumping == threading.get_ident():
            raise EngineError("a function called in a step of the engine needs another engine")

    def _alive(self) -> None:
        self._outside()
        if self.dead is not None:
            why = f"the engine is gone ({type(self.dead).__name__}: {self.dead}); make a new one"
            raise EngineError(why) from self.dead

    def _drain(self) -> None:
        """Do what waits for the engine to stand still."""
        try:
            if self._suspect:
                self._again(rebuild=False)
            while self._inbox and self.dead is None:
                self._inbox.pop(0)()
        except Exception as error:
            self._died(error)
        except BaseException:  # Ctrl-C: somebody's rows may have begun by half
            self._suspect = True
            raise

    def _pump(self, writer: Any) -> None:
        """Step the engine until `writer` has what it asked for. The lock is held outside of steps."""
        self._pumping = threading.get_ident()
        try:
            while True:
                self._drain()
                if writer not in self._open:
                    return
                if self._company.gather(self._open):
                    continue  # they have something to be done, too
                self._company.stepping(self._open)
                began = time.perf_counter()
                try:
                    self._condition.release()  # in here: Ctrl-C comes when it has returned
                    self._turn()
                finally:
                    self._condition.acquire()
                self._company.stepped(time.perf_counter() - began)
        finally:
            self._pumping = 0
            self._condition.notify_all()

    def _turn(self) -> None:
        """One step of the engine, for all writers. Whatever goes wrong, texts are as they were told to be."""
        try:
            self._step()
        except Exception as error:
            self._died(error)
        except BaseException:  # Ctrl-C: some writers may not have been told of their tokens
            self._suspect = True
            raise

    def _step(self) -> None:
        out = self._requests.step()
        self._drawing.tell()
        for name, writer, row in self._drawing.whose(out.prompt_logs):
            writer.scored(row, out.prompt_logs[name])
        advanced: dict[Any, list[int]] = defaultdict(list)
        for _, writer, row in self._drawing.whose(out.got_token):
            advanced[writer].append(row)
        read = self.scheduler.take_prefilled()
        for name, writer, _ in self._drawing.whose(read):
            writer.read(read[name])
        while self._drawing.broken:
            self._fail(*self._drawing.broken.popitem())
        for writer in [w for w in advanced if w in self._open]:
            self._advance(writer, np.array(advanced[writer]))
        if self._open and not self._inbox and not self.scheduler.requests:
            raise EngineError("texts are to be written, and the engine has none of them")
        if self.scheduler.idle > 2:
            self._starved()

    def _starved(self) -> None:
        """No text finds room, though all that pause have given theirs: the first in line cannot be."""
        error = EngineError(STARVED)
        writer, _ = self._where.get(self.scheduler.first_waiting(), (None, 0))
        for one in [writer] if writer in self._open else list(self._open):
            self._fail(one, error)

    def _advance(self, writer: Any, rows: Int[np.ndarray, " m"]) -> None:
        try:
            pause, go_on = writer.advance(rows)
        except Exception as error:  # a factor's or a user's function
            self._fail(writer, error)
            return
        self._requests.pause(writer, pause)
        self._start(writer, go_on)
        if not writer.busy:
            self._closed(writer)

    def _closed(self, writer: Any) -> None:
        with self._condition:
            if writer in self._open:
                self._open.remove(writer)
                self._company.left(writer)
            self._condition.notify_all()

    def _fail(self, writer: Any, error: BaseException) -> None:
        if writer in self._open:  # else nobody waits to be told
            self._abort(writer.requests)
            self._failures[writer] = error
            self._closed(writer)

    def _died(self, error: Exception) -> None:
        if self.dead is None and self.restarts > 0:
            self.restarts -= 1
            warnings.warn(
                f"the engine died ({type(error).__name__}: {error}); it is built again and the "
                f"texts go on where they were ({self.restarts} restarts left)",
                RuntimeWarning,
                stacklevel=2,
            )
            try:
                self._again(rebuild=True)
            except BaseException as another:
                self._end(another)
                if not isinstance(another, Exception):  # Ctrl-C
                    raise
        elif self.dead is None:
            self._end(error)

    def _end(self, error: BaseException) -> None:
        """Nothing can be written any more."""
        self.dead = error
        for writer in list(self._open):
            told = EngineError(f"the engine died: {type(error).__name__}: {error}")
            told.__cause__, self._failures[writer] = error, told
            self._closed(writer)

    def _again(self, rebuild: bool) -> None:
        """Start what is being written anew, from the texts as they are."""
        if rebuild:
            self._unmake()
            gc.collect()
            self._make()
        else:
            self._requests.abort_all()
            # blocks are named when they are scheduled: some may never have been computed
            if not self.engine.reset_prefix_cache():
                raise EngineError("interrupted in a step that had requests of others in it")
        for writer in list(self._open):
            self._start(writer, writer.active)
        self._suspect = False

    def _start(self, writer: Any, rows: Sequence[int]) -> None:
        if writer not in self._open:  # it was interrupted before this was done
            return
        try:
            self._requests.start(writer, rows)
        except Exception as error:
            self._fail(writer, error)

    def _abort(self, names: Iterable[str | None]) -> None:
        if self.dead is None:
            self._requests.abort(names)
