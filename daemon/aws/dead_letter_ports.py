"""The protocol of a dead-letter queue as an operator sees it. Imports no AWS library.

The daemon itself only sends to it (`daemon.aws.ports.Queue.send_dead_letter`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from daemon.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daemon.aws.ports import Failed


BATCH_SIZE = 10
"""Messages per receive, and entries per batch call (SQS)."""


class NoMoveTask(DaemonError):
    """The service does not move this queue's messages by itself. Nothing has been moved."""


@dataclass(frozen=True, slots=True)
class ReceivedLetter:
    """One receive of a message in the dead-letter queue, whoever has sent it."""

    message_id: str
    receipt_handle: str
    body: str
    receive_count: int
    """ApproximateReceiveCount. After a redrive policy has moved a message, it goes on from the
    count in the source queue."""
    sent_at: float | None
    """SentTimestamp in epoch seconds: of the rejection if the daemon sent it, of the first sending
    if a redrive policy has moved it."""
    first_received_at: float | None
    """ApproximateFirstReceiveTimestamp in epoch seconds."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """All string message attributes by name."""
    other_attributes: tuple[str, ...] = ()
    """Names of the message attributes of other types (Number, Binary, String.…)."""
    source_arn: str = ""
    """Of the queue whose redrive policy has moved it here; "" if none has."""


@dataclass(frozen=True, slots=True)
class DeadLetterQueueState:
    """GetQueueAttributes of a dead-letter queue."""

    arn: str
    visible: int
    in_flight: int
    delayed: int
    max_receive_count: int | None
    """Of its own redrive policy, which it normally does not have."""


@dataclass(frozen=True, slots=True)
class MoveTask:
    """A move of all visible messages, carried out by the service."""

    handle: str
    """For its cancellation; "" unless it is running."""
    status: str
    """RUNNING, COMPLETED, CANCELLING, CANCELLED or FAILED."""
    moved: int
    to_move: int | None
    """As counted when it was started; None if the service does not say it."""
    started_at: float
    """Epoch seconds."""
    failure: str = ""

    @property
    def under_way(self) -> bool:
        return self.status in {"RUNNING", "CANCELLING"}


class DeadLetterQueue(Protocol):
    """A dead-letter queue. Every call raises `EdgeFault` with `Edge.QUEUE` if it does not work."""

    async def state(self) -> DeadLetterQueueState: ...

    async def receive(
        self, *, visibility_seconds: int, wait_seconds: int
    ) -> Sequence[ReceivedLetter]:
        """One long poll for at most ten messages, which must not be cancelled
        (`daemon.aws.ports.Queue.receive`).
        """

    async def delete(self, receipt_handles: Sequence[str]) -> Sequence[Failed | None]:
        """Deletes up to ten messages. Returns one entry per handle, in order: None on success."""

    async def hide(self, entries: Sequence[tuple[str, int]]) -> Sequence[Failed | None]:
        """Sets the visibility timeout of up to ten messages; see `daemon.aws.ports.Queue.hide`."""

    async def start_move(self, source_arn: str, destination_arn: str) -> None:
        """StartMessageMoveTask of everything to one queue.

        Raises:
            NoMoveTask: the service has none, not for this queue, or not with these permissions.
        """

    async def moves(self, source_arn: str) -> Sequence[MoveTask]:
        """The last tasks of the queue, newest first.

        Raises:
            NoMoveTask: as `start_move`.
        """

    async def cancel_move(self, handle: str) -> None:
        """CancelMessageMoveTask. A task that has ended meanwhile is left alone."""
