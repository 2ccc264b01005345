"""An HTTP proxy before an AWS service that notes the operations that are called, and denies chosen
ones, as IAM would.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Self

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Collection


class AwsGate:
    """Passes requests of a JSON protocol on, except for denied ones.

    Args:
        endpoint: of the service behind it.
        denied: operations, such as ``DeleteMessageBatch``.

    Attributes:
        called: operations and the queue's URL, "" for none, of every request so far.
    """

    def __init__(self, endpoint: str, denied: Collection[str] = ()) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._denied = denied
        self.called: set[tuple[str, str]] = set()
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**22)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._session = aiohttp.ClientSession()
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _serve(self, request: web.Request) -> web.Response:
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if operation:
            parameters = json.loads(await request.read())
            self.called.add((operation, parameters.get("QueueUrl", "")))
        if operation in self._denied:
            body = {"__type": "AccessDeniedException", "message": "no"}
            return web.Response(
                status=400, text=json.dumps(body), content_type="application/x-amz-json-1.0"
            )
        async with self._session.request(
            request.method,
            self._endpoint + request.path_qs,
            data=await request.read(),
            headers={k: v for k, v in request.headers.items() if k.lower() != "host"},
        ) as answer:
            return web.Response(
                status=answer.status,
                body=await answer.read(),
                content_type=answer.content_type,
            )
