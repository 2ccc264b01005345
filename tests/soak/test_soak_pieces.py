"""The parts of the soak that could cause a wrong verdict: the faults of the proxy, the stepped
clock, the log reader.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from tests.soak.edge_episodes import hanging_disk
from tests.soak.http_fault_proxy import HttpFaultProxy, Mischief
from tests.soak.processes import CLOCK_FOLDER, Usage
from tests.soak.verdict import read_log
from tests.support.tcp_fault_proxy import Fault, FaultProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class CountingServer:
    """Echoes the body of each POST, and keeps the bodies."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(body)
        return web.Response(body=body)


@pytest.fixture
async def server() -> AsyncIterator[CountingServer]:
    made = CountingServer()
    app = web.Application()
    app.router.add_post("/", made.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.port = runner.addresses[0][1]
    yield made
    await runner.cleanup()


@pytest.fixture
async def proxy(server: CountingServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(server.port, random.Random(1)) as made:
        yield made


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as made:
        yield made


async def ask(session: aiohttp.ClientSession, proxy: FaultProxy, body: bytes) -> tuple[int, bytes]:
    async with session.post(f"http://127.0.0.1:{proxy.port}/", data=body) as answer:
        return answer.status, await answer.read()


async def ask_often(
    session: aiohttp.ClientSession, proxy: FaultProxy, times: int = 30
) -> tuple[int, int]:
    """The number of requests with and without an answer."""
    answered = failed = 0
    for number in range(times):
        try:
            assert await ask(session, proxy, b"%d" % number * 1000) == (200, b"%d" % number * 1000)
            answered += 1
        except (aiohttp.ClientError, TimeoutError):
            failed += 1
    return answered, failed


async def test_without_a_fault_all_goes_through(
    session: aiohttp.ClientSession, proxy: FaultProxy, server: CountingServer
) -> None:
    assert await ask_often(session, proxy) == (30, 0)
    assert len(server.bodies) == 30
    assert proxy.struck.total() == 0


async def test_what_is_delayed_arrives(session: aiohttp.ClientSession, proxy: FaultProxy) -> None:
    begun = time.monotonic()
    async with proxy.failing(Fault.DELAY):
        assert await ask(session, proxy, b"late") == (200, b"late")
    assert time.monotonic() - begun > 0.02
    assert proxy.struck[Fault.DELAY] >= 2


async def test_a_reset_lets_no_request_through_whose_bytes_it_cut(
    session: aiohttp.ClientSession, proxy: FaultProxy, server: CountingServer
) -> None:
    async with proxy.failing(Fault.RESET):
        answered, failed = await ask_often(session, proxy)
    assert answered
    assert failed
    assert answered <= len(server.bodies) < 30
    assert proxy.struck[Fault.RESET] >= failed


async def test_an_answer_is_lost_after_the_request_went_through(
    session: aiohttp.ClientSession, proxy: FaultProxy, server: CountingServer
) -> None:
    async with proxy.failing(Fault.LOST_ANSWER):
        answered, failed = await ask_often(session, proxy)
    assert answered
    assert failed == proxy.struck[Fault.LOST_ANSWER]
    assert len(server.bodies) == 30


async def test_a_black_hole_answers_nothing_and_gives_nothing_back_later(
    session: aiohttp.ClientSession, proxy: FaultProxy, server: CountingServer
) -> None:
    assert await ask(session, proxy, b"before") == (200, b"before")
    async with proxy.failing(Fault.BLACK_HOLE):
        asking = asyncio.create_task(ask(session, proxy, b"swallowed"))
        async with asyncio.timeout(2):
            while not proxy.struck[Fault.BLACK_HOLE]:
                await asyncio.sleep(0.01)
        assert not asking.done()
    with pytest.raises(aiohttp.ClientError):
        await asking
    assert await ask(session, proxy, b"after") == (200, b"after")
    assert server.bodies == [b"before", b"after"]


async def test_a_refused_connection_comes_back_on_the_same_port(
    session: aiohttp.ClientSession, proxy: FaultProxy
) -> None:
    port = proxy.port
    assert await ask(session, proxy, b"before") == (200, b"before")
    async with proxy.failing(Fault.REFUSED):
        for _ in range(3):
            with pytest.raises(aiohttp.ClientError):
                await ask(session, proxy, b"refused")
    assert proxy.port == port
    assert await ask(session, proxy, b"after") == (200, b"after")


async def test_a_503_is_the_proxys_own(
    session: aiohttp.ClientSession, proxy: FaultProxy, server: CountingServer
) -> None:
    assert await ask(session, proxy, b"before") == (200, b"before")
    async with proxy.failing(Fault.UNAVAILABLE):
        assert (await ask(session, proxy, b"never"))[0] == 503
    assert await ask(session, proxy, b"after") == (200, b"after")
    assert server.bodies == [b"before", b"after"]


async def ask_oddly(url: str, operation: str) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=b"{}", headers={"X-Amz-Target": f"AmazonSQS.{operation}"}) as answer,
    ):
        return answer.status, await answer.read()


async def test_what_is_throttled_never_reaches_the_server(server: CountingServer) -> None:
    async with HttpFaultProxy(f"http://127.0.0.1:{server.port}", random.Random(1)) as proxy:
        assert await ask_oddly(proxy.url, "DeleteMessage") == (200, b"{}")
        with proxy.misbehaving(Mischief.THROTTLED, 1):
            statuses = {(await ask_oddly(proxy.url, "DeleteMessage"))[0] for _ in range(20)}
    assert statuses == {400, 429}
    assert proxy.struck == {Mischief.THROTTLED: 20}
    assert len(server.bodies) == 1


async def test_some_odd_answers_hide_a_call_that_went_through_but_never_a_receive(
    server: CountingServer,
) -> None:
    async with HttpFaultProxy(f"http://127.0.0.1:{server.port}", random.Random(1)) as proxy:
        with proxy.misbehaving(Mischief.ODD, 1):
            answers = {await ask_oddly(proxy.url, "ReceiveMessage") for _ in range(40)}
            assert not server.bodies
            for _ in range(20):
                await ask_oddly(proxy.url, "DeleteMessage")
    assert (200, b"{}") not in answers
    assert {status for status, _ in answers} == {200, 400, 403, 502, 503}
    assert 0 < len(server.bodies) < 20


def test_a_disk_hangs_while_a_file_exists_and_no_other_disk_does(tmp_path: Path) -> None:
    library = hanging_disk(tmp_path)
    if library is None:
        pytest.skip("no C compiler")
    disk, flag, elsewhere = tmp_path / "disk", tmp_path / "hangs", tmp_path / "elsewhere"
    disk.mkdir()
    program = (
        "import os, pathlib, sys; disk = open(sys.argv[1], 'w'); print('ready', flush=True);"
        "input();"
        "pathlib.Path(sys.argv[2]).write_text('free'); os.fsync(disk.fileno()); print('done')"
    )
    environment = os.environ | {
        "LD_PRELOAD": str(library),
        "HANGING_DISK": str(disk),
        "HANGING_DISK_WHILE": str(flag),
    }
    with subprocess.Popen(
        [sys.executable, "-I", "-c", program, disk / "database", elsewhere],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        flag.touch()
        process.stdin.write("\n")
        process.stdin.flush()
        try:
            deadline = time.monotonic() + 20
            while not elsewhere.exists() or elsewhere.read_text() != "free":
                assert time.monotonic() < deadline
                time.sleep(0.02)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
        finally:
            flag.unlink()
        said, _ = process.communicate(timeout=20)
    assert said == "done\n"


def test_the_clock_of_a_running_process_steps(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text("3600")
    program = "import time; print(time.time()); input(); time.sleep(0.3); print(time.time())"
    environment = os.environ | {"PYTHONPATH": str(CLOCK_FOLDER), "SOAK_CLOCK_FILE": str(clock)}
    with subprocess.Popen(
        [sys.executable, "-u", "-c", program],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert float(process.stdout.readline()) - time.time() == pytest.approx(3600, abs=5)
        clock.write_text("-20")
        later, _ = process.communicate("\n")
    assert float(later) - time.time() == pytest.approx(-20, abs=5)


def test_a_process_says_what_it_uses() -> None:
    usage = Usage.of(os.getpid(), 0)
    assert usage is not None
    assert usage.rss_mib > 10
    assert usage.descriptors >= usage.sockets
    assert usage.threads >= 1
    assert Usage.of(2**22 + 1, 0) is None


def test_a_log_tells_receive_counts_bugs_and_tracebacks(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text(
        '{"event": "job outcome", "outcome": "synced", "reason": "created", "job": "a", '
        '"receive_count": 2, "level": "info"}\n'
        '{"event": "job outcome", "outcome": "deferred", "reason": "internal_error", "job": "b", '
        '"receive_count": 7}\n'
        "Traceback (most recent call last):\n"
        "error: checkpoint /x/checkpoint.db: the disk is full\n"
        '{"event": "cut off by a ki\n'
    )
    log = read_log(file)
    assert log.highest_receive_count == 7
    assert log.outcomes == {"synced/created": 1, "deferred/internal_error": 1}
    assert len(log.violations) == 2
    assert read_log(file, frozenset({"a"})).highest_receive_count == 2
