"""A stand-in for ModelDB V2's REST server, in memory, for the demo, the tests and the benchmarks.

    async with ModelDbV2StandIn() as server:
        ...  # server.url is the base URL to configure: http://127.0.0.1:PORT/v1
        server.faults.database_down = True

or, in a process of its own: ``python -m daemon.demo.modeldb_v2.server
--port 8080 --latency 0.02``.

It imitates ModelDB 2.0.8.1 (the last open-source release: Go REST proxy, Java back-end,
PostgreSQL) for the calls that this project makes; every other path is 404. It gives the recorded
answers of the real server (tests/data/modeldb_v2): same status, text and body. `messages` reads
requests, `calls` and `find` carry them out, `faults` breaks things.

Differences, besides those named in the other modules:

* Speed: each call takes `latency_seconds`, however many there are at once. The real one takes 40 ms
  for a create when it has nothing else to do and half a second among 32; 128 at once can wedge it
  for good.
* The window of two creates of one name is `latency_seconds` long and certain; on the real server it
  is the duration of the first call, and chance.
* Sizes: a body above 4 MiB is refused by its bytes of JSON; the real server counts its protobuf.
  What a database index takes is estimated (`store.check_columns`).
* Headers other than Grpc-Timeout are ignored; `Grpc-Metadata-…-bin` need not be base64.
* What a deleted entity still answers is imitated for the calls that were watched only: reads by id,
  by name and find.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web

from daemon.demo.modeldb_v2.calls import EXPERIMENT_CALLS, PROJECT_CALLS, RUN_CALLS
from daemon.demo.modeldb_v2.faults import Faults
from daemon.demo.modeldb_v2.messages import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    INTERNAL,
    INVALID_ARGUMENT,
    RESOURCE_EXHAUSTED,
    ApiError,
    parse_body,
)
from daemon.demo.modeldb_v2.run_updates import RUN_UPDATE_CALLS
from daemon.demo.modeldb_v2.store import Store

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from multidict import MultiMapping

    from daemon.demo.modeldb_v2.calls import Call

_CALLS: Mapping[str, Mapping[str, Call]] = {
    "project": PROJECT_CALLS,
    "experiment": EXPERIMENT_CALLS,
    "experiment-run": {**RUN_CALLS, **RUN_UPDATE_CALLS},
}
_LARGEST_MESSAGE = 4 * 1024 * 1024
_LARGEST_HEADERS = 8192
_HEADER_OVERHEAD = 32  # what HTTP/2 counts for a header beside its name and value
_LARGEST_HEADER_READ = 64 * 1024
_LARGEST_BODY_READ = 64 * _LARGEST_MESSAGE
_TIMEOUT_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class Request(Protocol):
    """What the server looks at of an HTTP request, beside its body."""

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def query(self) -> MultiMapping[str]: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def raw_headers(self) -> Sequence[tuple[bytes, bytes]]: ...


class ModelDbV2StandIn:
    """The server. Starts and stops as a context manager, or by `start` and `stop`; keeps its data
    and its port over a new start.

    Args:
        host: address to listen on.
        port: 0: a free one, chosen at the first start.
        latency_seconds: how long a call that uses the database takes.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        latency_seconds: float = 0.0,
    ) -> None:
        self.host = host
        self.port = port
        self.latency_seconds = latency_seconds
        self.faults = self._new_faults()
        self.store = Store()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The base URL, as ``target.url`` wants it."""
        return f"http://{self.host}:{self.port}/v1"

    async def start(self) -> None:
        """Returns when connections are accepted; raises OSError when the port is taken."""
        application = web.Application(client_max_size=_LARGEST_BODY_READ)
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1.0,
            max_field_size=_LARGEST_HEADER_READ,
            auto_decompress=False,  # the proxy takes a gzip body for malformed JSON
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

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        # A call goes on when its client has left, and then aiohttp forgets the task: `stop` must
        # know it.
        task = asyncio.current_task()
        if task is not None and task not in self._tasks:
            self._own(task)
        response = await self.respond(request, body)
        if response is None and request.transport is not None:
            request.transport.abort()
        return response or web.Response()

    def _own(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def respond(self, request: Request, body: bytes) -> web.Response | None:
        """The answer to a request; None: close the connection without one."""
        service, _, operation = request.path.removeprefix("/v1/").partition("/")
        call = _CALLS.get(service, {}).get(operation) if request.path.startswith("/v1/") else None
        if call is None:
            return await self._answer_unknown_path()
        try:
            return await self._answer(request, body, service, operation, call)
        except ApiError as error:
            return error_response(error)

    def _new_faults(self) -> Faults:
        return Faults()

    async def _answer_unknown_path(self) -> web.Response:
        return _plain_text(HTTPStatus.NOT_FOUND)

    async def _answer(
        self, request: Request, body: bytes, service: str, operation: str, call: Call
    ) -> web.Response | None:
        if call.method != request.method:
            return _plain_text(HTTPStatus.METHOD_NOT_ALLOWED)
        lost = self.faults.loses_answer(operation)
        deadline = _deadline_seconds(request)
        work = self._carry_out(request, body, service, call)
        response = await (work if deadline is None else self._carry_out_by(deadline, work))
        return None if lost else response

    async def _carry_out_by(
        self, deadline_seconds: float, work: Coroutine[Any, Any, web.Response]
    ) -> web.Response:
        """The deadline ends the wait, not the work."""
        task = asyncio.create_task(work)
        self._own(task)
        try:
            async with asyncio.timeout(deadline_seconds):
                return await asyncio.shield(task)
        except TimeoutError as error:
            raise ApiError(DEADLINE_EXCEEDED, "context deadline exceeded") from error

    async def _carry_out(
        self, request: Request, body: bytes, service: str, call: Call
    ) -> web.Response:
        try:
            answer = await self._perform(request, body, service, call)
        except ApiError as error:
            return error_response(error)
        # Printed at once: the rows in an answer are the store's own.
        text = json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > _LARGEST_MESSAGE:
            problem = f"grpc: received message larger than max ({len(text)} vs. {_LARGEST_MESSAGE})"
            return error_response(ApiError(RESOURCE_EXHAUSTED, problem))
        return _json(HTTPStatus.OK, text)

    async def _perform(
        self, request: Request, body: bytes, service: str, call: Call
    ) -> dict[str, Any]:
        message = (
            call.message.read_query(request.query)
            if call.method == "GET"
            else call.message.read(parse_body(body))
        )
        self.faults.reach_backend(service)
        if (
            sum(len(name) + len(value) + _HEADER_OVERHEAD for name, value in request.raw_headers)
            > _LARGEST_HEADERS
        ):
            problem = (
                f"header list size to send violates the maximum size ({_LARGEST_HEADERS} bytes) "
                "set by server"
            )
            raise ApiError(INTERNAL, problem)
        if len(body) > _LARGEST_MESSAGE:
            raise ApiError(CANCELLED, "stream terminated by RST_STREAM with error code: CANCEL")
        call.validate(message)
        if not call.uses_database:
            return call.perform(self.store, message)
        await self.faults.reach_database()
        try:
            call.check(self.store, message)
        finally:
            await asyncio.sleep(self.latency_seconds)
        return call.perform(self.store, message)


def _deadline_seconds(request: Request) -> float | None:
    text = request.headers.get("Grpc-Timeout")
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,8})([HMSmun])", text)
    if found is None:
        raise ApiError(INVALID_ARGUMENT, f"invalid grpc-timeout: {text}")
    return int(found[1]) * _TIMEOUT_UNITS[found[2]]


def _json(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, headers={"Content-Type": "application/json"})


def _plain_text(status: HTTPStatus) -> web.Response:
    return web.Response(status=status, text=f"{status.phrase}\n")


def error_response(error: ApiError) -> web.Response:
    """An error as the proxy writes it."""
    return _json(error.status, json.dumps(error.body).encode())


async def _serve(port: int, latency_seconds: float) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with ModelDbV2StandIn(port=port, latency_seconds=latency_seconds) as server:
        print(server.url, flush=True)  # noqa: T201 - the one line that callers wait for
        await stopping.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the base URL on one line and serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m daemon.demo.modeldb_v2.server",
        description="A stand-in for ModelDB V2, in memory.",
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
    options = parser.parse_args(arguments)
    asyncio.run(_serve(options.port, options.latency))


if __name__ == "__main__":
    main()
