"""Server-sent events: comments while the run goes on, then the chosen answer in OpenAI's chunks.

What is streamed is the answer, after it was chosen: before that there is a population, not a text. The comments
(lines that begin with a colon, which every client skips) keep proxies from closing the connection.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from fastapi.responses import Response
from starlette.types import Message, Receive, Scope, Send

from smcgen.serve.failures import APIError
from smcgen.serve.pool import Job
from smcgen.serve.reply import Reply
from smcgen.serve.service import follow, outcome

KEEP_ALIVE = 2.0  # seconds between comments
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the chunks back
]


async def left(receive: Callable[[], Any]) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """The response to a streaming request."""

    def __init__(self, job: Job, reply: Reply, include_usage: bool):
        super().__init__()
        self._job, self._reply, self._usage = job, reply, include_usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def write(text: str, more: bool = True) -> None:
            body: Message = {"type": "http.response.body", "body": text.encode(), "more_body": more}
            await send(body)

        gone = asyncio.ensure_future(left(receive))
        try:
            headers = [*_HEADERS, (b"x-request-id", self._reply.name.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await write(": accepted\n\n")
            async for job in follow(self._job, gone, KEEP_ALIVE):
                await write(f": {_told(job)}\n\n")
            if gone.done():
                return
            try:
                chosen = outcome(self._job, self._reply)
                for chunk in self._reply.chunks(chosen, self._usage):
                    await write(_event(chunk))
            except APIError as error:  # the status line is gone; clients raise on an "error" event
                await write(_event(error.body()))
            await write("data: [DONE]\n\n", more=False)
        finally:
            gone.cancel()
            if not self._job.future.done():
                self._job.stop("disconnect")


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk, allow_nan=False)}\n\n"


def _told(job: Job) -> str:
    if job.progress is None:
        return "waiting"
    return f"step {job.progress.t} of at most {job.progress.num_steps}"
