"""Slow, malformed, greedy and numerous clients of the port for metrics and health checks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon.observability import http
from daemon.observability.http import HealthReport, HttpServer, serve_http
from daemon.observability.metrics import Metrics
from tests.support.daemon_process import jobs_named

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.daemon_process import DaemonScene
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

IDLE_SECONDS = 1.0
"""Longer than a busy machine keeps this process waiting: its health checks must not look idle."""
GOOD = HealthReport(ok=True, state="ready", checks={})
ASK = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Probes(Metrics):
    """Metrics of a given length."""

    length = 0

    def render(self, accept: str = "") -> tuple[bytes, str]:
        return (b"#" * self.length, "text/plain") if self.length else super().render(accept)


@pytest.fixture
def metrics() -> Probes:
    return Probes(version="1.2.3", target="modeldb-v2")


@pytest.fixture
async def server(metrics: Probes) -> AsyncIterator[HttpServer]:
    running = await serve_http(
        "127.0.0.1",
        0,
        metrics=metrics,
        healthz=lambda: GOOD,
        readyz=lambda: GOOD,
        idle_seconds=IDLE_SECONDS,
    )
    yield running
    await running.aclose()


@pytest.fixture
async def connect(server: HttpServer) -> AsyncIterator[Callable[[], asyncio.Future[Connection]]]:
    """Opens connections, and aborts them at the end of the test."""
    made: list[Connection] = []

    async def opened() -> Connection:
        made.append(await asyncio.open_connection("127.0.0.1", server.port))
        return made[-1]

    yield lambda: asyncio.ensure_future(opened())
    for _, writer in made:
        writer.transport.abort()


async def health(port: int) -> float:
    """The seconds that a health check took."""
    begun = time.monotonic()
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.0 200 OK")
    writer.close()
    return time.monotonic() - begun


def stop_reading(writer: asyncio.StreamWriter) -> asyncio.Transport:
    transport = writer.transport
    assert isinstance(transport, asyncio.Transport)
    transport.pause_reading()
    return transport


async def has_ended(reader: asyncio.StreamReader, seconds: float = 5) -> bool:
    """Waits until the server closes a connection; False if it stays open."""
    try:
        async with asyncio.timeout(seconds):
            await reader.read()
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def descriptors(pid: int | str = "self") -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def resident_mib(pid: int | str = "self") -> float:
    return (
        int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    )


async def drip(connection: Connection, head: bytes) -> None:
    """Sends an incomplete request byte by byte until the server closes the connection."""
    reader, writer = connection
    ended = asyncio.ensure_future(has_ended(reader))
    writer.write(head)
    while not ended.done():
        writer.write(b"x")
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        await asyncio.wait({ended}, timeout=IDLE_SECONDS / 4)
    assert ended.result()


@pytest.mark.parametrize("first", [b"", ASK], ids=["first request", "second request"])
async def test_who_sends_byte_by_byte_is_ended_and_keeps_nobody_waiting(
    first: bytes, server: HttpServer, connect: Callable[[], asyncio.Future[Connection]]
) -> None:
    begun = time.monotonic()
    slow = [
        drip(await connect(), first + b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        for _ in range(50)
    ]
    all_ended = asyncio.gather(*slow)
    while not all_ended.done():
        assert await health(server.port) < 2
        await asyncio.wait({all_ended}, timeout=0.05)
    await all_ended
    assert time.monotonic() - begun < 4


async def test_one_connection_too_many_ends_the_one_that_has_asked_nothing_for_longest(
    server: HttpServer,
    connect: Callable[[], asyncio.Future[Connection]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "MOST_CONNECTIONS", 5)
    prometheus = await connect()  # the oldest, and the one that asks
    silent = [await connect() for _ in range(4)]
    prometheus[1].write(ASK)
    assert await prometheus[0].readline() == b"HTTP/1.1 200 OK\r\n"
    await connect()
    await connect()
    assert [await has_ended(reader) for reader, _ in silent[:2]] == [True, True]
    assert [await has_ended(reader, 0.1) for reader, _ in silent[2:]] == [False, False]
    prometheus[1].write(ASK)
    async with asyncio.timeout(5):
        await prometheus[0].readuntil(b"HTTP/1.1 200 OK\r\n")


async def test_a_flood_of_connections_leaves_few_open_and_keeps_no_health_check_out(
    server: HttpServer, connect: Callable[[], asyncio.Future[Connection]]
) -> None:
    before = descriptors()
    connections = [await connect() for _ in range(400)]
    assert await health(server.port) < 2
    assert descriptors() - before - len(connections) <= http.MOST_CONNECTIONS
    assert all([await has_ended(reader) for reader, _ in connections[:250]])


@pytest.mark.parametrize(
    ("length", "times"), [(20_000_000, 1), (500_000, 100)], ids=["one answer", "pipelined answers"]
)
async def test_who_does_not_read_is_ended(
    length: int,
    times: int,
    server: HttpServer,
    metrics: Probes,
    connect: Callable[[], asyncio.Future[Connection]],
) -> None:
    # More than the socket buffers of both sides take: the answer waits for a reader, and the
    # library's time-out does not run.
    metrics.length = length
    reader, writer = await connect()
    transport = stop_reading(writer)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * times)
    begun, memory = time.monotonic(), resident_mib()
    while time.monotonic() - begun < 3 * IDLE_SECONDS:
        assert await health(server.port) < 2
        await asyncio.sleep(0.02)
    assert resident_mib() - memory < 60
    transport.resume_reading()
    received = 0
    with contextlib.suppress(ConnectionError):
        while some := await reader.read(2**20):
            received += len(some)
    assert 0 < received < length * times


async def test_who_reads_slowly_but_asks_again_is_not_ended(
    server: HttpServer, connect: Callable[[], asyncio.Future[Connection]]
) -> None:
    reader, writer = await connect()
    begun = time.monotonic()
    while time.monotonic() - begun < 4 * IDLE_SECONDS:
        writer.write(ASK)
        async with asyncio.timeout(5):
            await reader.readuntil(b"HTTP/1.1 200 OK\r\n")
        await asyncio.sleep(IDLE_SECONDS / 2)


@pytest.mark.parametrize(
    ("head", "rest"),
    [
        (b"PUT /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 65536),
        (
            b"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"10000\r\n" + b"x" * 65536 + b"\r\n",
        ),
        (
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1;" + b"x" * 65536,
        ),
        (
            (
                b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: "
                b"websocket\r\n\r\n"
            ),
            b"x" * 65536,
        ),
        (b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n", b"x" * 65536),
        (b"GET /", b"a" * 65536),
        (b"GET / HTTP/1.1\r\nX: ", b"a" * 65536),
        (b"GET / HTTP/1.1\r\n", b"X: 1\r\n" * 10_000),
        (b"", b"\r\n" * 30_000),
        (b"", bytes(65536)),
        (TLS_HELLO, os.urandom(65536)),
    ],
    ids=[
        "body",
        "chunked",
        "chunk extension",
        "upgrade",
        "connect",
        "line",
        "header",
        "headers",
        "line ends",
        "zeros",
        "tls",
    ],
)
async def test_who_sends_without_end_is_ended_and_takes_no_memory(
    head: bytes, rest: bytes, server: HttpServer, connect: Callable[[], asyncio.Future[Connection]]
) -> None:
    _, writer = await connect()
    transport = stop_reading(writer)
    before, begun = resident_mib(), time.monotonic()
    writer.write(head)
    with contextlib.suppress(ConnectionError):
        while not transport.is_closing() and time.monotonic() - begun < 6:
            writer.write(rest)
            try:
                async with asyncio.timeout(0.1):
                    await writer.drain()
            except TimeoutError:
                transport.resume_reading()  # only a reader learns of the end
            assert await health(server.port) < 2
    assert time.monotonic() - begun < 6
    assert resident_mib() - before < 20


async def test_pipelining_keeps_nobody_waiting(
    server: HttpServer, connect: Callable[[], asyncio.Future[Connection]]
) -> None:
    reader, writer = await connect()
    writer.write(
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 300 + b"GET /healthz HTTP/1.0\r\n\r\n"
    )
    answers = asyncio.ensure_future(reader.read())
    others = 0
    while not answers.done():
        await health(server.port)
        others += 1
    assert (await answers).count(b" 200 OK\r\n") == 301
    # one or two, where the library answers all that has come before it lets anybody else run
    assert others > 30


async def test_the_daemon_goes_on_with_its_work_and_stops_in_time(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    jobs = jobs_named("crowd", 20)
    scene.finish_jobs(jobs)
    daemon = scene.daemon(free_port())
    await daemon.start()
    await daemon.ready()
    port = int(daemon.url.rpartition(":")[2])
    open_files = descriptors(daemon.pid)
    # Without a limit of its own, the port would take every descriptor that the work needs.
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (256, 256))
    memory = resident_mib(daemon.pid)
    firsts = [
        b"",
        b"GET /heal",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: ",
        TLS_HELLO,
        b"nonsense\r\n\r\n",
        ASK * 200,
    ]
    crowd: list[socket.socket] = []
    try:
        for number in range(500):
            crowd.append(socket.create_connection(("127.0.0.1", port), timeout=5))
            with contextlib.suppress(ConnectionError):
                crowd[-1].sendall(firsts[number % len(firsts)])
            if number % 25 == 0:
                await scene.send([job.event for job in jobs[number // 25 :][:1]])
                assert await health(port) < 2
        await daemon.outcomes(20, outcome="synced")
        assert len(modeldb.runs()) == 20
        assert descriptors(daemon.pid) <= open_files + http.MOST_CONNECTIONS + 10
        assert resident_mib(daemon.pid) - memory < 30
        for each in crowd[:400]:
            each.close()
        for each in crowd[400:]:
            each.shutdown(socket.SHUT_WR)  # half-open
        async with asyncio.timeout(10):
            while descriptors(daemon.pid) > open_files + 20:
                await asyncio.sleep(0.05)
        crowd += [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(100)]
        assert await health(port) < 2
        begun = time.monotonic()
        assert await daemon.stop() == 0
        assert time.monotonic() - begun < 8
        assert [line for line in daemon.log if line["level"] in {"error", "text"}] == []
    finally:
        for each in crowd:
            each.close()
