"""Populations that end their steps together begin the next ones together.

Each is driven by a thread of its own, and between two steps one thread after the other weighs and resamples. Whoever is
first could go on at once; but then the engine makes a step for one population, another for two, and from then on
they never end together again: more steps of the engine for the same tokens.
"""

import threading
from collections.abc import Iterable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

_LONGEST = 0.02  # seconds that the next one is waited for


class Company:
    """Who is between two steps, and is waited for as long as others keep coming, by a step of the engine at most.

    All methods are called with the lock held.

    Args:
        condition: what a thread that comes notifies.
    """

    def __init__(self, condition: threading.Condition):
        self._condition = condition
        self._members: WeakSet[Any] = WeakSet()
        self._away: WeakSet[Any] = WeakSet()
        self._threads: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # that drive members
        self._midway: set[Any] = set()
        self.patience = _LONGEST

    def joined(self, writer: Any) -> None:
        """A population that will write many steps."""
        self._members.add(writer)
        self._away.add(writer)
        self._threads[writer] = threading.current_thread()

    def gone(self, writer: Any) -> None:
        """A population that will write no more."""
        self._members.discard(writer)
        self._away.discard(writer)
        self._midway.discard(writer)
        self._condition.notify_all()

    def came(self, writer: Any) -> None:
        """A population wants to write a step, or texts are to be scored: so its thread has nothing else to ask for."""
        me = threading.current_thread()
        if writer in self._members:
            self._threads[writer] = me
        for other in [one for one in self._away if self._threads.get(one) is me]:
            self._away.discard(other)
        self._condition.notify_all()

    def left(self, writer: Any) -> None:
        """A population has its step."""
        self._midway.discard(writer)
        if writer in self._members:
            self._away.add(writer)

    def stepping(self, writers: Iterable[Any]) -> None:
        """The engine makes a step for these."""
        self._midway = set(writers)

    def stepped(self, seconds: float) -> None:
        """That took so long."""
        self.patience = min(seconds, _LONGEST)

    def gather(self, writers: Iterable[Any]) -> bool:
        """Wait for those that are away, unless one of the `writers` is in the middle of a step.

        Returns whether somebody came, or will not.
        """
        first = len(self._away)
        while self._away and self._midway.isdisjoint(writers):
            fewer = partial(self._fewer, len(self._away))
            if not self._condition.wait_for(fewer, self.patience):
                known, self._away = len(self._away), WeakSet()  # they are busy with something long
                return known < first
        return len(self._away) < first

    def _fewer(self, than: int) -> bool:
        return len(self._away) < than
