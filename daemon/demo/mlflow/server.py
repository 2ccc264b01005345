"""A stand-in for MLflow's tracking server, in memory, for the demo, the tests and the benchmarks.

    async with MlflowStandIn() as server:
        ...  # server.url is the tracking URI to configure: http://127.0.0.1:PORT
        server.faults.database_down = True

or, in a process of its own: ``python -m daemon.demo.mlflow.server --port 5000``.

`model.MlflowModel` decides what it answers; this module adds the socket, the time that a call takes
and what goes wrong (`faults`). Each call is carried out at one instant, when its `latency_seconds`
have passed.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
import uuid
from typing import TYPE_CHECKING, Any

from aiohttp import web

from daemon.demo.mlflow.faults import Faults
from daemon.demo.mlflow.model import MlflowModel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from daemon.demo.mlflow.replies import Reply

_LARGEST_BODY = 64 * 1024 * 1024
_LARGEST_HEADER = 64 * 1024


class MlflowStandIn:
    """The server. Starts and stops as a context manager, or by `start` and `stop`; keeps its data
    and its port over a new start.

    Args:
        host: address to listen on.
        port: 0: a free one, chosen at the first start.
        latency_seconds: how long a call takes.
        behaviour: of `MlflowModel`: version, database, logins and so on.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        latency_seconds: float = 0.0,
        **behaviour: Any,  # noqa: ANN401 - the model's own, which names their types
    ) -> None:
        self.host = host
        self.port = port
        self.latency_seconds = latency_seconds
        self.faults = self._new_faults()
        self.model = MlflowModel(
            **{"now_ms": _now_ms, "new_id": _new_id, **behaviour}  # tests bring clocks of their own
        )
        self._prefix = str(behaviour.get("static_prefix", ""))
        self._tasks: set[asyncio.Task[Any]] = set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The base URL, as ``target.tracking_uri`` wants it."""
        return f"http://{self.host}:{self.port}{self._prefix}"

    async def start(self) -> None:
        """Returns when connections are accepted; raises OSError when the port is taken."""
        application = web.Application(client_max_size=_LARGEST_BODY)
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1.0,
            max_field_size=_LARGEST_HEADER,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Closes the port and every connection. What is under way is dropped, carried out or not,
        as when a process is killed.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        reply = await self._answer(request, self.model.operation(request.path), body)
        if reply is None:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        headers = {"Content-Type": reply.content_type, **reply.headers}
        return web.Response(status=reply.status, body=reply.body, headers=headers)

    def _new_faults(self) -> Faults:
        return Faults()

    async def _answer(self, request: web.Request, operation: str, body: bytes) -> Reply | None:
        """The answer; None: close the connection without one."""
        lost = bool(operation) and self.faults.loses_answer(operation)
        down = self.faults.database_down and bool(operation)
        await asyncio.sleep(self.faults.database_answer_seconds if down else self.latency_seconds)
        reply = self._carry_out(request, body)
        return None if lost else reply

    def _carry_out(self, request: web.Request, body: bytes) -> Reply:
        self.model.database_down = self.faults.database_down
        return self.model.answer(
            request.method,
            request.path,
            request.rel_url.raw_query_string,
            request.headers,
            body,
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _new_id() -> str:
    return uuid.uuid4().hex


async def _serve(port: int, latency_seconds: float, version: str) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with MlflowStandIn(port=port, latency_seconds=latency_seconds, version=version) as server:
        print(server.url, flush=True)  # noqa: T201 - the one line that callers wait for
        await stopping.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tracking URI on one line and serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m daemon.demo.mlflow.server",
        description="A stand-in for MLflow's tracking server, in memory.",
    )
    parser.add_argument(
        "--port", type=int, default=0, help="port on 127.0.0.1; 0 (default): a free one"
    )
    parser.add_argument(
        "--latency",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="how long each call takes (default 0)",
    )
    parser.add_argument(
        "--version", default="3.17.2", help="which server it imitates: 3.17.2 (default) or 2.22.5"
    )
    options = parser.parse_args(arguments)
    asyncio.run(_serve(options.port, options.latency, options.version))


if __name__ == "__main__":
    main()
