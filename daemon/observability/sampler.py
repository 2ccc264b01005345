"""Samples what no event reports: the depth of the queue and the size of the checkpoint."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from daemon.errors import EdgeFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.checkpoint.ports import Checkpoint
    from daemon.intake.queue_monitor import QueueMonitor
    from daemon.observability.metrics import Metrics
    from daemon.observability.watchdog import Pulse

SAMPLE_SECONDS = 30.0
"""Between two samples."""
SAMPLE_DEADLINE_SECONDS = 600.0
"""A longer sample counts as hung. It takes several requests, each with timeouts and retries."""


async def run_sampler(
    queue: QueueMonitor,
    checkpoint: Checkpoint,
    metrics: Metrics,
    on_fault: Callable[[EdgeFault], None],
    pulse: Pulse,
) -> None:
    """Updates the gauges of queue and checkpoint. Ends only by cancellation.

    Args:
        queue: asked for its state, which it also remembers.
        checkpoint: its rows are counted.
        metrics: to be updated.
        on_fault: called with each fault of either.
        pulse: of this loop.
    """
    while True:
        pulse.work(SAMPLE_DEADLINE_SECONDS)
        try:
            metrics.queue(await queue.refresh())
            metrics.rows(await checkpoint.row_counts())
        except EdgeFault as fault:
            on_fault(fault)
        pulse.rest()
        await asyncio.sleep(SAMPLE_SECONDS)
