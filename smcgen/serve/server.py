"""Running the application: uvicorn, and a shutdown that lets running requests end, or a second Ctrl-C that does not."""

import asyncio
import atexit
import logging
import math
import os
import signal
import socket
import sys
from contextlib import nullcontext, suppress
from types import FrameType
from typing import Any

import uvicorn

from smcgen.serve.app import create_app
from smcgen.serve.binding import bound
from smcgen.serve.config import Config
from smcgen.serve.failures import log
from smcgen.serve.service import LATE, Service

_LAST = 1.0  # seconds to tell clients that the server ends at once
_INTERRUPTED, _FAILED = 128 + signal.SIGINT, 3  # exit codes; the second is uvicorn's


class Server(uvicorn.Server):
    """A server that, told to stop, refuses new requests, lets those it took end, and stops them after `grace`.

    A second Ctrl-C ends it at once: whoever waits is told so (503), and no run is waited for.
    """

    def __init__(self, config: Config, log_level: str = "info"):
        app = create_app(config)
        self.service: Service = app.state.service
        self.at_once = False
        self._grace = config.grace
        self._loop: asyncio.AbstractEventLoop | None = None
        options = uvicorn.Config(
            app,
            host=config.host,
            port=config.port,
            log_level=log_level,
            ws="none",
            server_header=False,
            # requests that are stopped after the grace time are still answered
            timeout_graceful_shutdown=math.ceil(config.grace + LATE + 5),
        )
        super().__init__(options)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Warm up, and listen."""
        self._loop = asyncio.get_running_loop()
        failed = "cannot listen: of two servers that started together the other was faster"
        try:
            await super().startup(sockets)
        except OSError as error:
            failed = f"cannot listen: {error}"
        # uvloop raises nothing, and closes the socket
        if not self.started or any(taken.fileno() < 0 for taken in sockets or ()):
            log.error(failed)
            await self.lifespan.shutdown()
            sys.exit(_FAILED)
        for taken in sockets or ():
            host, port = taken.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            message = "Uvicorn running on http://%s:%d (Press CTRL+C to quit)"
            logging.getLogger("uvicorn.error").info(message, shown, port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, and end."""
        stopping = asyncio.create_task(self._stop_runs())
        await super().shutdown(sockets)
        stopping.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A first signal asks the server to end, a second Ctrl-C does not ask."""
        if not (self.should_exit and sig == signal.SIGINT):
            super().handle_exit(sig, frame)
        elif self.at_once or not self.started or self._loop is None:
            # a third one, or nobody is served yet: a warm-up cannot be stopped
            _leave(_INTERRUPTED)
        else:
            self.at_once = True
            self._loop.call_soon_threadsafe(self._end_now)

    async def _stop_runs(self) -> None:
        self.service.pool.drain()
        await asyncio.sleep(self._grace)
        self.service.pool.stop_all("shutdown")

    def _end_now(self) -> None:
        self.service.pool.drain()
        self.service.pool.stop_all("shutdown", at_once=True)
        # what hangs longer than that is a client that does not read
        asyncio.get_running_loop().call_later(_LAST, _leave, _INTERRUPTED)


def run_server(
    config: Config, *, sockets: list[socket.socket] | None = None, **options: Any
) -> None:
    """Serve until interrupted. A second Ctrl-C ends the process at once, with exit code 130.

    Args:
        config: the server.
        sockets: what `smcgen.serve.binding.bound` took, if the address was taken before the engine was loaded.
        **options: `log_level`, as uvicorn has it.

    Raises:
        CannotListen: the address is in use, or not this machine's.
    """
    address = bound(config.host, config.port) if sockets is None else nullcontext(sockets)
    with address as taken:
        server = Server(config, **options)
        with suppress(KeyboardInterrupt):  # uvicorn has ended in good order, and passes it on
            server.run(sockets=taken)
    if server.at_once:
        _leave(_INTERRUPTED)
    if server.service.pool.running:
        log.warning("a step did not end in time: the process will not wait for it")
        atexit.register(_leave, 0)


def _leave(code: int) -> None:
    """End the process as it is: threads that still compute would abort an interpreter that cleans up."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)
