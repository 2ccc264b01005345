"""An HTTP proxy that gives odd answers of its own for a while."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Self

import aiohttp

from tests.support.odd_answers import http

if TYPE_CHECKING:
    from collections.abc import Iterable

_PASSED_ON = ("Content-Type", "x-amzn-query-error", "x-amzn-ErrorType")


class OddProxy:
    """Passes requests on while no odd answers are left.

    Args:
        url: of the server behind it; only scheme, host and port count.
    """

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("//")
        host, _, self._path = rest.partition("/")
        self._behind = f"{scheme}//{host}"
        self._odd: deque[bytes] = deque()
        self._used_up = asyncio.Event()

    @property
    def url(self) -> str:
        """As the URL of the server, with the proxy's own port."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/{self._path}"

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(auto_decompress=False)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()
        await self._session.close()

    async def give(self, answers: Iterable[bytes]) -> None:
        """Gives the next requests these answers, and returns when each has been given."""
        self._used_up.clear()
        self._odd.extend(answers)
        await self._used_up.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:] if line)
            length = next(
                (int(value) for name, value in headers.items() if name.lower() == "content-length"),
                0,
            )
            body = await reader.readexactly(length)
            method, path, _ = head[0].split(" ")
            writer.write(await self._answer(method, path, headers, body))
            await writer.drain()
        except (OSError, EOFError):
            pass  # the client has gone
        finally:
            writer.close()

    async def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
        if self._odd:
            answer = self._odd.popleft()
            if not self._odd:
                self._used_up.set()
            return answer
        mine = {"host", "connection", "content-length", "accept-encoding"}
        kept = {name: value for name, value in headers.items() if name.lower() not in mine}
        async with self._session.request(
            method, self._behind + path, headers=kept, data=body
        ) as response:
            passed = {
                name.replace("-", "_"): response.headers[name]
                for name in _PASSED_ON
                if name in response.headers
            }
            return http(response.status, await response.read(), Connection="close", **passed)
