"""The HTTP server for Prometheus and health checks, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest

from daemon.errors import SetupFault
from daemon.observability.http import HealthReport, HttpServer, serve_http
from daemon.observability.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GOOD = HealthReport(ok=True, state="ready", checks={"queue": "ok"})
BAD = HealthReport(ok=False, state="hanging", checks={"poller 1": "no tick for 90 s"})
IMPATIENCE_SECONDS = 0.3


class Probes:
    def __init__(self) -> None:
        self.health = GOOD
        self.ready = GOOD
        self.failure: Exception | None = None

    def healthz(self) -> HealthReport:
        if self.failure is not None:
            raise self.failure
        return self.health

    def readyz(self) -> HealthReport:
        return self.ready


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(version="1.2.3", target="modeldb-v2")


@pytest.fixture
def probes() -> Probes:
    return Probes()


@pytest.fixture
async def server(metrics: Metrics, probes: Probes) -> AsyncIterator[HttpServer]:
    running = await serve_http(
        "127.0.0.1", 0, metrics=metrics, healthz=probes.healthz, readyz=probes.readyz
    )
    yield running
    await running.aclose()


@pytest.fixture
async def impatient_server(metrics: Metrics, probes: Probes) -> AsyncIterator[HttpServer]:
    """Waits for a request no longer than `IMPATIENCE_SECONDS`."""
    running = await serve_http(
        "127.0.0.1",
        0,
        metrics=metrics,
        healthz=probes.healthz,
        readyz=probes.readyz,
        idle_seconds=IMPATIENCE_SECONDS,
    )
    yield running
    await running.aclose()


@pytest.fixture
async def client(server: HttpServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
        yield session


async def raw(port: int, sent: bytes) -> bytes:
    """Sends bytes and reads until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    async with asyncio.timeout(10):
        received = await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return received


class TestMetrics:
    async def test_text(self, client: aiohttp.ClientSession, metrics: Metrics) -> None:
        metrics.received(3)
        async with client.get("/metrics") as response:
            text = await response.text()
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "\nmodeldb_sync_messages_received_total 3.0\n" in text

    async def test_open_metrics_for_those_that_ask(self, client: aiohttp.ClientSession) -> None:
        accept = (
            "application/openmetrics-text;version=1.0.0;q=0.6,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        )
        async with client.get("/metrics", headers={"Accept": accept}) as response:
            text = await response.text()
        assert response.headers["Content-Type"].startswith(
            "application/openmetrics-text; version=1.0.0"
        )
        assert text.endswith("# EOF\n")


class TestHealth:
    @pytest.mark.parametrize("path", ["/healthz", "/readyz"])
    async def test_good(self, client: aiohttp.ClientSession, path: str) -> None:
        async with client.get(path) as response:
            assert response.status == 200
            assert response.content_type == "application/json"
            assert response.headers["Cache-Control"] == "no-store"
            assert await response.json() == {
                "ok": True,
                "state": "ready",
                "checks": {"queue": "ok"},
            }

    async def test_each_asks_its_own_function_each_time(
        self, client: aiohttp.ClientSession, probes: Probes
    ) -> None:
        probes.health = BAD
        async with client.get("/healthz") as response:
            assert response.status == 503
            assert await response.json() == {
                "ok": False,
                "state": "hanging",
                "checks": {"poller 1": "no tick for 90 s"},
            }
        async with client.get("/readyz") as response:
            assert response.status == 200
        probes.health, probes.ready = GOOD, BAD
        async with client.get("/healthz") as response:
            assert response.status == 200
        async with client.get("/readyz") as response:
            assert response.status == 503

    async def test_odd_text_stays_json(self, client: aiohttp.ClientSession, probes: Probes) -> None:
        probes.ready = HealthReport(ok=False, state="half \ud800", checks={"a\nb": '"<script>'})
        async with client.get("/readyz") as response:
            assert json.loads(await response.read()) == {
                "ok": False,
                "state": "half \ud800",
                "checks": {"a\nb": '"<script>'},
            }

    async def test_a_failing_check_is_a_500_without_details(
        self, client: aiohttp.ClientSession, probes: Probes, caplog: pytest.LogCaptureFixture
    ) -> None:
        probes.failure = RuntimeError("inner details")
        async with client.get("/healthz") as response:
            assert response.status == 500
            assert "inner details" not in await response.text()
            assert response.headers["Server"] == "sagemaker-modeldb-sync"
        assert "inner details" in caplog.text
        async with client.get("/readyz") as response:
            assert response.status == 200


class TestProtocol:
    @pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
    async def test_head_has_no_body(self, client: aiohttp.ClientSession, path: str) -> None:
        async with client.head(path) as response:
            assert response.status == 200
            assert int(response.headers["Content-Length"]) > 0
            assert await response.read() == b""

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
    async def test_other_methods(self, client: aiohttp.ClientSession, method: str) -> None:
        async with client.request(method, "/healthz") as response:
            assert response.status == 405
            assert response.headers["Allow"] == "GET, HEAD"

    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/metrics/",
            "/healthz/x",
            "/../etc/passwd",
            "/favicon.ico",
            "//metrics",
            "/%6detrics%00",
        ],
    )
    async def test_unknown_paths(self, server: HttpServer, path: str) -> None:
        assert (await raw(server.port, f"GET {path} HTTP/1.0\r\n\r\n".encode())).startswith(
            b"HTTP/1.0 404 Not Found\r\n"
        )

    async def test_a_query_is_ignored(self, client: aiohttp.ClientSession) -> None:
        async with client.get("/healthz?verbose=1") as response:
            assert response.status == 200

    async def test_connections_are_kept(self, server: HttpServer) -> None:
        request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        last = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert (await raw(server.port, request + request + last)).count(b"HTTP/1.1 200 OK") == 3

    @pytest.mark.parametrize(
        "sent",
        [
            b"nonsense\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the first bytes of TLS
            b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"X: 1\r\n" * 200 + b"\r\n",
        ],
    )
    async def test_bad_requests_are_refused_quietly(
        self, server: HttpServer, sent: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        received = await raw(server.port, sent)
        assert received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
        assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []

    @pytest.mark.parametrize(
        "sent",
        [
            b"GET /healthz HTTP/1.0\r\n\r\n",
            b"GET /nowhere HTTP/1.0\r\n\r\n",
            b"POST /healthz HTTP/1.0\r\n\r\n",
            b"GET /metrics HTTP/1.0\r\n\r\n",
            b"nonsense\r\n\r\n",
        ],
    )
    async def test_no_versions_of_what_serves(self, server: HttpServer, sent: bytes) -> None:
        head, _, _ = (await raw(server.port, sent)).partition(b"\r\n\r\n")
        assert b"Server: sagemaker-modeldb-sync" in head.split(b"\r\n")
        assert b"aiohttp" not in head
        assert b"Python" not in head

    async def test_no_access_log(
        self, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        async with client.get("/healthz"):
            pass
        assert [record.name for record in caplog.records if "aiohttp" in record.name] == []


class TestSlowClients:
    @pytest.mark.parametrize(
        "sent", [b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: "]
    )
    async def test_a_request_that_does_not_come_is_not_waited_for(
        self, impatient_server: HttpServer, sent: bytes
    ) -> None:
        begun = time.monotonic()
        assert await raw(impatient_server.port, sent) == b""
        assert 0.2 < time.monotonic() - begun < 3

    async def test_drops_do_not_prolong_it(self, impatient_server: HttpServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", impatient_server.port)
        ended = asyncio.ensure_future(reader.read())
        begun = time.monotonic()
        writer.write(b"GET /metrics?")
        while not ended.done() and time.monotonic() - begun < 5:
            with contextlib.suppress(ConnectionError):
                writer.write(b"x")
                await writer.drain()
            await asyncio.wait({ended}, timeout=0.05)
        assert time.monotonic() - begun < 3
        with contextlib.suppress(ConnectionError):
            await ended
        writer.close()

    async def test_a_body_that_does_not_come_is_not_waited_for(
        self, impatient_server: HttpServer
    ) -> None:
        begun = time.monotonic()
        received = await raw(
            impatient_server.port,
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc",
        )
        assert received.startswith(b"HTTP/1.1 200 OK")
        assert time.monotonic() - begun < 4


class TestLife:
    async def test_the_end_waits_for_no_client(self, metrics: Metrics, probes: Probes) -> None:
        running = await serve_http(
            "127.0.0.1", 0, metrics=metrics, healthz=probes.healthz, readyz=probes.readyz
        )
        port = running.port
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        connections[0][1].write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")  # answered, then idle
        assert (await connections[0][0].readline()).startswith(b"HTTP/1.1 200")
        connections[1][1].write(b"GET /heal")  # half a request
        begun = time.monotonic()
        await running.aclose()
        assert time.monotonic() - begun < 3
        for reader, writer in connections:
            async with asyncio.timeout(2):
                with contextlib.suppress(ConnectionError):
                    await reader.read()
            writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    async def test_the_end_does_not_wait_for_a_client_that_does_not_read(
        self, probes: Probes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("daemon.observability.http.CLOSE_SECONDS", 0.1)
        asked = asyncio.Event()

        class Huge(Metrics):
            def render(self, accept: str = "") -> tuple[bytes, str]:
                asked.set()
                return b"#" * 50_000_000, "text/plain"

        huge = Huge(version="1", target="x")
        running = await serve_http(
            "127.0.0.1", 0, metrics=huge, healthz=probes.healthz, readyz=probes.readyz
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await asked.wait()
        begun = time.monotonic()
        await running.aclose()
        assert time.monotonic() - begun < 2
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await reader.read()

    async def test_a_taken_port_is_a_setup_fault(self, metrics: Metrics, probes: Probes) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(SetupFault) as refused:
                await serve_http(
                    "127.0.0.1", port, metrics=metrics, healthz=probes.healthz, readyz=probes.readyz
                )
        assert str(refused.value) == (
            f"http.port = {port}: cannot listen on 127.0.0.1: another process is listening there: "
            "stop it, or set another http.port"
        )

    @pytest.mark.parametrize("host", ["192.0.2.1", "name.invalid"])
    async def test_a_foreign_address_is_a_setup_fault(
        self, metrics: Metrics, probes: Probes, host: str
    ) -> None:
        with pytest.raises(
            SetupFault, match=f"http.host = '{host}': not an address of this machine"
        ):
            await serve_http(host, 0, metrics=metrics, healthz=probes.healthz, readyz=probes.readyz)

    async def test_a_port_without_permission_is_a_setup_fault(
        self, metrics: Metrics, probes: Probes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def denied(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(socket.socket, "bind", denied)
        with pytest.raises(
            SetupFault,
            match=r"http\.port = 80: cannot listen on 127\.0\.0\.1: ports below 1024 need privil",
        ):
            await serve_http(
                "127.0.0.1", 80, metrics=metrics, healthz=probes.healthz, readyz=probes.readyz
            )

    async def test_ipv6(self, metrics: Metrics, probes: Probes) -> None:
        try:
            running = await serve_http(
                "::1", 0, metrics=metrics, healthz=probes.healthz, readyz=probes.readyz
            )
        except SetupFault:
            pytest.skip("no IPv6 on this machine")
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://[::1]:{running.port}/healthz") as response,
        ):
            assert response.status == 200
        await running.aclose()
