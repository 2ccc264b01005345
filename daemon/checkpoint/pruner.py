"""Deletes old rows of the checkpoint from time to time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from daemon.clock import wall
from daemon.errors import EdgeFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.checkpoint.ports import Checkpoint
    from daemon.observability.watchdog import Pulse

log = structlog.get_logger(__name__)

PRUNE_SECONDS = 6 * 3600.0
"""Between two deletions."""
PRUNE_DEADLINE_SECONDS = 300.0
"""A longer deletion counts as hung. Exceeds the checkpoint's own deadline."""


async def run_pruner(
    checkpoint: Checkpoint,
    keep_days: int,
    on_fault: Callable[[EdgeFault], None],
    pulse: Pulse,
) -> None:
    """Ends only by cancellation.

    Args:
        checkpoint: to delete from.
        keep_days: rows unchanged for longer are deleted.
        on_fault: called with each fault of the checkpoint.
        pulse: of this loop.
    """
    while True:
        pulse.work(PRUNE_DEADLINE_SECONDS)
        try:
            # some at a time, so that a large deletion neither delays other calls nor outlasts the
            # deadline of its own
            while pruned := await checkpoint.prune(wall() - keep_days * 86400):
                log.info("old checkpoint rows deleted", rows=pruned)
                pulse.work(PRUNE_DEADLINE_SECONDS)
        except EdgeFault as fault:
            on_fault(fault)
        pulse.rest()
        await asyncio.sleep(PRUNE_SECONDS)
