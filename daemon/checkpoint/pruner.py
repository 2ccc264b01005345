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

log = structlog.get_logger(__name__)

PRUNE_SECONDS = 6 * 3600.0
"""Between two deletions."""


async def run_pruner(
    checkpoint: Checkpoint, keep_days: int, on_fault: Callable[[EdgeFault], None]
) -> None:
    """Ends only by cancellation.

    Args:
        checkpoint: to delete from.
        keep_days: rows unchanged for longer are deleted.
        on_fault: called with each fault of the checkpoint.
    """
    while True:
        try:
            pruned = await checkpoint.prune(wall() - keep_days * 86400)
            if pruned:
                log.info("old checkpoint rows deleted", rows=pruned)
        except EdgeFault as fault:
            on_fault(fault)
        await asyncio.sleep(PRUNE_SECONDS)
