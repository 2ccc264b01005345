"""The in-flight ledger: every message from its receive to its acknowledgement, and which of them
concern the same job.

Receiving a message again while it is in the ledger only updates its receipt handle. A second
message about a job in the ledger joins the first and shares its outcome; one about a change of its
tags waits for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon.clock import wall
from daemon.outcome import Duplicate, Synced
from daemon.pipeline.delivery import Delivery
from daemon.reasons import Reason
from daemon.story import StoryEntry, StoryEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.aws.ports import Message
    from daemon.outcome import Outcome
    from daemon.pipeline.job_context import JobContext
    from daemon.training_job.identity import JobMark


@dataclass(frozen=True, slots=True)
class Joined:
    """What a delivery gets from an earlier one about the same job."""

    outcome: Outcome
    mark: JobMark | None


@dataclass(frozen=True, slots=True)
class _Leader:
    """The delivery that works on a job, and its outcome for those that join it."""

    delivery: Delivery
    outcome: asyncio.Future[Outcome] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class InFlight:
    """All deliveries of this process."""

    def __init__(self) -> None:
        self._deliveries: dict[str, Delivery] = {}
        self._leaders: dict[str, _Leader] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._deliveries)

    def __iter__(self) -> Iterator[Delivery]:
        return iter(list(self._deliveries.values()))

    def oldest_seconds(self) -> float | None:
        """Age of the oldest message since it was sent; None without one."""
        sent = [each.message.sent_at for each in self if each.message.sent_at is not None]
        return max(0.0, wall() - min(sent)) if sent else None

    def add(
        self, message: Message, visibility_seconds: float, *, force: bool = False
    ) -> Delivery | None:
        """Enters a received message.

        Args:
            message: as received.
            visibility_seconds: until the queue shows it again.
            force: see `Delivery`.

        Returns:
            The new delivery; None if the message was in flight already.
        """
        known = self._deliveries.get(message.message_id)
        if known is not None:
            known.received_again(message, visibility_seconds)
            return None
        delivery = Delivery(message, visibility_seconds, force=force)
        self._deliveries[message.message_id] = delivery
        self._empty.clear()
        return delivery

    async def lead(self, delivery: Delivery) -> Joined | None:
        """Waits until no earlier delivery works on the same ARN.

        Args:
            delivery: its job's ARN must be known.

        Returns:
            None: this delivery works on the job now. Otherwise the outcome of an earlier delivery
            about the same job, which it shares.
        """
        key = delivery.job.key
        while (leader := self._leaders.get(key)) is not None:
            if leader.delivery is delivery:
                return None
            same = _same_question(leader.delivery.job, delivery.job)
            if same:
                told = StoryEntry(wall(), StoryEvent.JOINED, delivery.message.message_id)
                leader.delivery.job.story.take_over(delivery.job.story, told)
            outcome = await asyncio.shield(leader.outcome)
            if same:
                return Joined(_as_joined(outcome), leader.delivery.job.mark)
        self._leaders[key] = _Leader(delivery)
        return None

    def finish(self, delivery: Delivery, outcome: Outcome) -> None:
        """Passes the outcome to those that joined, and makes room for the job's next delivery."""
        leader = self._leaders.get(delivery.job.key)
        if leader is not None and leader.delivery is delivery:
            del self._leaders[delivery.job.key]
            leader.outcome.set_result(outcome)

    def remove(self, delivery: Delivery) -> None:
        """The message has been acknowledged, or lost to another receive."""
        self._deliveries.pop(delivery.message.message_id, None)
        if not self._deliveries:
            self._empty.set()

    async def wait_empty(self) -> None:
        await self._empty.wait()


class Slots:
    """How many more messages may be in flight. A poller takes its slots before it receives.

    A message that waits for its account only gives its slot back, and takes one again, before the
    pollers do.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        self._come_back = 0
        self._some_free = asyncio.Event()
        self._some_free.set()

    async def take(self, up_to: int) -> int:
        """Waits for one free slot and takes as many as are free, at most `up_to`."""
        # another waiting poller may have been faster
        while self._free <= self._come_back:
            self._some_free.clear()
            await self._some_free.wait()
        return self._taken(min(self._free - self._come_back, up_to))

    async def take_again(self) -> None:
        """Takes one slot, before any poller gets one."""
        self._come_back += 1
        try:
            while not self._free:
                self._some_free.clear()
                await self._some_free.wait()
        finally:
            self._come_back -= 1
            self._some_free.set()  # pollers waited for it to come back
        self._taken(1)

    def _taken(self, count: int) -> int:
        self._free -= count
        return count

    def give_back(self, count: int) -> None:
        self._free += count
        if self._free:
            self._some_free.set()


def _same_question(one: JobContext, other: JobContext) -> bool:
    """Whether the outcome of one message is that of the other. That of a change of tags is not: it
    may have come before the tags or the end of the job that the other message is about.
    """
    return one.creation_second == other.creation_second and not (
        one.is_tag_change or other.is_tag_change
    )


def _as_joined(outcome: Outcome) -> Outcome:
    if isinstance(outcome, Synced | Duplicate):
        return Duplicate(Reason.JOINED, outcome.target_ids)
    return outcome
