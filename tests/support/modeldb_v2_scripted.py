"""Scripted servers, and a ModelDB V2 client of them whose deadlines expire on request."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from daemon.targets.modeldb_v2.client import ModelDbV2Client
from daemon.targets.modeldb_v2.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

CLIENT_OPTIONS: dict[str, Any] = {
    "headers": {},
    "tls": None,
    "timeout_seconds": 10.0,
    "max_concurrency": 4,
    "observe": lambda _operation, _result: None,
}


@contextlib.asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], *, ssl: Any = None
) -> AsyncIterator[str]:
    """A web server with one handler for all paths. Yields its base URL."""
    application = web.Application(client_max_size=2**24)
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl).start()
    try:
        yield f"{'https' if ssl else 'http'}://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def answering(raw: bytes) -> AsyncIterator[str]:
    """A server that answers the first bytes it reads with these and closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(raw)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


@contextlib.asynccontextmanager
async def asking(url: str, **options: Any) -> AsyncIterator[ModelDbV2Client]:
    client = ModelDbV2Client(url, **CLIENT_OPTIONS | options)
    try:
        yield client
    finally:
        await client.aclose()


class Deadlines:
    """The deadlines of calls by clients with ``timeout_seconds=Deadlines.SECONDS``."""

    SECONDS = 77.0

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._made: list[asyncio.Timeout] = []
        new_timeout = asyncio.timeout

        def timeout(seconds: float | None) -> asyncio.Timeout:
            made = new_timeout(seconds)
            if seconds == self.SECONDS:
                self._made.append(made)
            return made

        monkeypatch.setattr(asyncio, "timeout", timeout)

    @property
    def count(self) -> int:
        """Deadlines that have begun."""
        return len(self._made)

    def expire(self) -> None:
        """Ends the last call that began."""
        self._made[-1].reschedule(asyncio.get_running_loop().time())


async def error_of(call: Awaitable[object]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await call
    return caught.value


def json_answer(status: int, body: object) -> web.Response:
    return web.Response(status=status, text=json.dumps(body), content_type="application/json")
