"""Addresses at which something answers as a test says, byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

WIRE = Path(__file__).parents[1] / "data" / "modeldb_v1" / "wire.jsonl"
_LONGEST_FRAME = 16_384_000
_SEQUENCE_ID = slice(-5, -1)
"""Where a call without arguments has it."""
_SEQUENCE_ID_IN_REPLY = slice(22, 26)


def recorded(name: str) -> tuple[bytes, bytes]:
    """A request to the real ModelDB V1 and its answer, without their lengths."""
    exchange = next(
        line for line in map(json.loads, WIRE.read_text().splitlines()) if line["name"] == name
    )
    return bytes.fromhex(exchange["request_hex"]), bytes.fromhex(exchange["response_hex"])


@contextlib.asynccontextmanager
async def listening(
    serve: Serve, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A server for as long as the block lasts; its connections are closed when `serve` returns.
    Gives its port.
    """
    under_way: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await serve(reader, writer)
                await writer.drain()
        except asyncio.CancelledError:
            pass  # the block has ended; asyncio's own callback would report it as an error
        finally:
            under_way.discard(task)
            writer.close()

    server = await asyncio.start_server(handle, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        waiting = list(under_way)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await server.wait_closed()


class ModelDBV1:
    """Knows ``testConnection`` and closes the connection on everything else, as the real server
    does on what is no call.
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


def saying(answer: bytes) -> Serve:
    """Reads what comes first, sends these bytes and closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(answer)

    return serve
