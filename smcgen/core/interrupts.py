"""Ctrl-C for threads that wait: Python tells the main thread alone.

What may wait long for somebody else (a server's answer) says so by `watch`; `smc_each`, whose runs are in threads,
calls `interrupt_all` when it is interrupted.
"""

from typing import Protocol
from weakref import WeakSet


class Waiting(Protocol):
    """Something that threads wait in."""

    def interrupt(self) -> None:
        """Whoever waits now gets a KeyboardInterrupt; later calls are not concerned."""
        ...


_WAITING: WeakSet[Waiting] = WeakSet()


def watch(waiting: Waiting) -> None:
    """It is told of Ctrl-C as long as it is there."""
    _WAITING.add(waiting)


def interrupt_all() -> None:
    """Nobody is waited for any more."""
    for waiting in list(_WAITING):
        waiting.interrupt()
