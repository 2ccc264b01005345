"""Servers that answer byte by byte as a test says."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.json_lines import read_json_lines

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

WIRE = Path(__file__).parents[1] / "data" / "modeldb_v1" / "wire.jsonl"
_LONGEST_FRAME = 16_384_000
_SEQUENCE_ID = slice(-5, -1)
"""Its position in a call without arguments."""
_SEQUENCE_ID_IN_REPLY = slice(22, 26)


def recorded(name: str) -> tuple[bytes, bytes]:
    """A request to the real ModelDB V1 and its answer, without their lengths."""
    exchange = next(line for line in read_json_lines(WIRE) if line["name"] == name)
    return bytes.fromhex(exchange["request_hex"]), bytes.fromhex(exchange["response_hex"])


def port_of(url: str) -> int:
    return int(url.split(":")[2].split("/", maxsplit=1)[0])


@contextlib.asynccontextmanager
async def listening(
    handler: Handler, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A server that passes each connection to the handler and closes it when the handler returns.
    Yields its port.
    """
    handling: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handling.add(task)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
                await handler(reader, writer)
        finally:
            writer.close()
            # Python 3.11 would report a cancelled handler as an error
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in handling:
            task.cancel()
        await asyncio.gather(*handling, return_exceptions=True)
        await server.wait_closed()


class ModelDBV1:
    """Answers ``testConnection`` and closes the connection on everything else, as the real server
    does on malformed calls.
    """

    def __init__(self) -> None:
        self.connections = 0
        self.sequence_ids: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        request, reply = recorded("a-test-connection")
        while (
            0
            < (length := int.from_bytes(await reader.readexactly(4), "big", signed=True))
            <= _LONGEST_FRAME
        ):
            frame = bytearray(await reader.readexactly(length))
            sequence_id = bytes(frame[_SEQUENCE_ID])
            frame[_SEQUENCE_ID] = request[_SEQUENCE_ID]
            if frame != request:
                return
            self.sequence_ids.append(sequence_id)
            answer = bytearray(reply)
            answer[_SEQUENCE_ID_IN_REPLY] = sequence_id
            writer.write(len(answer).to_bytes(4, "big") + answer)


async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Reads and never answers."""
    while await reader.read(65_536):
        pass


def saying(answer: bytes) -> Handler:
    """Reads once, sends these bytes and closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(answer)

    return serve
