"""Who may ask: a bearer key, or, where no key is set, programs on this machine alone."""

import hashlib
import hmac
import ipaddress

from fastapi import Request

from smcgen.errors import InvalidArgument
from smcgen.serve.failures import APIError


def is_loopback(host: str) -> bool:
    """Whether a host name can only mean this machine. A name other than localhost could mean any."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_exposure(host: str, api_key: str | None) -> None:
    """Refuse to serve other machines without a key.

    Raises:
        InvalidArgument: the host is not this machine and there is no key, or the key cannot be sent.
    """
    if api_key is not None and not (
        isinstance(api_key, str) and api_key.isascii() and api_key.isprintable() and api_key.strip()
    ):
        # the key itself is not shown
        raise InvalidArgument("api_key", "...", "printable ASCII characters, at least one")
    if api_key is None and not is_loopback(host):
        allowed = "127.0.0.1, ::1 or localhost without an API key; set SMCGEN_API_KEY (or --api-key) to serve others"
        raise InvalidArgument("host", host, allowed)


class Guard:
    """Lets a request pass, or raises.

    With a key, it must come as `Authorization: Bearer KEY`; digests are compared in constant time, so that neither
    the key nor its length can be found by timing. Without one, the Host header must name this machine: a web page
    whose name was made to point here (DNS rebinding) is refused.
    """

    def __init__(self, api_key: str | None):
        self._digest = None if api_key is None else _digest(api_key.encode())

    async def __call__(self, request: Request) -> None:
        if self._digest is None:
            host = request.headers.get("host", "")  # name, name:port, or [address]:port
            name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
            if not is_loopback(name):
                message = f"host {host[:80]!r} is not this machine; start the server with an API key to serve others"
                raise APIError(403, message, code="host_not_allowed")
            return
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        given = _digest(key.strip().encode("latin-1", "replace"))
        if not hmac.compare_digest(given, self._digest) or scheme.lower() != "bearer":
            message = "no valid API key: send the header 'Authorization: Bearer KEY'"
            headers = {"www-authenticate": "Bearer"}
            raise APIError(401, message, code="invalid_api_key", headers=headers)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
