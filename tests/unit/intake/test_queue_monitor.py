"""The last known state of the queue: before the first answer, after it and after a fault."""

from __future__ import annotations

from collections import deque

import pytest
from structlog.testing import capture_logs

from daemon.errors import EdgeFault
from daemon.intake import queue_monitor
from daemon.intake.queue_monitor import (
    LEAST_VISIBILITY_SECONDS,
    SEND_FAULT_SECONDS,
    QueueMonitor,
)
from daemon.reasons import Edge, Reason
from tests.support.flow_scene import ACCOUNT, DEAD_LETTER_URL, MemoryQueue, edge_fault
from tests.support.log_lines import log_lines


@pytest.mark.parametrize(
    ("own", "asked"), [(0, LEAST_VISIBILITY_SECONDS), (1, LEAST_VISIBILITY_SECONDS), (120, 120)]
)
async def test_a_queue_with_a_very_short_visibility_timeout_is_asked_for_a_longer_one(
    own: int, asked: int
) -> None:
    """With one shorter than the heartbeat's interval, every message would be received twice."""
    queue = MemoryQueue()
    queue.own_visibility_seconds = own
    monitor = QueueMonitor(queue, None)
    assert monitor.visibility_seconds() == LEAST_VISIBILITY_SECONDS
    await monitor.refresh()
    assert monitor.visibility_seconds() == asked


async def test_a_configured_visibility_timeout_is_used_as_it_is() -> None:
    monitor = QueueMonitor(MemoryQueue(), 5)
    await monitor.refresh()
    assert monitor.visibility_seconds() == 5


async def test_the_last_answer_outlives_a_fault_of_the_queue() -> None:
    queue = MemoryQueue()
    queue.own_dead_letter_url = DEAD_LETTER_URL
    monitor = QueueMonitor(queue, None)
    await monitor.refresh()
    queue.faults["state"] = deque([edge_fault(Edge.QUEUE)])
    with pytest.raises(EdgeFault):
        await monitor.refresh()
    assert monitor.dead_letter_url() == DEAD_LETTER_URL


@pytest.mark.parametrize(
    ("counts", "warned"),
    [
        ([1], [1]),
        ([2, 2, 2], [2]),
        ([3], []),
        ([10], []),
        ([None], []),
        ([10, 2, 1, 5, 2], [2, 1, 2]),
    ],
)
async def test_too_few_receives_are_a_warning_once_for_each_change(
    counts: list[int | None], warned: list[int]
) -> None:
    queue = MemoryQueue()
    monitor = QueueMonitor(queue, None)
    with capture_logs() as logs:
        for count in counts:
            queue.own_max_receive_count = count
            await monitor.refresh()
    lines = log_lines(
        logs,
        "maxReceiveCount of the queue is low: brief failures send jobs to the dead-letter queue",
    )
    assert [line["max_receive_count"] for line in lines] == warned


DENIED = EdgeFault(Edge.QUEUE, Reason.ACCESS_DENIED, "no permission")
GONE = EdgeFault(Edge.QUEUE, Reason.NOT_FOUND, "it does not exist")


async def test_before_the_first_answer_no_dead_letter_queue_is_not_known_either() -> None:
    queue = MemoryQueue()
    monitor = QueueMonitor(queue, None)
    with pytest.raises(EdgeFault):
        monitor.dead_letter_url()
    await monitor.refresh()
    assert monitor.dead_letter_url() is None
    assert monitor.dead_letter_fault is None


@pytest.mark.parametrize("fault", [DENIED, GONE])
async def test_a_dead_letter_queue_that_nobody_can_find_is_not_none(fault: EdgeFault) -> None:
    queue = MemoryQueue()
    queue.own_dead_letter_fault = fault
    monitor = QueueMonitor(queue, None)
    await monitor.refresh()
    with pytest.raises(EdgeFault) as raised:
        monitor.dead_letter_url()
    assert raised.value is monitor.dead_letter_fault is fault


async def test_a_dead_letter_queue_that_cannot_be_one_fails_and_is_not_sent_to() -> None:
    queue = MemoryQueue()
    queue.own_dead_letter_url = DEAD_LETTER_URL
    monitor = QueueMonitor(queue, None)
    await monitor.refresh()
    queue.own_dead_letter_url = None
    queue.own_dead_letter_fault = EdgeFault(Edge.QUEUE, Reason.NOT_FOUND, "itself", curable=False)
    for use in (monitor.refresh, monitor.refresh):
        with pytest.raises(EdgeFault, match="itself"):
            await use()
    with pytest.raises(EdgeFault, match="itself"):
        monitor.dead_letter_url()


async def test_a_url_of_a_queue_that_is_said_not_to_exist_is_tried_and_the_send_decides() -> None:
    queue = MemoryQueue()
    queue.own_dead_letter_url, queue.own_dead_letter_fault = DEAD_LETTER_URL, GONE
    monitor = QueueMonitor(queue, None)
    await monitor.refresh()
    assert (monitor.dead_letter_url(), monitor.dead_letter_fault) == (DEAD_LETTER_URL, GONE)
    monitor.dead_letter_answered(None)
    assert monitor.dead_letter_fault is None
    monitor.dead_letter_answered(DENIED)
    assert monitor.dead_letter_fault is DENIED


async def test_a_missing_permission_to_count_is_no_fault_of_sending() -> None:
    queue = MemoryQueue()
    queue.own_dead_letter_url, queue.own_dead_letter_fault = DEAD_LETTER_URL, DENIED
    monitor = QueueMonitor(queue, None)
    await monitor.refresh()
    assert monitor.dead_letter_fault is None


async def test_a_failed_send_speaks_for_the_queue_until_it_is_outdated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr(queue_monitor, "monotonic", lambda: now[0])
    monitor = QueueMonitor(MemoryQueue(), None)
    await monitor.refresh()
    monitor.dead_letter_answered(DENIED)
    now[0] += SEND_FAULT_SECONDS - 1
    assert monitor.dead_letter_fault is DENIED
    now[0] += 1
    assert monitor.dead_letter_fault is None


@pytest.mark.parametrize(("account", "times"), [(None, 0), (ACCOUNT, 0), ("210987654321", 1)])
async def test_a_queue_of_another_account_is_told_once(account: str | None, times: int) -> None:
    monitor = QueueMonitor(MemoryQueue(), None, account)
    with capture_logs() as logs:
        await monitor.refresh()
        await monitor.refresh()
    assert [line["event"] for line in logs] == [
        "the queue belongs to another account than aws.account_id"
    ] * times
