"""Running the application: uvicorn, and a shutdown that lets running requests end."""

import asyncio
import math
import socket
from contextlib import suppress
from typing import Any

import uvicorn

from smcgen.serve.app import create_app
from smcgen.serve.config import Config
from smcgen.serve.service import LATE, Service


class Server(uvicorn.Server):
    """A server that, told to stop, refuses new requests, lets those it took end, and stops them after `grace`.

    A second Ctrl-C ends it at once.
    """

    def __init__(self, config: Config, log_level: str = "info"):
        app = create_app(config)
        self.service: Service = app.state.service
        self._grace = config.grace
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

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, and end."""
        stopping = asyncio.create_task(self._stop_runs())
        await super().shutdown(sockets)
        stopping.cancel()

    async def _stop_runs(self) -> None:
        self.service.pool.drain()
        await asyncio.sleep(self._grace)
        self.service.pool.stop_all("shutdown")


def run_server(config: Config, **options: Any) -> None:
    """Serve until interrupted."""
    with suppress(KeyboardInterrupt):  # uvicorn has ended in good order, and passes the signal on
        Server(config, **options).run()
