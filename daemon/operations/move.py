"""Follows SQS's own move of all dead letters to a queue (StartMessageMoveTask)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from daemon.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.aws.dead_letter_ports import DeadLetterQueue, MoveTask

LOOK_SECONDS = 2.0


class MoveFailedError(DaemonError):
    """The task has ended without moving everything."""


async def move_all(
    letters: DeadLetterQueue,
    source_arn: str,
    destination_arn: str,
    on_progress: Callable[[MoveTask], None],
) -> MoveTask:
    """Moves everything that is visible in a dead-letter queue, or follows the move that is already
    under way.

    When it is cancelled, so is the task: what was moved until then stays in the queue.

    Args:
        letters: the dead-letter queue.
        source_arn: its ARN.
        destination_arn: of the queue.
        on_progress: called with each look at the task.

    Returns:
        The task as it has ended: COMPLETED or CANCELLED.

    Raises:
        NoMoveTask: the service has none.
        EdgeFault: SQS does not work. A task that was started goes on.
        MoveFailedError: it has ended otherwise; says how many were moved.
    """
    known = await letters.moves(source_arn)
    running = [task for task in known if task.under_way]
    since = max((task.started_at for task in known if not task.under_way), default=0.0)
    if not running:
        await letters.start_move(source_arn, destination_arn)
    try:
        task = await _ended(letters, source_arn, since, on_progress)
    except asyncio.CancelledError:
        await _cancel(letters, source_arn)
        raise
    if task.status == "FAILED":
        why = task.failure or "SQS does not say why"
        raise MoveFailedError(
            f"the move task has failed after {task.moved} messages ({why}): redrive the rest with "
            "--method copy"
        )
    return task


async def _ended(
    letters: DeadLetterQueue,
    source_arn: str,
    since: float,
    on_progress: Callable[[MoveTask], None],
) -> MoveTask:
    """The task that was started after a moment, once it has ended."""
    while True:
        for task in await letters.moves(source_arn):
            if task.started_at > since:
                on_progress(task)
                if not task.under_way:
                    return task
                break
        await asyncio.sleep(LOOK_SECONDS)


async def _cancel(letters: DeadLetterQueue, source_arn: str) -> None:
    for task in await letters.moves(source_arn):
        if task.under_way and task.handle:
            await letters.cancel_move(task.handle)
