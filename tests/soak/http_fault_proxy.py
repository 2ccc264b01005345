"""An HTTP proxy that throttles, or answers as no API would."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from random import Random

HOP_BY_HOP = {"connection", "content-length", "content-encoding", "transfer-encoding", "keep-alive"}
JSON = "application/x-amz-json-1.1"


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered in place of the server's answer."""

    status: int
    body: bytes
    content_type: str = "text/html"


class Mischief(StrEnum):
    """What the proxy does to a share of the calls."""

    THROTTLED = "throttled"
    """The server does not see them."""
    ODD = "odd"
    """Half of the calls reach the server nevertheless, except receives: those would hide messages
    that nobody gets."""


THROTTLES = (
    Reply(400, b'{"__type":"ThrottlingException","message":"Rate exceeded"}', JSON),
    Reply(400, b'{"__type":"com.amazonaws.sqs#RequestThrottled","message":"Slow down"}', JSON),
    Reply(429, b'{"__type":"TooManyRequestsException"}', JSON),
)
ODD_REPLIES = (
    Reply(403, "<html>Zugriff verweigert: gesperrt für Gäste</html>".encode("latin-1")),
    Reply(502, "<html>Passerelle erronée</html>".encode("latin-1")),
    Reply(400, b'{"__type": 17, "message": ["a", "list"]}', JSON),
    Reply(400, b'{"__type": {"a": {}}}', JSON),
    Reply(200, b'{"TrainingJobName": "half of an ans', JSON),
    Reply(200, b"<html><body>Please log in</body></html>"),
    Reply(200, b"", JSON),
    Reply(200, b"null", JSON),
    Reply(200, b"[" * 20_000, JSON),
    Reply(502, b""),
    Reply(503, b"\xff\xfe\x00", "text/plain; charset=utf-16"),
)


class HttpFaultProxy:
    """Listens on a port of the loopback interface.

    Args:
        upstream: the server's URL, without a path.
        luck: where chances come from.

    Attributes:
        struck: how many calls were answered by the proxy itself.
    """

    def __init__(self, upstream: str, luck: Random) -> None:
        self._upstream = upstream
        self._luck = luck
        self._mischief: Mischief | None = None
        self._share = 0.0
        self.url = ""
        self.struck: Counter[Mischief] = Counter()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            auto_decompress=False, timeout=aiohttp.ClientTimeout(total=60)
        )
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    @contextlib.contextmanager
    def misbehaving(self, mischief: Mischief, share: float) -> Iterator[None]:
        """One mischief for as long as the block lasts.

        Args:
            share: of the calls, between 0 and 1.
        """
        assert self._mischief is None, "one mischief at a time"
        self._mischief, self._share = mischief, share
        try:
            yield
        finally:
            self._mischief = None

    async def _serve(self, request: web.Request) -> web.Response:
        body = await request.read()
        mischief = self._mischief
        if mischief is None or self._luck.random() >= self._share:
            return await self._pass_on(request, body)
        self.struck[mischief] += 1
        replies: Sequence[Reply] = THROTTLES if mischief is Mischief.THROTTLED else ODD_REPLIES
        reply = self._luck.choice(replies)
        receives = request.headers.get("X-Amz-Target", "").endswith(".ReceiveMessage")
        if mischief is Mischief.ODD and not receives and self._luck.random() < 0.5:
            await self._pass_on(request, body)
        return web.Response(
            status=reply.status, body=reply.body, headers={"Content-Type": reply.content_type}
        )

    async def _pass_on(self, request: web.Request, body: bytes) -> web.Response:
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in HOP_BY_HOP | {"host", "accept-encoding"}
        }
        try:
            async with self._session.request(
                request.method, self._upstream + request.raw_path, data=body, headers=headers
            ) as answer:
                return web.Response(
                    status=answer.status,
                    body=await answer.read(),
                    headers=[
                        (name, value)
                        for name, value in answer.headers.items()
                        if name.lower() not in HOP_BY_HOP
                    ],
                )
        except (TimeoutError, aiohttp.ClientError):
            return web.Response(status=502)
