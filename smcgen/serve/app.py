"""The endpoints: `/v1/chat/completions`, `/v1/completions`, `/v1/models`, `/health`, `/metrics`."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from smcgen._version import __version__
from smcgen.errors import InvalidArgument
from smcgen.serve.auth import Guard
from smcgen.serve.body import read_ask
from smcgen.serve.config import Config
from smcgen.serve.failures import CLIENT_GONE, APIError, engine_dead, from_run
from smcgen.serve.metrics import Metrics
from smcgen.serve.plan import check_model
from smcgen.serve.pool import Draining, QueueFull
from smcgen.serve.reply import Kind
from smcgen.serve.schema import Ask, ChatAsk, CompletionAsk
from smcgen.serve.service import Service, follow, outcome
from smcgen.serve.streaming import EventStream, left

_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/metrics")


def create_app(config: Config) -> FastAPI:
    """The server as an ASGI application; `app.state.service` is its inside.

    There is no CORS: a web page of another origin cannot read answers. `/health` alone needs no key.
    """
    service = Service(config)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if config.warm_up:
            await asyncio.to_thread(service.warm_up)
        yield
        service.pool.close()

    # no pages of its own: they would load scripts from elsewhere
    pages: dict[str, Any] = {"docs_url": None, "redoc_url": None, "openapi_url": None}
    app = FastAPI(
        title="smcgen", version=__version__, lifespan=lifespan, redirect_slashes=False, **pages
    )
    app.state.service = service
    app.add_middleware(Counted, metrics=service.metrics)
    for kind in (APIError, InvalidArgument, QueueFull, Draining, ClientDisconnect, HTTPException):
        app.add_exception_handler(kind, _error)
    app.add_exception_handler(Exception, _error)
    guarded = [Depends(Guard(config.api_key))]
    created = int(time.time())

    @app.post("/v1/chat/completions", dependencies=guarded)
    async def chat(request: Request) -> Response:
        return await _complete(service, request, ChatAsk, "chat")

    @app.post("/v1/completions", dependencies=guarded)
    async def completions(request: Request) -> Response:
        return await _complete(service, request, CompletionAsk, "completion")

    ours = {"strategies": config.strategies, "default": config.strategy}
    served = {"id": config.model, "object": "model", "created": created, "owned_by": "smcgen"}
    served["smcgen"] = ours

    @app.get("/v1/models", dependencies=guarded)
    async def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": [served]})

    @app.get("/v1/models/{name:path}", dependencies=guarded)
    async def model(name: str) -> JSONResponse:
        check_model(config, name)
        return JSONResponse(served)

    @app.get("/health")
    async def health() -> JSONResponse:
        pool, dead = service.pool, service.dead
        said: dict[str, Any] = {"status": "draining" if pool.draining else "ok"}
        if dead is not None:
            said = {"status": "engine_dead", "reason": str(engine_dead(dead))}
        counts = {"running": pool.running, "waiting": pool.waiting}
        return JSONResponse(said | counts, 200 if said["status"] == "ok" else 503)

    @app.get("/metrics", dependencies=guarded)
    async def metrics() -> Response:
        text = "text/plain; version=0.0.4; charset=utf-8"
        return Response(service.metrics.text(), media_type=text)

    return app


async def _complete(service: Service, request: Request, schema: type[Ask], kind: Kind) -> Response:
    ask = await read_ask(request, schema, service.config.max_body_bytes)
    job, reply = await service.submit(ask, kind)
    if ask.stream:
        usage = ask.stream_options is not None and ask.stream_options.include_usage
        return EventStream(job, reply, usage)
    gone = asyncio.ensure_future(left(request.receive))
    try:
        async for _ in follow(job, gone, math.inf):
            pass
    finally:
        gone.cancel()
    return JSONResponse(reply.whole(outcome(job, reply)), headers={"x-request-id": reply.name})


async def _error(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        return Response(status_code=CLIENT_GONE)
    if isinstance(error, HTTPException):  # no such path, or not by this method
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        message = f"{request.method} {request.scope['path'][:80]}: {error.detail}"
        return APIError(error.status_code, message, code=code, headers=error.headers).response()
    return from_run(error).response()


class Counted:
    """Middleware that counts responses by path and status, and times them to their end."""

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            path = scope["path"] if scope["path"] in _PATHS else "other"
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - began)
