"""A message of the simulated SQS: its stored copies, and its history."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class CopyState(StrEnum):
    """Where a stored copy is."""

    DELAYED = "delayed"
    VISIBLE = "visible"
    HIDDEN = "hidden"
    DELETED = "deleted"


@dataclass(slots=True, eq=False)
class SimulatedMessage:
    """One message, in whichever queue it is.

    Attributes:
        sent_at: epoch seconds; SentTimestamp.
        life: what happened to it and when (seconds of the loop's time).
        copies: as they are stored; one, or two where the queue has stored it twice.
        dead_letter_of: the message that the daemon itself has put into a dead-letter queue as this
            one.
    """

    message_id: str
    body: str
    attributes: Mapping[str, Mapping[str, Any]]
    sent_at: float
    life: list[tuple[float, str]] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    receives: int = 0
    dead_letter_of: SimulatedMessage | None = None

    @property
    def texts(self) -> dict[str, str]:
        """Its string attributes."""
        return {
            name: value["StringValue"]
            for name, value in self.attributes.items()
            if "StringValue" in value
        }

    def history(self, now: float | None = None) -> str:
        """Its history, one line per event.

        Args:
            now: the loop's time; with it, copies that have become visible since are included.
        """
        if now is not None:
            for copy in self.copies:
                copy.announce(now)
        return "\n".join(f"{time:10.3f}  {self.message_id}  {what}" for time, what in self.life)


@dataclass(slots=True, eq=False)
class Copy:
    """A message as one part of the queue has it.

    Attributes:
        queue: the name of the queue that it is in.
        visible_at: on the loop's clock.
        handle: of the newest receive in this queue; None before the first.
        received_at: when that was.
        redriven_from: the ARN of the queue whose redrive policy put it here.
        announced: whether its life says already that it is visible.
    """

    message: SimulatedMessage
    queue: str
    visible_at: float
    received_at: float = 0.0
    receive_count: int = 0
    handle: str | None = None
    deleted: bool = False
    delayed: bool = False
    redriven_from: str | None = None
    announced: bool = True

    def state(self, now: float) -> CopyState:
        """Where it is at a time."""
        if self.deleted:
            return CopyState.DELETED
        if self.visible_at <= now:
            return CopyState.VISIBLE
        return CopyState.DELAYED if self.delayed else CopyState.HIDDEN

    def announce(self, now: float) -> None:
        """Records in its history that it has become visible, once."""
        if not self.announced and not self.deleted and self.visible_at <= now:
            self.message.life.append(
                (self.visible_at, "visible again" if self.receive_count else "visible")
            )
            self.announced = True
