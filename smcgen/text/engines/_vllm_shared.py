"""Several vLLM engines in one process, a policy and a reward say, in as many threads.

vLLM expects one engine per process, and two of its globals show it. The context of a forward pass is a
module's variable: two engines that step at once read each other's, and fail. And an engine that
ends takes the process's distributed groups with it, which the others still need. `share` makes
every engine of this process, whoever built it, take turns and leave the groups alone.
"""

import atexit
import functools
import threading
from collections import deque
from collections.abc import Callable
from typing import Any


class Turns:
    """A lock that serves in the order of asking, so that an engine in a tight loop starves nobody.

    The thread that has its turn may enter again.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._queue: deque[threading.Event] = deque()  # the first one has its turn
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        me = threading.get_ident()
        if self._owner == me:  # nobody else can have written that
            self._depth += 1
            return
        mine = threading.Event()
        with self._mutex:
            self._queue.append(mine)
            if len(self._queue) == 1:
                mine.set()
        try:
            mine.wait()
        except BaseException:  # Ctrl-C
            self._leave(mine)
            raise
        self._owner, self._depth = me, 1

    def __exit__(self, *_: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._owner = None
            self._leave(self._queue[0])

    def _leave(self, mine: threading.Event) -> None:
        with self._mutex:
            self._queue.remove(mine)
            if self._queue:
                self._queue[0].set()


TURNS = Turns()


def share() -> None:
    """Let the engines of this process, those built already included, live side by side."""
    from vllm.v1.engine import core
    from vllm.v1.engine.core_client import InprocClient

    if hasattr(InprocClient, "smcgen_shares"):
        return
    InprocClient.smcgen_shares = True  # pyright: ignore[reportAttributeAccessIssue]
    for name in ("__init__", "get_output"):  # both run the model
        setattr(InprocClient, name, _in_turn(getattr(InprocClient, name)))
    atexit.register(core.cleanup_dist_env_and_memory)
    core.cleanup_dist_env_and_memory = _free_memory


def _in_turn(method: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        # to ask is to set it for this thread; else torch would with its first operation, in the middle of a
        # step, and vLLM's attention on a CPU ends where the number of threads changes
        torch.get_num_threads()
        with TURNS:
            return method(*args, **kwargs)

    return call


def _free_memory(*_: Any, **__: Any) -> None:
    """What is left of an engine's end: the next engine of the process finds the groups in place."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
