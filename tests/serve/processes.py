"""`smcgen serve` as a process of its own."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx

from tests.serve import running

_RUNNING = re.compile(r"Uvicorn running on (http://\S+)")


class Process:
    """One that has been started; what it writes to standard error is in `lines`."""

    def __init__(self, arguments: Sequence[str], env: dict[str, str]):
        command = [sys.executable, "-m", "smcgen.cli", "serve", *arguments, "--port", "0"]
        environment = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
        self._child = subprocess.Popen(
            command, env=environment | env, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stderr is not None
        for line in self._child.stderr:
            self.lines.append(line)

    @property
    def url(self) -> str:
        """Its address, once it takes requests."""
        found: list[str] = []

        def started() -> bool:
            found[:] = _RUNNING.findall(self.said)
            assert found or self._child.poll() is None, self.said
            return bool(found)

        running.until(started, 120)
        return found[0]

    @property
    def said(self) -> str:
        return "".join(self.lines)

    def interrupt(self) -> None:
        self._child.send_signal(signal.SIGINT)

    def ended(self) -> int:
        """Its exit code."""
        code = self._child.wait(60)
        self._reader.join(60)
        assert self._child.stderr is not None
        self._child.stderr.close()
        return code

    def kill(self) -> None:
        self._child.kill()
        self.ended()


@contextmanager
def process(*arguments: str, **env: str) -> Iterator[Process]:
    """The server, until the block ends."""
    one = Process(arguments, env)
    try:
        yield one
    finally:
        one.kill()


def at_work(url: str) -> int:
    """Runs of a server."""
    return httpx.get(f"{url}/health").json()["running"]
