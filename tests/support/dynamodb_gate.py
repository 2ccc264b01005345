"""An HTTP proxy before DynamoDB that answers chosen requests with errors, or loses the answers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Collection

THROTTLED = "ProvisionedThroughputExceededException"


@dataclass
class Fault:
    """What happens to requests: an error in place of the answer, or no answer to a request that is
    carried out.
    """

    code: str = ""
    """"": another fault, or the answer is lost."""
    message: str = "said"
    status: int = 400
    operations: Collection[str] = ()
    """Only these; empty: all."""
    times: int = 1_000_000
    page: str = ""
    """A web page in place of the answer, with status 200."""
    silent_seconds: float = 0.0
    """How long there is no answer."""


class DynamoDbGate:
    """Passes requests on, except for those that meet the fault.

    Args:
        endpoint: of the DynamoDB behind it.

    Attributes:
        called: the operations of all requests so far.
        requests: their parameters.
        fault: of the requests to come; None: all are passed on.
        refused: how many requests have met a fault.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self.called: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.fault: Fault | None = None
        self.refused = 0
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**22)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._session = aiohttp.ClientSession(auto_decompress=False)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        self.called.append(operation)
        self.requests.append(json.loads(await request.read()))
        fault = self._fault_of(operation)
        if fault is not None and fault.code:
            body = {"__type": f"com.amazonaws.dynamodb.v20120810#{fault.code}"}
            return web.Response(
                status=fault.status,
                text=json.dumps(body | {"message": fault.message}),
                content_type="application/x-amz-json-1.0",
            )
        if fault is not None and fault.page:
            return web.Response(text=fault.page, content_type="text/html")
        if fault is not None and fault.silent_seconds:
            await asyncio.sleep(fault.silent_seconds)
        mine = {"host", "content-length", "accept-encoding"}
        async with self._session.post(
            self._endpoint,
            headers={
                name: value for name, value in request.headers.items() if name.lower() not in mine
            },
            data=await request.read(),
        ) as answer:
            body_read = await answer.read()
            if fault is not None:
                assert request.transport is not None
                request.transport.abort()
            return web.Response(
                status=answer.status,
                body=body_read,
                headers={"Content-Type": answer.headers.get("Content-Type", "")},
            )

    def _fault_of(self, operation: str) -> Fault | None:
        fault = self.fault
        if fault is None or not (not fault.operations or operation in fault.operations):
            return None
        if fault.times <= 0:
            return None
        fault.times -= 1
        self.refused += 1
        return fault
