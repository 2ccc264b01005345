"""The queue's last known state: its depth, visibility timeout and dead-letter queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daemon.aws.ports import Queue, QueueState

LEAST_VISIBILITY_SECONDS = 10
"""With a shorter visibility timeout, messages return before the heartbeat can renew them."""


class QueueMonitor:
    """Asks the queue for its state and remembers the last answer.

    Args:
        queue: the main queue.
        configured_visibility_seconds: ``queue.visibility_seconds``; None: as the queue has it.
    """

    def __init__(self, queue: Queue, configured_visibility_seconds: int | None) -> None:
        self._queue = queue
        self._configured_visibility_seconds = configured_visibility_seconds
        self._state: QueueState | None = None

    async def refresh(self) -> QueueState:
        """Asks the queue.

        Raises:
            EdgeFault: the queue did not answer; the previous state stays.
        """
        self._state = await self._queue.state()
        return self._state

    def visibility_seconds(self) -> int:
        """The visibility timeout for the next receive or renewal."""
        if self._configured_visibility_seconds is not None:
            return self._configured_visibility_seconds
        own = 0 if self._state is None else self._state.visibility_seconds
        return max(own, LEAST_VISIBILITY_SECONDS)

    def dead_letter_url(self) -> str | None:
        """None without a dead-letter queue, or before the first answer."""
        return None if self._state is None else self._state.dead_letter_url
