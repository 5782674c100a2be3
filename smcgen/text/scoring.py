"""Twists of texts that have just ended a step; those that end theirs early are asked for while others are written.

A reward that works elsewhere (a server, another device, a service) would stand idle until the last text of a step is
there. So texts are scored in waves: whenever a quarter of them have ended their step. Which texts are a wave follows
from the lengths of their steps alone, not from who was sooner, so that a run stays the same to the last bit.
"""

import threading
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int

from smcgen.text.engines._writing import Writing
from smcgen.text.engines.base import Extension
from smcgen.text.potentials.base import TwistSession
from smcgen.text.texts import Finish, Texts

_SHARE = 4  # a wave has at least one in so many of the texts


class Scoring:
    """The twists of one step; a context manager, whose end leaves unfinished what nobody will ask for.

    Args:
        texts: as they were before the step.
        rows: those that write.
        twists: open twists.
        elsewhere: which of them can be asked while the engine writes.
        may_cut: whether token factors weigh a text that is cut off when the step is over.
    """

    def __init__(
        self,
        texts: Texts,
        rows: Int[np.ndarray, " m"],
        twists: Sequence[TwistSession],
        elsewhere: Sequence[bool],
        may_cut: bool,
    ):
        self._texts, self._rows, self._may_cut = texts, rows, may_cut
        self._here = [w for w, away in zip(twists, elsewhere, strict=True) if not away]
        self._away = [w for w, away in zip(twists, elsewhere, strict=True) if away]
        self._sent = np.zeros(len(rows), dtype=bool)
        self._over = -1  # rows that had ended when it was last looked; none are told of yet
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._found = np.zeros(len(texts))
        self._error: BaseException | None = None

    @property
    def listens(self) -> bool:
        """Whether it makes use of rows that end early."""
        return bool(self._away)

    def __enter__(self) -> "Scoring":
        return self

    def __exit__(self, *_: Any) -> None:
        self._queue.put(None)

    def told(self, writing: Writing) -> None:
        """Some rows have got a token; called by whoever steps the engine, between its steps."""
        before, rows = self._over, len(self._rows)
        self._over = rows - int(writing.active.sum())
        if before < self._over < rows:
            least = int(writing.lengths[writing.active].min())
            self._waves(writing.so_far(), ~writing.active, least)

    def log_psi(
        self, texts: Texts, new: Extension, alive: Int[np.ndarray, " a"]
    ) -> Float64[np.ndarray, " a"]:
        """log psi of the rows that are alive, now that all have ended their step."""
        if self._over >= 0:  # an early text belongs to its wave, had there been time for it or not
            self._waves(new, np.ones(len(self._rows), bool), int(new.lengths.max()) - 1)
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            if self._error is not None:
                raise self._error
        found = self._found[alive]
        rest = ~np.isin(alive, self._rows[self._sent])
        if rest.any():
            found[rest] += self._asked(self._away, texts, alive[rest])
        return found + self._asked(self._here, texts, alive)

    def _waves(self, new: Extension, over: Bool[np.ndarray, " m"], least: int) -> None:
        """Send off the waves of steps of at most `least` tokens; no other step will be as short."""
        weighed = new.log_base + new.log_factor - new.log_proposal > -np.inf
        cut = (new.finish == Finish.LENGTH) | (new.finish == Finish.STOP)
        ready = over & weighed & (new.finish != Finish.DEAD) & ~(cut & self._may_cut)
        ready &= (new.lengths <= least) & ~self._sent
        for length in np.unique(new.lengths[ready]).tolist():
            wave = np.flatnonzero(ready & (new.lengths <= length) & ~self._sent)
            if _SHARE * len(wave) >= len(self._rows):
                self._sent[wave] = True
                self._send(wave, new)

    def _send(self, at: Int[np.ndarray, " w"], new: Extension) -> None:
        if self._thread is None:  # an interrupted run does not wait for it
            self._thread = threading.Thread(target=self._work, name="smcgen-scoring", daemon=True)
            self._thread.start()
        step = new.tokens[at], new.lengths[at], new.finish[at]
        self._queue.put((self._rows[at], step))

    def _work(self) -> None:
        try:
            while (wave := self._queue.get()) is not None:
                rows, step = wave
                texts = self._texts.extended(rows, *step)
                self._found[rows] = self._asked(self._away, texts, rows)
        except BaseException as error:  # told when the step is over
            self._error = error

    def _asked(
        self, twists: Sequence[TwistSession], texts: Texts, rows: Int[np.ndarray, " r"]
    ) -> Float64[np.ndarray, " r"]:
        return sum((w.log_psi(texts, rows) for w in twists), np.zeros(len(rows)))
