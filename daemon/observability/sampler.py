"""Samples what no event reports: the depth of the queue and the size of the checkpoint."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from daemon.clock import monotonic
from daemon.errors import EdgeFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.checkpoint.ports import Checkpoint
    from daemon.intake.queue_monitor import QueueMonitor
    from daemon.observability.metrics import Metrics
    from daemon.observability.watchdog import Pulse

SAMPLE_SECONDS = 30.0
"""Between two samples."""
TABLE_COUNT_SECONDS = 3600.0
"""Between two counts of the rows of a table: each reads all entries of an index."""
SAMPLE_DEADLINE_SECONDS = 600.0
"""A longer sample counts as hung. It takes several requests, each with timeouts and retries."""


async def run_sampler(
    queue: QueueMonitor,
    checkpoint: Checkpoint,
    metrics: Metrics,
    on_fault: Callable[[EdgeFault], None],
    pulse: Pulse,
    *,
    count_every_seconds: float = 0.0,
) -> None:
    """Updates the gauges of queue and checkpoint. Ends only by cancellation.

    Args:
        queue: asked for its state, which it also remembers.
        checkpoint: its rows are counted.
        metrics: to be updated.
        on_fault: called with each fault of either.
        pulse: of this loop.
        count_every_seconds: how often the rows are counted at most; 0: with each sample.
    """
    count_at = monotonic()
    while True:
        pulse.work(SAMPLE_DEADLINE_SECONDS)
        try:
            metrics.queue(await queue.refresh())
            if monotonic() >= count_at:
                metrics.rows(await checkpoint.row_counts())
                count_at = monotonic() + count_every_seconds
        except EdgeFault as fault:
            on_fault(fault)
        pulse.rest()
        await asyncio.sleep(SAMPLE_SECONDS)
