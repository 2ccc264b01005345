"""A daemon process, scraped by a Prometheus with the shipped alerts."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from tests.deploy.prometheus import Prometheus, eventually, prometheus
from tests.support.daemon_process import DaemonProcess, DaemonScene, daemon_scene
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class WatchedDaemon:
    scene: DaemonScene
    modeldb: ModelDbV2StandIn
    daemon: DaemonProcess
    prometheus: Prometheus

    async def scraped(self, expression: str, value: float, seconds: float = 30) -> None:
        """Waits until an expression has one sample of at least a value."""

        async def is_there() -> bool:
            found = await self.prometheus.value(expression)
            return found is not None and found >= value

        await eventually(is_there, seconds)


@contextlib.asynccontextmanager
async def watched_daemon(
    sqs_endpoint: str, home: Path, free_port: Callable[[], int]
) -> AsyncIterator[WatchedDaemon]:
    """Starts everything; the daemon has been scraped at least once."""
    async with (
        ModelDbV2StandIn() as modeldb,
        daemon_scene(sqs_endpoint, modeldb.url, home) as scene,
    ):
        modeldb.faults.database_answer_seconds = 0.05
        await scene.make_queues(f"q-{uuid.uuid4().hex[:8]}")
        port = free_port()
        daemon = scene.daemon(port, reconcile={"every_seconds": 3600})
        async with prometheus(home / "prometheus", free_port(), port) as server:
            await daemon.start()
            await daemon.ready()
            watched = WatchedDaemon(scene, modeldb, daemon, server)
            await watched.scraped("count(modeldb_sync_build_info)", 1)
            yield watched


class StallingQueue:
    """A proxy between the daemon and SQS that can stall in two ways.

    Attributes:
        trickles: receives are answered with a byte a second and no end, so that no time-out of the
            client comes.
        frozen: nothing is answered at all.
    """

    def __init__(self, sqs_endpoint: str) -> None:
        self.trickles = asyncio.Event()
        self.frozen = asyncio.Event()
        self.url = ""
        self._sqs_endpoint = sqs_endpoint

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[StallingQueue]:
        async with aiohttp.ClientSession() as upstream:

            async def forward(request: web.Request) -> web.StreamResponse:
                body = await request.read()
                while self.frozen.is_set():
                    await asyncio.sleep(0.1)
                if (
                    self.trickles.is_set()
                    and request.headers.get("X-Amz-Target") == "AmazonSQS.ReceiveMessage"
                ):
                    return await self._trickle(request)
                async with upstream.post(
                    self._sqs_endpoint + request.path, data=body, headers=request.headers
                ) as answer:
                    kind = answer.headers["Content-Type"]
                    return web.Response(
                        status=answer.status,
                        body=await answer.read(),
                        headers={"Content-Type": kind},
                    )

            application = web.Application()
            application.router.add_route("*", "/{path:.*}", forward)
            runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
                yield self
            finally:
                await runner.cleanup()

    async def _trickle(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-amz-json-1.0"})
        await response.prepare(request)
        while self.trickles.is_set():
            await response.write(b" ")
            await asyncio.sleep(0.2)
        await response.write(b"{}")
        await response.write_eof()
        return response
