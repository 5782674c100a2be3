"""Taking the address before a large model is loaded, so that one in use is found at once."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager


class CannotListen(OSError):
    """The address is in use, or not this machine's."""


@contextmanager
def bound(host: str, port: int) -> Iterator[list[socket.socket]]:
    """`bind`, closed at the end of the block."""
    taken = bind(host, port)
    try:
        yield taken
    finally:
        for one in taken:
            one.close()


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets that are bound and do not listen yet: one for each address of the host.

    Raises:
        CannotListen: the address is in use, or not this machine's; the message names it.
    """
    taken: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                one = socket.socket(family, kind, protocol)
            except OSError:  # a machine without IPv6, say
                continue
            taken.append(one)
            if os.name == "posix":  # elsewhere it would let two servers share a port
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # a free port, once found, is that of all addresses
            chosen = taken[0].getsockname()[1] if len(taken) > 1 else port
            try:
                one.bind((address[0], chosen, *address[2:]))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and len(found) > 1:  # ::1 without IPv6
                    taken.pop().close()
                    continue
                raise
        if not taken:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    except OSError as error:
        for one in taken:
            one.close()
        raise CannotListen(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return taken
