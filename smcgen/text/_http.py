"""JSON over HTTP, for servers of models: many requests at a time, retried, bounded, and without surprises.

All requests run on an event loop in a thread of its own, so that plain calls work inside a notebook, whose loop is
running already, and an interrupt closes what is under way. What may pass (429, 5xx, a lost connection, no answer in
time) is tried again with exponential backoff and jitter, for the request that failed alone.
"""

import asyncio
import json
import os
import random
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from numbers import Real
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from smcgen.core import interrupts
from smcgen.core.arguments import check_counts
from smcgen.errors import EngineError, InvalidArgument, MissingExtra, RewardError, SmcgenError

if TYPE_CHECKING:
    import httpx

# not `SMCGEN_API_KEY`, which is what clients of `smcgen serve` send: a server must not pass it on
KEY_VARIABLE = "SMCGEN_REMOTE_API_KEY"
_CONNECT, _LONGEST_WAIT = 10.0, 60.0  # seconds
_MOST_BYTES = 1 << 28  # of one answer
_MOST_SHOWN = 300  # characters of what a server says
_AGAIN = {408, 429, 500, 502, 503, 504}


class ServerError(SmcgenError):
    """A server cannot be reached, does not answer in time, refuses, or answers with what cannot be right.

    Attributes:
        status: with which it refused, if it did.
    """

    status: int | None = None


class Client:
    """One server.

    Args:
        base_url: `http://host:port`; a final `/v1` is taken off.
        api_key: sent as a bearer token; None reads the environment variable
            `SMCGEN_REMOTE_API_KEY`. It is never shown.
        timeout: seconds that one attempt may take.
        retries: attempts after the first.
        max_concurrency: most requests under way at a time.
        backoff: seconds before the first retry, doubled each time, give or take a half; an answer's
            `Retry-After` counts if it asks for more. No wait is longer than a minute.

    Raises:
        InvalidArgument: an address that is none, or holds a password; numbers out of range.
        MissingExtra: without httpx.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = 300.0,
        retries: int = 4,
        max_concurrency: int = 64,
        backoff: float = 0.5,
    ):
        try:
            import httpx
        except ImportError as error:
            raise MissingExtra("a model on a server", "httpx", "remote") from error
        self.url = _checked_url(base_url)
        if not isinstance(timeout, Real) or isinstance(timeout, bool) or not timeout > 0:
            raise InvalidArgument("timeout", timeout, "seconds > 0")
        check_counts(0, retries=retries)
        check_counts(max_concurrency=max_concurrency)
        self._timeout, self._retries, self._backoff = timeout, retries, backoff
        self._key = _checked_key(api_key)
        self._slots = asyncio.Semaphore(max_concurrency)
        self._chance = random.Random()  # not the user's: jitter must not move their seeds
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT), pool=None),
            limits=httpx.Limits(max_connections=max_concurrency),
        )
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=_run, args=(self._loop,), name="smcgen-http", daemon=True).start()
        self.close = weakref.finalize(self, _shut_down, self._http, self._loop)
        self._under_way: set[Future[Any]] = set()  # what threads wait for
        interrupts.watch(self)

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def get(self, path: str) -> Any:
        """The answer to one GET, as JSON."""
        return self._wait([("GET", path, None)])[0]

    def post(self, path: str, bodies: Sequence[Mapping[str, Any]]) -> list[Any]:
        """The answers to one POST for each body, in their order, as JSON.

        Raises:
            ServerError: the first request that fails for good; the others are cancelled.
        """
        return self._wait([("POST", path, body) for body in bodies])

    def _wait(self, requests: list[tuple[str, str, Any]]) -> list[Any]:
        if not self.close.alive:
            raise ServerError(f"the connection to {self.url} was closed")
        future = asyncio.run_coroutine_threadsafe(self._all(requests), self._loop)
        self._under_way.add(future)
        try:
            return future.result()
        except CancelledError as error:
            if self.close.alive:
                raise KeyboardInterrupt from None
            raise ServerError(f"the connection to {self.url} was closed") from error
        except BaseException:
            future.cancel()  # an interrupt: the server sees closed connections, and stops
            raise
        finally:
            self._under_way.discard(future)

    def interrupt(self) -> None:
        """What is under way in any thread ends with a KeyboardInterrupt; the server sees closed connections."""
        for future in list(self._under_way):
            future.cancel()

    async def _all(self, requests: list[tuple[str, str, Any]]) -> list[Any]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(*request)) for request in requests]
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _one(self, method: str, path: str, body: Any) -> Any:
        content = None if body is None else json.dumps(body).encode()
        for attempt in range(self._retries + 1):
            wait = self._backoff * 2**attempt * self._chance.uniform(0.5, 1.5)
            async with self._slots:
                answer, problem, asked = await self._attempt(method, path, content)
            if answer is not None:
                return self._parsed(answer, path)
            if attempt < self._retries:
                await asyncio.sleep(min(max(wait, asked), _LONGEST_WAIT))
        times = f" ({self._retries + 1} attempts)" if self._retries else ""
        raise ServerError(f"{self.url}{path}: {problem}{times}")

    async def _attempt(
        self, method: str, path: str, content: bytes | None
    ) -> tuple[bytes | None, str, float]:
        """The answer, or what went wrong (which may pass) and the seconds to wait that the server asks for."""
        import httpx

        headers = {} if content is None else {"Content-Type": "application/json"}
        url = self.url + path
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream(method, url, content=content, headers=headers) as answer,
            ):
                body = await self._read(answer, path)
        except (TimeoutError, httpx.TimeoutException):
            hint = "the server hangs or is overloaded, or timeout= is too short"
            return None, f"no answer within {self._timeout:g} s: {hint}", 0.0
        except (httpx.TransportError, httpx.DecodingError) as error:  # lost, or garbled on the way
            return None, f"no connection ({type(error).__name__}: {error})", 0.0
        status = answer.status_code
        if status == 200:
            return body, "", 0.0
        problem = f"the server answered {status}: {self._reason(body)}"
        if status in _AGAIN:
            return None, problem, _retry_after(answer.headers.get("Retry-After"))
        if status in (401, 403):
            problem += f" (pass api_key=, or set {KEY_VARIABLE})"
        refused = ServerError(f"{url}: {problem}")
        refused.status = status
        raise refused

    async def _read(self, answer: "httpx.Response", path: str) -> bytes:
        parts, size = [], 0
        async for part in answer.aiter_bytes():
            parts.append(part)
            size += len(part)
            if size > _MOST_BYTES:
                raise ServerError(f"{self.url}{path}: an answer of more than {_MOST_BYTES} bytes")
        return b"".join(parts)

    def _parsed(self, body: bytes, path: str) -> Any:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            what = f"an answer that is not JSON: {self._reason(body)}"
            raise ServerError(f"{self.url}{path}: {what}") from None

    def _reason(self, body: bytes) -> str:
        """What a server says of its failure, in one short line."""
        text = body[: 1 << 16].decode("utf-8", "replace")
        try:
            said = json.loads(text)
            said = said.get("error", said)
            text = str(said["message"] if isinstance(said, dict) else said)
        except (ValueError, AttributeError, KeyError, RecursionError):
            pass
        return repr(self._shown(" ".join(text.split())))

    def _shown(self, text: str) -> str:
        """A text that came, cut short. Servers like to repeat the key that they were sent."""
        if self._key:
            text = text.replace(self._key, "***")
        return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "..."

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What is wrong with an answer that is read here is told without the key, and in short."""
        try:
            yield
        except (EngineError, RewardError) as error:
            shown = self._shown(str(error))
            if shown == str(error):
                raise
            raise type(error)(shown) from None


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.close()


def _shut_down(client: "httpx.AsyncClient", loop: asyncio.AbstractEventLoop) -> None:
    """Close connections, then the loop. Nobody waits: the garbage collector may call this in any thread."""

    async def close() -> None:
        try:
            under_way = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
            for task in under_way:  # somebody may wait for them in another thread
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            await client.aclose()
        finally:
            loop.call_soon(loop.stop)  # after the cancelled futures have told their threads

    asyncio.run_coroutine_threadsafe(close(), loop)


def _checked_url(url: str) -> str:
    if not isinstance(url, str):
        raise InvalidArgument("base_url", url, "an address such as 'http://localhost:8000'")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgument("base_url", url, "an address such as 'http://localhost:8000'")
    if parts.username is not None or parts.query or parts.fragment:
        shown = f"{parts.scheme}://{parts.hostname}/..."
        raise InvalidArgument("base_url", shown, "an address without user, query or fragment")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def _checked_key(key: str | None) -> str | None:
    key = os.environ.get(KEY_VARIABLE) if key is None else key
    if key is not None and not isinstance(key, str):
        raise InvalidArgument(
            "api_key", "***", f"None or a string, not of type {type(key).__name__}"
        )
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise InvalidArgument("api_key", "***", "printable ASCII characters without spaces")
    return key or None


def _retry_after(value: str | None) -> float:
    """Seconds that an answer asks to wait: a number, or a date."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
