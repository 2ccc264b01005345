"""Sockets to a server that has a name."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl

KEEPALIVE_SECONDS = 30
"""Of silence before the kernel asks whether the other side is there: firewalls forget connections
within minutes."""
_KEEPALIVE_OPTIONS = (
    ("TCP_KEEPIDLE", KEEPALIVE_SECONDS),
    ("TCP_KEEPALIVE", KEEPALIVE_SECONDS),
    ("TCP_KEEPINTVL", 10),
    ("TCP_KEEPCNT", 3),
)
"""Not every platform has each."""


async def connected_socket(host: str, port: int, seconds: float) -> socket.socket:
    """A connection to the first of the host's addresses that takes one.

    Args:
        host: a name or an address.
        port: of the server.
        seconds: in all; an address may take its share of what is left, so that one that never
            answers does not use up all of it.

    Raises:
        OSError: none takes one; as the first said.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failures: list[OSError] = []
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        try:
            async with asyncio.timeout((end - loop.time()) / (len(addresses) - number)):
                return await _connected(socket.socket(family, kind, protocol), address)
        except OSError as error:  # a time-out is one
            failures.append(error)
    raise failures[0] if failures else OSError(f"{host} has no address")


def words_of(error: Exception) -> str:
    """What an error says: in the system's words, if it is the system's."""
    if (
        isinstance(error, OSError)
        and not isinstance(error, ssl.SSLError)
        and error.errno is not None
        and error.errno > 0
    ):
        return os.strerror(error.errno)
    if isinstance(error, ConnectionError) and not error.args:
        return "closed by the other side"
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


async def _connected(made: socket.socket, address: tuple[object, ...]) -> socket.socket:
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE_OPTIONS:
            if hasattr(socket, option):
                made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made
