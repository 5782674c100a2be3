"""The requests of one engine: which there are, begun, rewritten, paused and ended between its steps."""

from collections.abc import Callable, Iterable
from typing import Any

from smcgen.text.engines._vllm.port import Outcome, Port
from smcgen.text.engines._vllm.processor import HANDLE
from smcgen.text.engines._vllm.rewriting import Rewriter
from smcgen.text.engines._vllm.scheduler import FORK, SCORE, ParticleScheduler
from smcgen.text.engines._vllm.writer import Writer
from smcgen.text.engines._vllm_shared import TURNS


class Requests:
    """What populations have in an engine; one thread at a time may ask for anything here.

    Args:
        engine: an `LLMEngine` that runs in this process, with a `ParticleScheduler`.
        names: gives a name to the request that a population's row will have.
        where: whose each request is, by name.
    """

    def __init__(
        self, engine: Any, names: Callable[[Writer, int], str], where: dict[str, tuple[Any, int]]
    ):
        self.scheduler: ParticleScheduler = engine.engine_core.engine_core.scheduler
        self._port, self._rewrite, self._names = Port(engine), Rewriter(engine), names
        self._there: set[str] = set()
        self._where = where

    def step(self) -> Outcome:
        """One step of the engine."""
        with TURNS:  # copies may be recorded, which another engine's work would disturb
            self._rewrite.flush()
            out = self._port.step()
        self._there.difference_update(out.finished)
        return out

    def start(self, writer: Writer, rows: Iterable[int]) -> None:
        """Rows go on with their requests, rewritten if they were somebody else's, or get one."""
        held = [row for row in rows if writer.requests[row] in self._there]
        for row in self._rewrite(writer, [r for r in held if writer.parents[r] is not None]):
            name, writer.requests[row] = writer.requests[row], None  # it cannot be rewritten
            self._where.pop(str(name), None)  # after an interrupt nothing begins by this name
            self.abort([name])
        resumed = [r for row in rows if (r := writer.requests[row]) in self._there]
        for row in rows:
            if writer.requests[row] not in self._there:
                self._add(writer, row)
        self.scheduler.resume(resumed)

    def pause(self, writer: Writer, rows: Iterable[int]) -> None:
        """Keep the requests of these rows, but do not run them."""
        self.scheduler.pause(r for row in rows if (r := writer.requests[row]) in self._there)

    def abort(self, names: Iterable[str | None]) -> None:
        """End those of these requests that are there."""
        gone = self._there.intersection(names)
        if gone:
            self._port.abort(list(gone))
        self._there -= gone

    def abort_all(self) -> None:
        """End all that populations have, and forget what waits to be copied for them."""
        self.abort(list(self._there))
        self._rewrite.forget()

    def _add(self, writer: Writer, row: int) -> None:
        name = writer.requests[row]
        if name is None:
            name = writer.requests[row] = self._names(writer, row)
        scores = writer.scores
        extra: dict[str, Any] = {HANDLE: name} if scores is None else {SCORE: scores(row) - 1}
        if writer.parents[row] in self._there:
            extra[FORK] = writer.parents[row]
        self._there.add(name)  # first: what an interrupt leaves there can be aborted
        self._port.add(name, writer.text(row), extra, scores is not None)
        writer.parents[row] = None
