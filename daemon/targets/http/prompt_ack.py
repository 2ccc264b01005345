"""Prompt TCP acknowledgements of answers."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp


def acknowledge_headers(response: aiohttp.ClientResponse) -> None:
    """Makes the kernel acknowledge the headers of an answer at once. Only on Linux.

    MLflow's web server (uvicorn with more than one worker, the default) leaves Nagle's algorithm
    on: the body waits in the server until the headers are acknowledged, which the kernel otherwise
    delays by 40 ms. `benchmarks/README.md` has the measurements.

    Args:
        response: whose headers have arrived; nothing is done if its body has arrived, too.
    """
    connection = response.connection
    if connection is None or connection.transport is None:
        return
    line = connection.transport.get_extra_info("socket")
    if line is None or not hasattr(socket, "TCP_QUICKACK"):
        return
    with contextlib.suppress(OSError):  # closed: reading the body tells
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
