"""The last known state of the queue: before the first answer, after it and after a fault."""

from __future__ import annotations

from collections import deque

import pytest

from daemon.errors import EdgeFault
from daemon.intake.queue_monitor import LEAST_VISIBILITY_SECONDS, QueueMonitor
from daemon.reasons import Edge
from tests.support.flow_scene import DEAD_LETTER_URL, MemoryQueue, edge_fault


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
    assert monitor.dead_letter_url() is None
    await monitor.refresh()
    queue.faults["state"] = deque([edge_fault(Edge.QUEUE)])
    with pytest.raises(EdgeFault):
        await monitor.refresh()
    assert monitor.dead_letter_url() == DEAD_LETTER_URL
