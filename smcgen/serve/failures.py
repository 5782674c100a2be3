"""Errors as OpenAI clients read them: `{"error": {"message", "type", "param", "code"}}`."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse

from smcgen.errors import InvalidArgument
from smcgen.serve.pool import Draining, QueueFull, Stopped

log = logging.getLogger("smcgen.serve")
# OpenAI clients try again after a 5xx; a run that took its whole time once would take it again
NO_RETRY = {"x-should-retry": "false"}
CLIENT_GONE = 499  # as nginx counts them; nobody reads the answer


class APIError(Exception):
    """What a client is told.

    Args:
        status: HTTP status.
        message: one sentence: what came, and what is allowed.
        param: the field at fault, if it is one.
        code: what a program can act on.
        headers: of the response.
        smcgen: what there is of the run.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        smcgen: Mapping[str, Any] | None = None,
    ):
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.headers, self.smcgen = dict(headers or {}), smcgen

    def body(self) -> dict[str, Any]:
        """The JSON of the response."""
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = kinds.get(
            self.status, "server_error" if self.status >= 500 else "invalid_request_error"
        )
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return {"error": error} | ({"smcgen": dict(self.smcgen)} if self.smcgen else {})

    def response(self) -> JSONResponse:
        """The response."""
        return JSONResponse(self.body(), self.status, headers=self.headers)


def from_argument(error: InvalidArgument) -> APIError:
    """An argument of ours that is not allowed, as a client's mistake."""
    code = "model_not_found" if error.name == "model" else None
    return APIError(404 if code else 400, str(error), param=error.name, code=code)


def engine_dead(error: BaseException) -> APIError:
    """What every client is told once the engine has ended for good."""
    # a reason may quote paths: its kind is enough here, the log has the rest
    message = f"the engine has died ({type(error).__name__}); the server must be started again"
    return APIError(503, message, code="engine_dead")


def from_run(error: BaseException, so_far: Mapping[str, Any] | None = None) -> APIError:
    """What a client is told of a run that did not end, or never began."""
    if isinstance(error, APIError):
        return error
    if isinstance(error, InvalidArgument):
        return from_argument(error)
    if isinstance(error, QueueFull):
        wait = {
            "retry-after": str(max(1, round(error.seconds))),
            "retry-after-ms": str(max(50, round(1000 * error.seconds))),
        }
        return APIError(429, str(error), code="queue_full", headers=wait)
    if isinstance(error, Draining) or (isinstance(error, Stopped) and error.reason == "shutdown"):
        message = "the server is shutting down"
        wait = {"retry-after": "5"}
        return APIError(503, message, code="shutting_down", headers=wait, smcgen=so_far)
    if isinstance(error, Stopped) and error.reason == "timeout":
        message = (
            "the run did not end in the time allowed; 'smcgen' in this response has what there is"
        )
        return APIError(504, message, code="timeout", headers=NO_RETRY, smcgen=so_far)
    if isinstance(error, Stopped):
        return APIError(CLIENT_GONE, "the client is gone", code=error.reason)
    # a reward's message may quote texts or paths: it is for the log
    log.error("a request failed", exc_info=error)
    message = f"the request failed ({type(error).__name__}); the server's log has the details"
    return APIError(500, message, code="run_failed", headers=NO_RETRY, smcgen=so_far)
