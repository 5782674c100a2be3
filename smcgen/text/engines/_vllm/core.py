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
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float64, Int

from smcgen.errors import EngineError
from smcgen.text.engines._law import draw_tokens, log_probs
from smcgen.text.engines._vllm.port import Port
from smcgen.text.engines._vllm.processor import HANDLE
from smcgen.text.engines._vllm.scheduler import FORK, ParticleScheduler
from smcgen.text.engines.base import Law


class Writer(Protocol):
    """What the core needs of a population.

    Attributes:
        requests: number of each row's request in the engine, None if it has none.
        parents: for a row without one, the request whose copy it will be, or None.
    """

    law: Law
    factors: Sequence[Any]
    requests: list[int | None]
    parents: list[int | None]

    @property
    def active(self) -> Sequence[int]:
        """Rows that still write."""
        ...

    def text(self, row: int) -> list[int]:
        """Token ids of a row's prompt and all it has written."""
        ...

    def uniforms(self, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        """For the next token of each row."""
        ...

    def given(self, rows: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"] | None:
        """The next token of each row if it is not drawn but given."""
        ...

    def put(self, rows: Int[np.ndarray, " m"], drawn: Float64[np.ndarray, "4 m"]) -> None:
        """Token, log base, factor and proposal of each row; they count once `advance` is called."""
        ...

    def advance(self, rows: Int[np.ndarray, " m"]) -> tuple[Iterable[int], Iterable[int]]:
        """Rows that got their token: which rows pause now, and which paused rows go on."""
        ...

    def read(self, tokens: int) -> None:
        """Count tokens that were computed again or for the first time, not written."""
        ...


class Core:
    """An engine in this process, and the particles that live in it.

    Args:
        build: makes an `LLMEngine` with a `ParticleScheduler` and a processor that asks `draw`.
        restarts: how often an engine that dies is built again.
    """

    def __init__(self, build: Callable[[Any], Any], restarts: int):
        self._build, self.restarts = build, restarts
        self._condition = threading.Condition()
        self._pumping = False
        self._inbox: list[Callable[[], None]] = []  # what waits for the engine to stand still
        self._open: list[Any] = []  # writers at work
        self._failures: dict[Any, BaseException] = {}
        self._broken: dict[Any, BaseException] = {}  # writers whose part of a draw went wrong
        self._numbers = count()
        self._where: dict[int, tuple[Any, int]] = {}  # request number -> (writer, row)
        self._there: set[int] = set()  # numbers of the requests that the engine has
        self.dead: BaseException | None = None
        self._suspect = False  # a step was interrupted: the engine's state is not known
        self.engine = build(self.draw)
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
            number = _number(name)
            writer, row = self._where.get(number, (None, 0))
            if finished:
                self._there.discard(number)
            if writer is not None and got_token:
                advanced[writer].append(row)
        for name, tokens in self.scheduler.take_prefilled().items():
            if (number := _number(name)) in self._where:
                self._where[number][0].read(tokens)
        for writer, error in self._broken.items():
            self._fail(writer, error)
        self._broken = {}
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
        names = lambda rows: [_name(r) for i in rows if (r := writer.requests[i]) in self._there]
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
            self.engine = self._build(self.draw)
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
                    resumed.append(_name(number))
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
            extra[FORK] = _name(writer.parents[row])
        self._port.add(_name(number), writer.text(row), extra)
        self._there.add(number)
        writer.parents[row] = None

    def _abort(self, numbers: Iterable[int | None]) -> None:
        gone = self._there.intersection(numbers)
        self._there -= gone
        if gone and self.dead is None:
            self._port.abort([_name(number) for number in gone])

    # ---- called by the engine, inside a step ---------------------------------------------------

    def draw(
        self, logits: torch.Tensor, places: Sequence[int], numbers: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw a token for the rows `places` of the logits, which are these requests'.

        Populations of one law are drawn together. Returns the places and their tokens.
        """
        asked: dict[Any, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for place, number in zip(places, numbers, strict=True):
            writer, row = self._where.get(number, (None, 0))
            if writer is not None:
                asked[writer][0].append(place)
                asked[writer][1].append(row)
        together: dict[Any, list[Any]] = defaultdict(list)
        for writer, (at, own) in asked.items():
            rows = np.array(own)
            try:
                given = writer.given(rows)
                numbers_ = writer.uniforms(rows) if given is None else given
                phi = [factor.log_phi(rows) for factor in writer.factors]
            except Exception as error:  # it must not take the engine with it
                self._broken[writer] = error
                continue
            law = (writer.law.base, writer.law.proposal, bool(phi), given is None)
            together[law].append((writer, at, rows, numbers_, phi))
        found = [self._draw(logits, law, parts) for law, parts in together.items()]
        if not found:
            nothing = torch.zeros(0, dtype=torch.int64, device=logits.device)
            return nothing, nothing
        return torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])

    def _draw(self, logits: torch.Tensor, law: Any, parts: list[Any]) -> tuple[Any, Any]:
        base, proposal, has_factors, drawn = law
        at = [place for part in parts for place in part[1]]
        places = torch.tensor(at, device=logits.device)
        x = logits if at == list(range(len(logits))) else logits[places]
        numbers = torch.from_numpy(np.concatenate([part[3] for part in parts])).to(logits.device)
        if drawn:
            log_phi = None
            if has_factors:
                log_phi = torch.cat([sum(phi[1:], phi[0]) for *_, phi in parts])
            tokens, *logs = draw_tokens(x, base, proposal, log_phi, numbers)
        else:
            tokens, log_base = numbers, log_probs(x, base, numbers)
            logs = [log_base, torch.zeros_like(log_base), log_base]
        told = torch.stack([tokens.double(), *logs]).cpu().numpy()
        start = 0
        for writer, _, rows, *_ in parts:
            writer.put(rows, told[:, start : start + len(rows)])
            start += len(rows)
        return places, tokens.clamp_min(0)


def _name(number: int) -> str:
    """vLLM's id of a particle's request; others may have requests of their own."""
    return f"particle-{number}"


def _number(name: str) -> int:
    """The number in a name; -1 for a request that is not a particle's."""
    kind, _, number = name.partition("-")
    return int(number) if kind == "particle" else -1
