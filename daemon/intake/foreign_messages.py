"""Other people's messages in a shared queue (``queue.foreign_messages: leave``).

They are made visible again at once, so that their own consumer finds them. Without that consumer,
the daemon would receive them again at full speed: each receive is billed, and counts towards the
queue's redrive policy. The next receive waits, longer each time the messages were received before.
"""

from __future__ import annotations

import asyncio

import structlog

from daemon.clock import monotonic

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
"""Also how much later a message of ours may be received because of others."""


class ForeignMessages:
    """Bounds the rate at which messages that are left in the queue are received again."""

    def __init__(self) -> None:
        self._said = False
        self._pause = 0.0
        self._until = 0.0

    def left(self, receive_count: int, what: str) -> None:
        """Notes a message that is left in the queue."""
        if not self._said:
            self._said = True
            log.warning(
                "messages of others are left in the queue",
                first=what,
                detail="each receive of them counts towards the queue's redrive policy; said once",
            )
        now = monotonic()
        if now < self._until:
            return  # received together with another, or by another poller
        again = receive_count > 1 and self._pause > 0
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS) if again else FIRST_PAUSE_SECONDS
        self._until = now + self._pause

    def ours(self) -> None:
        """Notes a message of ours: the queue is in use, pauses are short again."""
        self._pause = 0.0

    async def pause(self) -> None:
        """Returns when the queue may be asked again."""
        await asyncio.sleep(max(0.0, self._until - monotonic()))
