"""The breaker: open until proven, one probe at a time, backoff that only a real success resets."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from daemon.errors import EdgeFault
from daemon.intake.backoff import Backoff
from daemon.intake.breaker import Breaker
from daemon.observability.watchdog import Watchdog
from daemon.pipeline.step import Step
from daemon.reasons import Edge, Reason
from tests.support.flow_scene import CountingBackoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

    from structlog.typing import EventDict

FAULT = EdgeFault(Edge.TARGET, Reason.UNAVAILABLE, "the database is down")


class Probe:
    """Fails a number of times, and counts overlapping calls."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.calls = 0
        self.most_at_once = 0
        self._now = 0

    async def __call__(self) -> None:
        self.calls += 1
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        await asyncio.sleep(0)
        self._now -= 1
        if self.failures:
            self.failures -= 1
            raise FAULT


@pytest.fixture
def backoff() -> CountingBackoff:
    return CountingBackoff()


class BreakerScene:
    """A running breaker."""

    def __init__(
        self, probe: Callable[[], Awaitable[object]], backoff: Backoff, *, proven: bool
    ) -> None:
        self.changes: list[bool] = []
        self.faults: list[EdgeFault] = []
        self.breaker = Breaker(Edge.TARGET, probe, backoff, self.changes.append, proven=proven)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(
            self.breaker.run(Watchdog().pulse("breaker"), self.faults.append)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_open_until_the_first_probe_has_passed(backoff: CountingBackoff) -> None:
    async with asyncio.timeout(5), BreakerScene(Probe(failures=3), backoff, proven=False) as scene:
        assert scene.breaker.is_open
        await scene.breaker.wait_closed()
        assert scene.breaker.proven
        assert scene.changes == [True, False]
        assert len(scene.faults) == 3


async def test_a_probe_that_nobody_foresees_to_fail_so_does_not_end_the_loop(
    backoff: CountingBackoff,
) -> None:
    probe = Probe()
    odd = [ValueError("soon"), OverflowError("hunter2")]

    async def ask() -> None:
        if odd:
            raise odd.pop()
        await probe()

    async with asyncio.timeout(5), BreakerScene(ask, backoff, proven=False) as scene:
        await scene.breaker.wait_closed()
    assert [fault.reason for fault in scene.faults] == [Reason.NOT_THE_API] * 2
    assert all(fault.curable and "hunter2" not in fault.detail for fault in scene.faults)


async def test_the_first_probe_does_not_wait(backoff: CountingBackoff) -> None:
    async with asyncio.timeout(5), BreakerScene(Probe(), backoff, proven=False) as scene:
        await scene.breaker.wait_closed()
        assert backoff.asked == []


async def test_one_probe_at_a_time_however_many_trip_and_wait(backoff: CountingBackoff) -> None:
    probe = Probe(failures=5)
    async with asyncio.timeout(5), BreakerScene(probe, backoff, proven=True) as scene:
        for _ in range(64):
            scene.breaker.trip(FAULT)
        await asyncio.gather(*(scene.breaker.wait_closed() for _ in range(64)))
        assert probe.most_at_once == 1
        assert probe.calls == 6


async def test_backoff_goes_on_growing_while_probes_pass_and_calls_fail(
    backoff: CountingBackoff,
) -> None:
    async with asyncio.timeout(5), BreakerScene(Probe(), backoff, proven=True) as scene:
        for _ in range(4):
            scene.breaker.trip(FAULT)
            await scene.breaker.wait_closed()
        assert backoff.asked == [1, 2, 3, 4]
        scene.breaker.succeeded(Step.SYNC, "message-1")
        scene.breaker.trip(FAULT)
        await scene.breaker.wait_closed()
        assert backoff.asked[-1] == 1


async def test_success_of_others_is_distinguished_by_step_and_message(
    backoff: CountingBackoff,
) -> None:
    breaker = Breaker(Edge.SAGEMAKER, Probe(), backoff, lambda _open: None, proven=True)
    breaker.succeeded(Step.DESCRIBE, "message-1")
    assert breaker.succeeded_for_others(Step.DESCRIBE, "message-2", since=0)
    assert not breaker.succeeded_for_others(Step.DESCRIBE, "message-1", since=0)
    assert not breaker.succeeded_for_others(Step.TAGS, "message-2", since=0)
    assert not breaker.succeeded_for_others(Step.DESCRIBE, "message-2", since=float("inf"))


def test_backoff_doubles_to_its_maximum_and_is_jittered_by_half() -> None:
    backoff = Backoff(10, 900, random.Random(7))
    for attempt, longest in [(1, 10), (2, 20), (3, 40), (7, 640), (8, 900), (1000, 900)]:
        delays = [backoff.delay(attempt) for _ in range(200)]
        assert longest / 2 <= min(delays) <= max(delays) <= longest
        assert max(delays) - min(delays) > longest / 4


def probes_told(logs: list[EventDict]) -> list[tuple[str, str]]:
    return [(line["log_level"], line["reason"]) for line in logs if line["event"] == "probe failed"]


async def test_an_outage_is_logged_once_until_its_reason_changes(backoff: CountingBackoff) -> None:
    faults = [FAULT, FAULT, EdgeFault(Edge.TARGET, Reason.UNREACHABLE, "connection refused"), FAULT]

    async def probe() -> None:
        if faults:
            raise faults.pop(0)

    breaker = Breaker(Edge.TARGET, probe, backoff, lambda _: None, proven=True)
    with capture_logs() as logs:
        breaker.trip(FAULT)
        task = asyncio.create_task(breaker.run(Watchdog().pulse("breaker"), lambda _: None))
        async with asyncio.timeout(5):
            await breaker.wait_closed()
        task.cancel()
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
        "breaker opened",
        "probe failed",
        "probe failed",
    ]
    assert probes_told(logs) == [
        ("debug", "unavailable"),
        ("debug", "unavailable"),
        ("warning", "unreachable"),
        ("warning", "unavailable"),
    ]


async def test_the_next_missing_permission_is_logged(backoff: CountingBackoff) -> None:
    missing = [
        "sagemaker:DescribeTrainingJob",
        "sagemaker:DescribeTrainingJob",
        "sagemaker:ListTags",
    ]

    async def probe() -> None:
        if missing:
            raise EdgeFault(
                Edge.SAGEMAKER, Reason.ACCESS_DENIED, f"not authorized to perform {missing.pop(0)}"
            )

    with capture_logs() as logs:
        breaker = Breaker(Edge.SAGEMAKER, probe, backoff, lambda _: None)
        task = asyncio.create_task(breaker.run(Watchdog().pulse("breaker"), lambda _: None))
        async with asyncio.timeout(5):
            await breaker.wait_closed()
        task.cancel()
    assert [
        line["detail"].rpartition(":")[2] for line in logs if line["log_level"] == "warning"
    ] == ["DescribeTrainingJob", "ListTags"]


async def test_a_long_outage_is_logged_again(
    backoff: CountingBackoff, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.intake.breaker.REMIND_SECONDS", 0.0)
    probe = Probe(failures=2)
    with capture_logs() as logs:
        async with asyncio.timeout(5), BreakerScene(probe, backoff, proven=False) as scene:
            await scene.breaker.wait_closed()
    assert probes_told(logs) == [("warning", "unavailable"), ("warning", "unavailable")]
