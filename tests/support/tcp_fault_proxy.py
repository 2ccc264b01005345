"""A TCP proxy that fails on demand, between the daemon and a ModelDB. It knows neither REST nor
Thrift.

Only `Fault.UNAVAILABLE` speaks HTTP: it answers a request itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from random import Random

CHUNK = 65_536
LONGEST_DELAY_SECONDS = 1.0
"""Below every settle time of the soak: what a proxy delays must not arrive when the daemon takes it
for over."""
CHANCE = 0.3
"""Of a chunk to be the one at which a connection is cut, or of an answer to be lost."""

_BODIES = (
    b'{"code": 14, "message": "upstream connect error", "details": []}',
    b"<html><body>Service Unavailable</body></html>",
    b"",
)
_RESET = struct.pack("ii", 1, 0)


class Fault(StrEnum):
    """The faults of a connection."""

    DELAY = "delay"
    """Each piece of data is late."""
    RESET = "reset"
    """Connections break in the middle of a piece of data, in either direction."""
    LOST_ANSWER = "lost answer"
    """The request went through, the answer does not."""
    BLACK_HOLE = "black hole"
    """Connections are accepted, data is taken, and nothing comes back."""
    REFUSED = "refused"
    """Nothing listens, and open connections break."""
    UNAVAILABLE = "503"
    """The proxy answers HTTP requests with 503, as a load balancer without a server behind it."""


class FaultProxy:
    """Listens on a port of the loopback interface; keeps the port after it has refused connections.

    Args:
        upstream: the port of the server on this machine.
        luck: where chances come from.

    Attributes:
        struck: how many connections, answers or pieces of data each fault has hit.
    """

    def __init__(self, upstream: int, luck: Random) -> None:
        self._upstream = upstream
        self._luck = luck
        self.port = 0
        self.fault: Fault | None = None
        self.struck: Counter[Fault] = Counter()
        self._server: asyncio.Server | None = None
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._refuse()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def failing(self, fault: Fault) -> AsyncIterator[None]:
        """One fault for as long as the block lasts. Connections that vanished in a black hole break
        at its end.
        """
        assert self.fault is None, "one fault at a time"
        self.fault = fault
        if fault is Fault.REFUSED:
            self.struck[fault] += self._refuse()
        try:
            yield
        finally:
            self.fault = None
            if fault is Fault.REFUSED:
                await self._listen()
            for line in [line for line in self._lines if line.swallowed]:
                line.cut()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def _refuse(self) -> int:
        if self._server is not None:
            self._server.close()
        self._server = None
        lines = list(self._lines)
        for line in lines:
            line.cut()
        return len(lines)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            _reset(writer)
            return
        line = _Line(writer, back)
        self._lines.add(line)
        ways = [
            asyncio.create_task(self._calls(line, reader)),
            asyncio.create_task(self._answers(line, there)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # asyncio of Python 3.11 reports a handler that ends cancelled as an error
        finally:
            self._lines.discard(line)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            line.end()

    async def _calls(self, line: _Line, reader: asyncio.StreamReader) -> None:
        async for data in _pieces(reader):
            line.answering = False
            if self.fault is Fault.UNAVAILABLE:
                self.struck[Fault.UNAVAILABLE] += 1
                body = self._luck.choice(_BODIES)
                head = (
                    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: "
                    f"{len(body)}\r\nConnection: close\r\n\r\n"
                )
                line.client.write(head.encode() + body)
                await line.client.drain()
                return
            if not await self._pass_on(line, data, line.server):
                return

    async def _answers(self, line: _Line, there: asyncio.StreamReader) -> None:
        async for data in _pieces(there):
            begins = not line.answering
            line.answering = True
            if self.fault is Fault.LOST_ANSWER and begins and self._luck.random() < CHANCE:
                self.struck[Fault.LOST_ANSWER] += 1
                line.cut()
                return
            if not await self._pass_on(line, data, line.client):
                return

    async def _pass_on(self, line: _Line, data: bytes, to: asyncio.StreamWriter) -> bool:
        """False: the connection has ended."""
        if self.fault is Fault.DELAY:
            self.struck[Fault.DELAY] += 1
            await asyncio.sleep(self._luck.uniform(0.01, LONGEST_DELAY_SECONDS))
        # what comes after a gap would make no sense
        if self.fault is Fault.BLACK_HOLE or line.swallowed:
            self.struck[Fault.BLACK_HOLE] += not line.swallowed
            line.swallowed = True
            return True
        if self.fault is Fault.RESET and self._luck.random() < CHANCE:
            self.struck[Fault.RESET] += 1
            to.write(data[: self._luck.randrange(len(data))])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await to.drain()
            line.cut()
            return False
        to.write(data)
        await to.drain()
        return True


class _Line:
    """The connection of a client and the one to the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.swallowed = False
        self.answering = False

    def cut(self) -> None:
        """Both ends see a reset at once."""
        _reset(self.client)
        _reset(self.server)

    def end(self) -> None:
        self.client.close()
        self.server.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None and not writer.transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


async def _pieces(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Data as it arrives, until the connection ends."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(CHUNK):
            yield data
