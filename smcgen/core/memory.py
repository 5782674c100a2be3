"""The most memory that a run held, on the host and on GPUs.

The counters are the process's own: the kernel's high-water mark of resident memory, and torch's of each GPU if torch
is in use. A watch sets them back when it begins, after all others have read them, so that each knows the peak of its
own time. What else the process holds meanwhile is in it.
"""

import sys
import threading
from typing import Any
from weakref import WeakSet

_LOCK = threading.Lock()


class PeakMemory:
    """Peak memory since this was made, in bytes."""

    def __init__(self) -> None:
        self._host = self._gpu = 0
        with _LOCK:
            for other in tuple(_WATCHES):
                other._look()
            _set_back()
            _WATCHES.add(self)

    def read(self) -> tuple[int, int]:
        """Resident memory of the process, and memory that torch has allocated on GPUs (0 without one)."""
        with _LOCK:
            self._look()
        return self._host, self._gpu

    def _look(self) -> None:
        self._host = max(self._host, _resident())
        self._gpu = max(self._gpu, _allocated())


_WATCHES: WeakSet[PeakMemory] = WeakSet()


def _set_back() -> None:
    """Let the high-water marks be what is held now."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:  # another system: the peak is then that of the process since it began
        pass
    if (cuda := _cuda()) is not None:
        for device in range(cuda.device_count()):
            cuda.reset_peak_memory_stats(device)


def _resident() -> int:
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _allocated() -> int:
    cuda = _cuda()
    if cuda is None:
        return 0
    return sum(cuda.max_memory_allocated(device) for device in range(cuda.device_count()))


def _cuda() -> Any:
    """torch.cuda, if it is in use."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    return cuda if cuda is not None and cuda.is_initialized() else None
