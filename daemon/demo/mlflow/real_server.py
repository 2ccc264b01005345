"""The real MLflow server in the demo, with a small proxy in front that makes the demo's faults: the
database that is gone, and the answer that is lost.

The server keeps its data in SQLite in the demo's folder and listens on loopback only. It ends with
the demo, also when that is killed (`guard`).
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web
from yarl import URL

from daemon.demo.mlflow.calls import DATABASE_GONE
from daemon.demo.mlflow.faults import Faults
from daemon.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path
    from typing import Self

COMMAND = (sys.executable, "-m", "mlflow", "server")
START_SECONDS = 90.0
"""It takes 6 s on an idle machine."""
_LOOK_SECONDS = 0.2
_END_SECONDS = 10.0
_API = "/api/2.0/mlflow/"
_ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # it would start ten processes more
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


class RealServer:
    """What the demo needs of it; see `demo_target.Server`."""

    title = "MLflow, the real server"

    def __init__(self, direct: str, proxy: Proxy) -> None:
        self._direct = direct
        self._proxy = proxy

    @property
    def url(self) -> str:
        return self._proxy.url

    @property
    def places(self) -> Sequence[tuple[str, str]]:
        return [("MLflow's pages", f"{self._direct}/"), ("MLflow (REST)", self.url)]

    @property
    def run_count(self) -> int:
        return self._proxy.created_runs

    def go_down(self) -> None:
        self._proxy.faults.database_down = True

    def come_back(self, lost: str) -> None:
        self._proxy.faults.lose_next_answer(lost)
        self._proxy.faults.database_down = False


@asynccontextmanager
async def running_real_server(
    http: aiohttp.ClientSession, folder: Path
) -> AsyncIterator[RealServer]:
    """The server and its proxy, until the block ends.

    Args:
        http: to ask whether it has started.
        folder: for its database, its artifacts and its log.

    Raises:
        DaemonError: it does not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    direct = f"http://127.0.0.1:{port}"
    log = folder / "mlflow.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "daemon.demo.mlflow.guard"),
            *COMMAND,
            *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
            *("--artifacts-destination", str(folder / "mlflow-artifacts")),
            *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=os.environ | _ENVIRONMENT,
            start_new_session=True,  # Ctrl-C is the demo's, which then ends the server
        )
    try:
        await _wait_until_it_answers(http, direct, process, log)
        async with Proxy(direct) as proxy:
            yield RealServer(direct, proxy)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        async with asyncio.timeout(_END_SECONDS):
            await process.wait()


async def _wait_until_it_answers(
    http: aiohttp.ClientSession, url: str, process: asyncio.subprocess.Process, log: Path
) -> None:
    """Asks through the database: ``/health`` says OK without one."""
    search = f"{url}{_API}experiments/search"
    try:
        async with asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                try:
                    async with http.post(search, json={"max_results": 1}) as answer:
                        if answer.ok:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError as error:
        raise DaemonError(
            f"MLflow did not answer within {START_SECONDS:.0f} s; see its log: {log}"
        ) from error
    raise DaemonError(f"MLflow ended while it started; see its log: {log}")


class Proxy:
    """Passes requests on, unless the demo's faults have other plans.

    Attributes:
        created_runs: how many creates of a run the server has carried out.
    """

    def __init__(self, server_url: str) -> None:
        self.faults = Faults()
        self.created_runs = 0
        self.url = ""
        self._server = server_url
        self._http: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(auto_decompress=False)
        application = web.Application(client_max_size=0)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=1.0
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._http is not None:
            await self._http.close()

    async def _handle(self, request: web.Request) -> web.Response:
        operation = request.path.removeprefix(_API) if request.path.startswith(_API) else ""
        if self.faults.database_down and operation:
            body = {"error_code": "TEMPORARILY_UNAVAILABLE", "message": DATABASE_GONE}
            return web.Response(
                status=503, body=json.dumps(body).encode(), content_type="application/json"
            )
        lost = self.faults.loses_answer(operation)
        response = await self._pass_on(request)
        if operation == "runs/create" and response.status == HTTPStatus.OK:
            self.created_runs += 1
        if lost and request.transport is not None:
            request.transport.abort()
        return response

    async def _pass_on(self, request: web.Request) -> web.Response:
        if self._http is None:
            raise RuntimeError("the proxy is not running")
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in _HOP_BY_HOP
        }
        url = URL(self._server + request.raw_path, encoded=True)
        body = await request.read()
        async with self._http.request(request.method, url, headers=headers, data=body) as answer:
            passed = [
                (name, value)
                for name, value in answer.headers.items()
                if name.lower() not in _HOP_BY_HOP
            ]
            return web.Response(status=answer.status, body=await answer.read(), headers=passed)
