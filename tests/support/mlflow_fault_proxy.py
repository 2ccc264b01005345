"""An HTTP proxy between the daemon and an MLflow that knows calls, and can lose their answers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Judge = Callable[[str], Awaitable[bool]]

API = "/api/2.0/mlflow/"
_OF_A_CONNECTION = frozenset({"connection", "content-length", "transfer-encoding", "keep-alive"})


class MlflowFaultProxy:
    """Forwards every call, unless a fault is set.

    Attributes:
        url: where it listens.
        on_call: asked with the call's name, such as ``runs/create``, before the server sees it;
            False: the connection breaks, and the server does not see the call.
        on_answer: asked when the server has answered; False: the connection breaks instead.
    """

    def __init__(self, session: aiohttp.ClientSession, upstream: str) -> None:
        self._session = session
        self._upstream = upstream
        self.url = ""
        self.on_call: Judge = pass_on
        self.on_answer: Judge = pass_on

    async def serve(self, request: web.Request) -> web.Response:
        operation = request.path.partition(API)[2]
        body = await request.read()
        if not await self.on_call(operation):
            return _cut(request)
        try:
            async with self._session.request(
                request.method,
                self._upstream + request.raw_path,
                data=body,
                headers={
                    name: value
                    for name, value in request.headers.items()
                    if name.lower() not in _OF_A_CONNECTION | {"host", "accept-encoding"}
                },
                allow_redirects=False,
            ) as answer:
                answered = web.Response(
                    status=answer.status,
                    body=await answer.read(),
                    headers=[
                        (name, value)
                        for name, value in answer.headers.items()
                        if name.lower() not in _OF_A_CONNECTION
                    ],
                )
        except aiohttp.ClientError:
            return _cut(request)
        return answered if await self.on_answer(operation) else _cut(request)


async def pass_on(_operation: str) -> bool:
    return True


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # goes nowhere


@contextlib.asynccontextmanager
async def mlflow_fault_proxy(upstream: str) -> AsyncIterator[MlflowFaultProxy]:
    """A proxy on a free port.

    Args:
        upstream: the server's URL.
    """
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        proxy = MlflowFaultProxy(session, upstream)
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", proxy.serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield proxy
        finally:
            await runner.cleanup()
