"""Connections to scripted ModelDB V1 servers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import struct
from typing import TYPE_CHECKING, Any

import pytest

from daemon.targets.modeldb_v1.codec import Call, decode_call, encode_reply
from daemon.targets.modeldb_v1.connection import Connection
from daemon.targets.modeldb_v1.errors import CallFailed
from tests.support.scripted_addresses import listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.support.scripted_addresses import Handler


@contextlib.asynccontextmanager
async def connected(handler: Handler, **options: Any) -> AsyncIterator[Connection]:
    async with listening(handler) as port:
        connection = await Connection.open("127.0.0.1", port, **options)
        try:
            yield connection
        finally:
            await connection.aclose()


def framed(message: bytes) -> bytes:
    return struct.pack("!i", len(message)) + message


async def read_call(reader: asyncio.StreamReader) -> Call:
    (length,) = struct.unpack("!i", await reader.readexactly(4))
    return decode_call(await reader.readexactly(length))


def answer_to(call: Call) -> bytes:
    """A different answer per call."""
    match call.method:
        case "pathForTransformer":
            return encode_reply(
                call.method, call.sequence_id, f"path of {call.arguments['transformerId']}"
            )
        case "updateProject":
            return encode_reply(call.method, call.sequence_id, result=True)
        case _:
            return encode_reply(call.method, call.sequence_id, 200)


async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(framed(answer_to(await read_call(reader))))
        await writer.drain()


async def failure_of(call: Awaitable[object]) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        await call
    return caught.value


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


class Observed(list[tuple[str, str]]):
    def __call__(self, method: str, result: str) -> None:
        self.append((method, str(result)))


@contextlib.asynccontextmanager
async def nothing_left_behind() -> AsyncIterator[None]:
    """Fails if a task or an unreported error is left; unclosed sockets are warnings, which are
    errors.
    """
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reports.append(context))
    before = asyncio.all_tasks()
    gc.freeze()  # what was there before the test need not be traversed after it
    try:
        yield
        # the other side may not yet have noticed the end of a connection
        async with asyncio.timeout(5):
            while asyncio.all_tasks() - before - {asyncio.current_task()}:
                await asyncio.sleep(0.001)
        gc.collect()
    finally:
        gc.unfreeze()
    assert reports == [], reports
