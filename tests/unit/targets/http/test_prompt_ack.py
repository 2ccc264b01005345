"""A server with Nagle's algorithm sends the body of an answer as soon as its headers are
acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest

from daemon.targets.http.prompt_ack import acknowledge_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DELAYED_ACK_SECONDS = 0.04
"""Linux delays an acknowledgement at least so long."""
REQUESTS = 30


@contextlib.asynccontextmanager
async def server_with_nagle() -> AsyncIterator[str]:
    """Sends headers and body in two pieces, as uvicorn does."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = writer.get_extra_info("socket")
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
                await writer.drain()
                writer.write(b"{}")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def seconds_of_requests(url: str, *, prompt: bool) -> list[float]:
    """Of the later requests on one connection: Linux acknowledges the first ones at once."""
    seen = []
    async with aiohttp.ClientSession() as session:
        for _ in range(REQUESTS):
            begun = time.perf_counter()
            async with session.get(url) as response:
                if prompt:
                    acknowledge_headers(response)
                assert await response.read() == b"{}"
            seen.append(time.perf_counter() - begun)
    return sorted(seen[REQUESTS // 2 :])


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_QUICKACK is an option of Linux")
async def test_the_body_does_not_wait_for_a_delayed_acknowledgement() -> None:
    async with server_with_nagle() as url:
        delayed = await seconds_of_requests(url, prompt=False)
        prompt = await seconds_of_requests(url, prompt=True)
    assert delayed[0] > DELAYED_ACK_SECONDS * 0.9  # else this test shows nothing
    # the fastest, which is quick on a slow machine, too
    assert prompt[0] < DELAYED_ACK_SECONDS / 2
