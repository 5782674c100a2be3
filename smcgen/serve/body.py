"""Reading a request's body: no more bytes than allowed, and JSON that says what it must."""

import asyncio
from typing import TypeVar

from fastapi import Request
from pydantic import ValidationError

from smcgen.serve.failures import APIError
from smcgen.serve.schema import Ask

_SECONDS = 30.0  # for a body to arrive
_SHOWN = 80  # characters of a value that came

A = TypeVar("A", bound=Ask)


async def read_ask(request: Request, schema: type[A], most: int) -> A:
    """The request.

    Raises:
        APIError: 415 not JSON by its header, 413 too long, 408 too slow, 400 not as the schema says.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # what a web page can send without asking is refused with it
        message = f"content-type={kind[:_SHOWN]!r} is not allowed: expected 'application/json'"
        raise APIError(415, message, code="unsupported_media_type")
    body = await _read(request, most)
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        raise _explained(error) from error


async def _read(request: Request, most: int) -> bytes:
    length = request.headers.get("content-length", "")
    too_long = APIError(
        413, f"the body is too long: expected at most {most} bytes", code="body_too_large"
    )
    if length.isdigit() and int(length) > most:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            async for part in request.stream():  # a chunked body does not say how long it is
                body += part
                if len(body) > most:
                    raise too_long
    except TimeoutError as error:
        raise APIError(408, "the body did not arrive in time", code="body_timeout") from error
    return bytes(body)


def _explained(error: ValidationError) -> APIError:
    """The first field that is wrong, as a sentence that names it, what came and what is allowed."""
    errors = error.errors(include_url=False, include_context=False)
    first, field = errors[0], _field(errors[0]["loc"])
    if first["type"] == "json_invalid":
        return APIError(400, f"the body is not JSON: {first['msg']}", code="invalid_json")
    if first["type"] == "missing":
        return APIError(400, f"{field} is missing", param=field, code="missing_field")
    if first["type"] == "extra_forbidden":
        return APIError(400, f"{field} is not a known field", param=field, code="unknown_field")
    # a field that may be one of several kinds has an error for each
    same = [e["msg"].removeprefix("Value error, ") for e in errors if _field(e["loc"]) == field]
    message = ", or: ".join(dict.fromkeys(same))
    came = repr(first["input"])
    came = came if len(came) <= _SHOWN else came[: _SHOWN - 3] + "..."
    what = f"{field}={came}" if field else "the body"
    text = f"{what} is not allowed: {message}"
    return APIError(400, text, param=field or None, code="invalid_value")


def _field(location: tuple[int | str, ...]) -> str:
    """A field's name; the kinds of a union are no part of it."""
    kinds = ("constrained-", "list[", "function-")
    parts = [str(part) for part in location]
    return ".".join(p for p in parts if p not in ("str", "int") and not p.startswith(kinds))
