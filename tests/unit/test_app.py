"""The daemon's only stop path, and the log lines about parts that hang during it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from daemon.app import CLOSE_SECONDS, Daemon
from daemon.checkpoint.sqlite.store import SqliteCheckpoint
from daemon.errors import EdgeFault, SetupFault
from daemon.intake.breaker import Breaker, Breakers
from daemon.observability.watchdog import Pulse
from daemon.reasons import Edge, Reason
from tests.support.flow_scene import CountingBackoff, edge_fault, message
from tests.support.log_lines import log_lines
from tests.support.settings_factory import settings, settings_of_nowhere

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

STOP = ["stopping", "drained"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.db"


@pytest_asyncio.fixture
async def lonely(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Daemon, asyncio.Task[None]]]:
    """A running daemon that can reach no edge."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    daemon = Daemon(settings_of_nowhere(path, shutdown={"grace_seconds": 25}))
    running = asyncio.create_task(daemon.run())
    async with asyncio.timeout(20):
        await daemon.started.wait()
    yield daemon, running
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_web_page_from_an_edge_that_has_worked_does_not_end_a_daemon_that_stands_by(
    lonely: tuple[Daemon, asyncio.Task[None]],
) -> None:
    """A standby never receives, however long it lives."""
    daemon, running = lonely
    page = EdgeFault(Edge.QUEUE, Reason.NOT_THE_API, "a web page", curable=False)
    daemon._breakers[Edge.QUEUE].proven = True
    daemon._on_fault(page)
    assert not daemon._stop.is_set()
    daemon._breakers[Edge.QUEUE].proven = False
    daemon._on_fault(page)
    async with asyncio.timeout(10):
        with pytest.raises(SetupFault, match="a web page"):
            await running


HELD = "the configuration looks wrong; messages are held and the edge is tried again"
EXIT = "the configuration is wrong; stopping before the first receive"


async def test_a_wrong_configuration_is_said_once_for_each_change_of_the_fault(path: Path) -> None:
    daemon = Daemon(settings(path))
    daemon._breakers = daemon._make_breakers(dict.fromkeys(Edge, _works))
    daemon._received = True
    breaker = daemon._breakers[Edge.QUEUE]

    def gone(detail: str) -> EdgeFault:
        return EdgeFault(Edge.QUEUE, Reason.NOT_FOUND, detail, curable=False)

    with capture_logs() as logs:
        for detail in ("gone", "gone", "gone", "denied", "denied", "gone"):
            daemon._on_fault(gone(detail))
            breaker.failed(gone(detail))
        breaker._close()
        daemon._on_fault(gone("gone"))

    said = [(line["event"], line["detail"]) for line in logs if line["log_level"] == "error"]
    assert said == [(HELD, "gone"), (HELD, "denied"), (HELD, "gone"), (HELD, "gone")]
    assert not daemon._stop.is_set()


async def test_before_the_first_receive_the_log_says_that_the_daemon_ends(path: Path) -> None:
    daemon = Daemon(settings(path))
    daemon._breakers = daemon._make_breakers(dict.fromkeys(Edge, _works))
    with capture_logs() as logs:
        daemon._on_fault(EdgeFault(Edge.QUEUE, Reason.NOT_FOUND, "gone", curable=False))
    assert [line["event"] for line in logs if line["log_level"] == "error"] == [EXIT]
    assert daemon._stop.is_set()


async def _works() -> None:
    """A probe."""


async def test_a_task_that_ends_stops_the_daemon_in_order(
    lonely: tuple[Daemon, asyncio.Task[None]],
) -> None:
    daemon, running = lonely

    async def dies() -> None:
        raise RuntimeError("a bug")

    with capture_logs() as logs:
        daemon._supervisor.loop("another loop", dies())
        async with asyncio.timeout(10):
            with pytest.raises(RuntimeError, match="a bug"):
                await running
    assert [line["event"] for line in logs if line["event"] in STOP] == STOP
    assert not daemon._readyz().ok


async def test_a_daemon_that_is_cancelled_stops_on_the_same_path(
    lonely: tuple[Daemon, asyncio.Task[None]],
) -> None:
    _, running = lonely
    with capture_logs() as logs:
        running.cancel()
        async with asyncio.timeout(10):
            with pytest.raises(asyncio.CancelledError):
                await running
    assert [line["event"] for line in logs if line["event"] in STOP] == STOP


async def test_a_long_poll_that_outlives_the_stop_is_logged(path: Path) -> None:
    poll = asyncio.create_task(asyncio.Event().wait())
    with capture_logs() as logs:
        await Daemon(settings(path))._end_polls([poll], 0.01)  # type: ignore[list-item] # a poll that never ends
    poll.cancel()
    assert log_lines(
        logs,
        "a long poll did not end in time; its messages stay hidden for their visibility timeout",
    )


async def test_writes_that_outlive_the_stop_are_counted(path: Path) -> None:
    daemon = Daemon(settings(path))
    delivery = daemon._in_flight.add(message(), 30)
    assert delivery is not None
    asyncio.get_running_loop().call_later(0.05, daemon._in_flight.remove, delivery)
    with capture_logs() as logs:
        await daemon._drain(0.01)
    assert [line["count"] for line in log_lines(logs, "unanswered writes are left")] == [1]
    assert delivery.released.is_set()


async def test_a_part_that_does_not_close_keeps_no_other_from_closing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async def fails() -> None:
        raise OSError("a bug")

    monkeypatch.setattr("daemon.app.CLOSE_SECONDS", 0.01)
    with capture_logs() as logs:
        daemon = Daemon(settings(path))
        await daemon._close("target", never)
        await daemon._close("checkpoint", fails)
    assert [(line["event"], line["part"]) for line in logs] == [
        ("a part did not close in time", "target"),
        ("a part failed to close", "checkpoint"),
    ]
    assert daemon.unclean == ["target"]


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    close = SqliteCheckpoint.aclose

    async def slowly(checkpoint: SqliteCheckpoint) -> None:
        await asyncio.sleep(2 * CLOSE_SECONDS)
        await close(checkpoint)

    monkeypatch.setattr(SqliteCheckpoint, "aclose", slowly)


@pytest.mark.usefixtures("slow_disk")
async def test_a_slow_disk_has_the_grace_time_that_is_left_to_close_the_checkpoint(
    lonely: tuple[Daemon, asyncio.Task[None]],
) -> None:
    daemon, running = lonely
    daemon.stop()
    with capture_logs() as logs:
        async with asyncio.timeout(20):
            await running
    assert not log_lines(logs, "a part did not close in time")
    assert daemon.unclean == []


async def test_a_receive_that_works_resets_the_backoff_of_the_queue(path: Path) -> None:
    backoff = CountingBackoff()
    daemon = Daemon(settings(path))
    breaker = Breaker(
        Edge.QUEUE, lambda: asyncio.sleep(0), backoff, lambda _open: None, proven=True
    )
    daemon._breakers = Breakers([breaker])
    running = asyncio.create_task(breaker.run(Pulse(), lambda _fault: None))
    async with asyncio.timeout(5):
        for _ in range(10):
            breaker.trip(edge_fault(Edge.QUEUE))
            await breaker.wait_closed()
            daemon._on_receive(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert backoff.asked == [1] * 10


async def test_a_checkpoint_on_a_network_file_system_is_a_warning(
    lonely: tuple[Daemon, asyncio.Task[None]], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del lonely
    mounts = path.with_name("mountinfo")
    mounts.write_text("36 22 0:32 / / rw - nfs4 server:/ rw")
    monkeypatch.setattr("daemon.checkpoint.sqlite.file_system.MOUNTS", mounts)
    daemon = Daemon(settings(path.with_name("other.db")))
    daemon.stop()
    with capture_logs() as logs:
        await daemon.run()
    [line] = log_lines(logs, "the checkpoint is on a network file system")
    assert "nfs4" in line["detail"]
