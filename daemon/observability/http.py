"""The HTTP server for Prometheus, health checks and the status page."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from daemon.errors import SetupFault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from daemon.observability.metrics import Metrics

IDLE_SECONDS = 75.0
"""Exceeds the usual scrape interval, so that Prometheus keeps its connection."""
CLOSE_SECONDS = 1.0
"""How long the shutdown waits for a running request, and again after cancelling it."""

MOST_CONNECTIONS = 100
"""Beyond this number, a new connection evicts the one idle for longest. Clients that open
connections without end must not use up the daemon's file descriptors or block health checks."""

_HEADERS = {
    "Cache-Control": "no-store",
    "Server": "sagemaker-modeldb-sync",
    "X-Content-Type-Options": "nosniff",
}
_METHODS = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The answer of a health check."""

    ok: bool
    state: str
    """One word or a few, for an operator."""
    checks: Mapping[str, str]
    """Each check with its result. Public: no secrets."""


class Site(Protocol):
    """Further pages of the server."""

    def find(self, path: str) -> Callable[[web.BaseRequest], Awaitable[web.Response]] | None:
        """The page at a path; None if there is none."""

    async def aclose(self) -> None: ...


class HttpServer:
    """A listening server. Made by `serve_http`."""

    def __init__(self, runner: web.BaseRunner, site: Site | None) -> None:
        self._runner = runner
        self._site = site

    @property
    def port(self) -> int:
        """The port in use, even if any free one was requested."""
        port: int = self._runner.addresses[0][1]
        return port

    async def aclose(self) -> None:
        """Stops listening and closes all connections, within twice `CLOSE_SECONDS`."""
        await self._runner.cleanup()
        if self._site is not None:
            await self._site.aclose()


async def serve_http(
    host: str,
    port: int,
    *,
    metrics: Metrics,
    healthz: Callable[[], HealthReport],
    readyz: Callable[[], HealthReport],
    site: Site | None = None,
    idle_seconds: float = IDLE_SECONDS,
) -> HttpServer:
    """Serves ``/metrics``, ``/healthz`` and ``/readyz``, and what else there is.

    Args:
        host: address to listen on.
        port: 0 for any free one.
        metrics: for ``/metrics``.
        healthz: called at each request for ``/healthz``; must not block.
        readyz: the same for ``/readyz``.
        site: further pages, closed with the server; None: there are none.
        idle_seconds: a connection without a complete request is closed after this time, one whose
            client does not read the response after twice this time.

    Raises:
        SetupFault: the server cannot listen on this address.
    """
    turn = asyncio.Lock()

    async def metrics_page(request: web.BaseRequest) -> web.Response:
        # Each takes milliseconds of work: rendered one at a time, with pauses, they use at most
        # half of the event loop's time.
        async with turn:
            begun = time.perf_counter()
            response = _metrics(metrics, request)
            await asyncio.sleep(time.perf_counter() - begun)
        return response

    async def healthz_page(_request: web.BaseRequest) -> web.Response:
        return _health(healthz())

    async def readyz_page(_request: web.BaseRequest) -> web.Response:
        return _health(readyz())

    pages: dict[str, Callable[[web.BaseRequest], Awaitable[web.Response]]] = {
        "/metrics": metrics_page,
        "/healthz": healthz_page,
        "/readyz": readyz_page,
    }

    async def answer(request: web.BaseRequest) -> web.Response:
        if isinstance(request.protocol, _Connection):
            request.protocol.has_asked()
        # the library answers hundreds of pipelined requests without yielding to other tasks
        await asyncio.sleep(0)
        page = pages.get(request.path)
        if page is None and site is not None:
            page = site.find(request.path)
        if page is None:
            return _text(404, f"not found; there are {', '.join(pages)}")
        if request.method not in _METHODS:
            return _text(405, "only GET and HEAD", {"Allow": ", ".join(_METHODS)})
        response = await page(request)
        response.headers.update(_HEADERS)
        return response

    runner = web.ServerRunner(_Server(answer, idle_seconds), shutdown_timeout=CLOSE_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise _cannot_listen(host, port, error) from error
    return HttpServer(runner, site)


def _cannot_listen(host: str, port: int, error: OSError) -> SetupFault:
    # asyncio sets no errno if none of the host's addresses belongs to this machine
    if isinstance(error, socket.gaierror) or error.errno in {None, errno.EADDRNOTAVAIL}:
        return SetupFault(f"http.host = {host!r}: not an address of this machine ({error})")
    advice = {
        errno.EADDRINUSE: "another process is listening there: stop it, or set another http.port",
        errno.EACCES: "ports below 1024 need privileges: set another http.port",
    }
    return SetupFault(
        f"http.port = {port}: cannot listen on {host}: {advice.get(error.errno or 0, str(error))}"
    )


def _metrics(metrics: Metrics, request: web.BaseRequest) -> web.Response:
    body, content_type = metrics.render(request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})


def _health(report: HealthReport) -> web.Response:
    body = (
        json.dumps(
            {"ok": report.ok, "state": report.state, "checks": dict(report.checks)}, indent=1
        )
        + "\n"
    )
    return web.Response(
        status=200 if report.ok else 503, text=body, content_type="application/json"
    )


def _text(status: int, words: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"{words}\n", headers={**_HEADERS, **(headers or {})})


class _Server(web.Server):
    """Makes connections without an access log, and with limits for clients that are slow, send
    much or are many.
    """

    def __init__(self, answer: Any, idle_seconds: float) -> None:  # noqa: ANN401 - the library keeps its handler type private
        super().__init__(answer)
        self._idle_seconds = idle_seconds
        self._open: set[_Connection] = set()
        self._options: dict[str, Any] = {
            "access_log": None,
            # also applies while the request line or a header is still being received
            "keepalive_timeout": idle_seconds,
            "lingering_time": 1.0,  # for discarding the rest of a request's body
            "max_field_size": 8190,
            "max_headers": 64,
            "max_line_size": 2048,
            "read_bufsize": 4096,
        }

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, 2 * self._idle_seconds, **self._options)

    def opened(self, connection: _Connection) -> None:
        if len(self._open) >= MOST_CONNECTIONS:
            min(self._open, key=lambda each: each.asked_at).abort()
        self._open.add(connection)

    def closed(self, connection: _Connection) -> None:
        self._open.discard(connection)


class _Connection(web.RequestHandler):
    __slots__ = ("_end", "_server", "_stuck_seconds", "asked_at")

    def __init__(self, server: _Server, stuck_seconds: float, **options: Any) -> None:  # noqa: ANN401 - the library's own
        loop = asyncio.get_running_loop()
        super().__init__(server, loop=loop, **options)
        self._server = server
        self._stuck_seconds = stuck_seconds
        self.asked_at = loop.time()
        """When its last request was complete, or else when it was opened."""
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.opened(self)
        self._end_when_stuck()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def has_asked(self) -> None:
        self.asked_at = asyncio.get_running_loop().time()

    def abort(self) -> None:
        """Closes it at once, even if the client has not read the last response."""
        self._forget()
        if self.transport is not None:
            self.transport.abort()

    def _end_when_stuck(self) -> None:
        # The library's own timeout does not run while a response is being written, so a client that
        # never reads it would keep the connection forever.
        loop = asyncio.get_running_loop()
        due = self.asked_at + self._stuck_seconds
        if loop.time() >= due:
            self.abort()
        else:
            self._end = loop.call_at(due, self._end_when_stuck)

    def _forget(self) -> None:
        self._server.closed(self)
        if self._end is not None:
            self._end.cancel()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers malformed and failed requests without revealing the library's version.

        Malformed requests, which any port scanner sends, are not logged.
        """
        if isinstance(exc, HttpProcessingError):
            response: web.StreamResponse = _text(400, "bad request")
            response.force_close()
        else:
            response = super().handle_error(request, status, exc, message)
            response.headers.update(_HEADERS)
        return response
