"""The queue's last known state: its depth, visibility timeout and dead-letter queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from daemon.aws.queue_names import QueueName
from daemon.clock import monotonic, wall
from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason

if TYPE_CHECKING:
    from daemon.aws.ports import Queue, QueueState

log = structlog.get_logger(__name__)

LEAST_VISIBILITY_SECONDS = 10
"""With a shorter visibility timeout, messages return before the heartbeat can renew them."""

LEAST_RECEIVES = 3
"""With fewer, the redrive policy sends a job to the dead-letter queue after a brief failure."""

SEND_FAULT_SECONDS = 1800.0
"""How long a failed send of a dead letter counts as a fault of the dead-letter queue. With the
default ``queue.retry``, the message is received again within this time, unless SQS itself has moved
it to that queue."""


class QueueMonitor:
    """Asks the queue for its state and remembers the last answer.

    Args:
        queue: the main queue.
        configured_visibility_seconds: ``queue.visibility_seconds``; None: as the queue has it.
        account: ``aws.account_id``. A queue of another account is legitimate; it is logged.

    Attributes:
        state: the last answer; None before the first.
        asked_at: when it came, in epoch seconds.
    """

    def __init__(
        self, queue: Queue, configured_visibility_seconds: int | None, account: str | None = None
    ) -> None:
        self._queue = queue
        self._configured_visibility_seconds = configured_visibility_seconds
        self._account = account
        self.state: QueueState | None = None
        self.asked_at = 0.0
        self._sent = False
        self._send_fault: tuple[EdgeFault, float] | None = None

    async def refresh(self) -> QueueState:
        """Asks the queue.

        Raises:
            EdgeFault: the queue did not answer; the previous state stays. Or its dead-letter queue
                cannot be one.
        """
        state = await self._queue.state()
        if self.state is None:
            self._tell_account(state)
        if self.state is None or self.state.max_receive_count != state.max_receive_count:
            _tell_receives(state.max_receive_count)
        self.state, self.asked_at = state, wall()
        if state.dead_letter_fault is not None and not state.dead_letter_fault.curable:
            raise state.dead_letter_fault
        return state

    def _tell_account(self, state: QueueState) -> None:
        queue = QueueName.of_arn(state.arn)
        if queue is not None and self._account not in {None, queue.account}:
            log.warning(
                "the queue belongs to another account than aws.account_id",
                queue=state.arn,
                account_id=self._account,
            )

    @property
    def visible(self) -> int:
        """Messages that waited to be received when the queue last told."""
        return 0 if self.state is None else self.state.visible

    def visibility_seconds(self) -> int:
        """The visibility timeout for the next receive or renewal."""
        if self._configured_visibility_seconds is not None:
            return self._configured_visibility_seconds
        own = 0 if self.state is None else self.state.visibility_seconds
        return max(own, LEAST_VISIBILITY_SECONDS)

    def dead_letter_url(self) -> str | None:
        """None without a dead-letter queue.

        Raises:
            EdgeFault: there is one and nobody knows where, or the queue has not told yet.
        """
        state = self.state
        if state is None:
            raise EdgeFault(
                Edge.QUEUE,
                Reason.UNAVAILABLE,
                "the queue has not told yet whether it has a dead-letter queue",
            )
        if state.dead_letter_url is None and state.dead_letter_fault is not None:
            raise state.dead_letter_fault
        return state.dead_letter_url

    def dead_letter_answered(self, fault: EdgeFault | None) -> None:
        """Notes how sending a dead letter ended.

        Args:
            fault: of the dead-letter queue alone; None: it was sent.
        """
        self._sent = fault is None
        self._send_fault = None if fault is None else (fault, monotonic())

    @property
    def dead_letter_fault(self) -> EdgeFault | None:
        """Why rejected messages cannot leave the queue; None as far as is known."""
        if self._send_fault is not None:
            fault, since = self._send_fault
            if monotonic() - since < SEND_FAULT_SECONDS:
                return fault
        state = self.state
        if state is None or state.dead_letter_fault is None:
            return None
        gone = state.dead_letter_fault.reason is Reason.NOT_FOUND and not self._sent
        return state.dead_letter_fault if gone or state.dead_letter_url is None else None


def _tell_receives(max_receive_count: int | None) -> None:
    if max_receive_count is not None and max_receive_count < LEAST_RECEIVES:
        log.warning(
            "maxReceiveCount of the queue is low: brief failures send jobs to the dead-letter "
            "queue",
            max_receive_count=max_receive_count,
            least=LEAST_RECEIVES,
        )
