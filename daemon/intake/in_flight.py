"""The in-flight ledger: every message from its receive to its acknowledgement, and which of them
are about the same job.

A message that is received again while it is in the ledger only brings a newer receipt handle. A
second message of a job that is in the ledger joins the first and gets its outcome.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from daemon.clock import monotonic
from daemon.outcome import Deferred, Duplicate, Reason, Synced

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from daemon.aws.ports import Message
    from daemon.checkpoint.journal import Journal
    from daemon.checkpoint.ports import Claim
    from daemon.outcome import Outcome
    from daemon.training_job.event import TrainingJobEvent
    from daemon.training_job.identity import JobMark
    from daemon.training_job.training_run import TrainingRun

LONGEST_IN_FLIGHT_SECONDS = 12 * 3600.0
"""SQS: the visibility timeout can be extended to 12 h in all, counted from the receive."""
RELEASE_AFTER_SECONDS = 11.5 * 3600.0


class Entry:
    """One message in flight, and what is known of its job so far.

    Attributes:
        message: as first received.
        receipt_handle: of the newest receive.
        receive_count: of the newest receive.
        received_at, visible_at: monotonic seconds; `visible_at` is when the queue shows the message
            again.
        job_arn: the ARN in lower case once the body is understood, else "".
        claim, mark, journal: as the flow comes by them.
        run: as it was to be synced last: true of the job even when the job has been deleted since.
        step: where the flow is: parse, claim, describe, tags, sync, record.
        attempt: the task that runs the flow.
        lease_lost, released: why the attempt was cancelled.
        notes, healed: what the target had to change, and how many doubles it deleted.
    """

    def __init__(self, message: Message, visibility_seconds: float) -> None:
        self.message = message
        self.receipt_handle = message.receipt_handle
        self.receive_count = message.receive_count
        self.received_at = monotonic()
        self.visible_at = self.received_at + visibility_seconds
        self.event: TrainingJobEvent | None = None
        self.job_arn = ""
        self.claim: Claim | None = None
        self.mark: JobMark | None = None
        self.journal: Journal | None = None
        self.run: TrainingRun | None = None
        self.step = "parse"
        self.durations: dict[str, float] = {}
        self.attempt: asyncio.Task[Outcome] | None = None
        self.lease_lost = False
        self.released = asyncio.Event()
        self.notes: tuple[str, ...] = ()
        self.healed = 0
        self._done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    @property
    def must_finish(self) -> bool:
        """True from the intent of a create until its answer, and while an outcome is recorded: not
        to be given back half-way.
        """
        if self.attempt is None or self.attempt.done():
            return False
        return self.step == "record" or (self.journal is not None and self.journal.write_under_way)

    @property
    def outcome_unknown(self) -> bool:
        """True when a create of this job was begun and its answer never read."""
        return self.journal is not None and self.journal.unanswered_writes > 0

    @property
    def creation_second(self) -> datetime | None:
        """When the job was created, as far as known, without the fraction (events and Describe
        round differently).
        """
        moment = self.event.creation_time if self.event is not None else None
        return None if moment is None else moment.replace(microsecond=0)

    def hidable_seconds(self, wanted: float) -> int:
        """How long the message can be hidden from now: as wanted, but within the 12 h that SQS
        counts from the receive.
        """
        left = self.received_at + LONGEST_IN_FLIGHT_SECONDS - 10 - monotonic()
        return max(0, round(min(wanted, left)))

    def stop_renewing(self) -> None:
        """The message is about to be acknowledged: a heartbeat after that would undo the delay it
        was given.
        """
        self.visible_at = float("inf")

    def give_back(self) -> None:
        """Asks the worker to end with this entry: what has not begun to write is cancelled, what
        holds ends.
        """
        self.released.set()
        if self.attempt is not None and not self.must_finish:
            self.attempt.cancel()

    def abandon(self) -> None:
        """Ends the entry whatever it is doing: a write under way stays without an answer."""
        self.released.set()
        if self.attempt is not None:
            self.attempt.cancel()

    def lose_lease(self) -> None:
        """The claim is gone: nothing more may be written for the job."""
        self.lease_lost = True
        self.claim = None
        if self.attempt is not None:
            self.attempt.cancel()


class InFlight:
    """All entries of this process."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._leaders: dict[str, Entry] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def add(self, message: Message, visibility_seconds: float) -> Entry | None:
        """Enters a receive.

        Returns:
            The new entry; None when the message is in flight already and this receive has joined
            it.
        """
        known = self._entries.get(message.message_id)
        if known is not None:
            known.receipt_handle = message.receipt_handle
            known.receive_count = max(known.receive_count, message.receive_count)
            known.received_at = monotonic()
            known.visible_at = known.received_at + visibility_seconds
            return None
        entry = Entry(message, visibility_seconds)
        self._entries[message.message_id] = entry
        self._empty.clear()
        return entry

    async def lead(self, entry: Entry, job_arn: str) -> Outcome | None:
        """Makes an entry the one that works on its job, after those that came earlier.

        Returns:
            None: the entry leads. Otherwise the outcome of an earlier entry about the same job,
                which is this one's, too.
        """
        entry.job_arn = job_arn
        while (leader := self._leaders.get(job_arn)) is not None and leader is not entry:
            outcome = await asyncio.shield(leader._done)  # noqa: SLF001 - the ledger and its entries are one thing
            if leader.creation_second == entry.creation_second:
                entry.mark = leader.mark
                return _joined(outcome)
        self._leaders[job_arn] = entry
        return None

    def finish(self, entry: Entry, outcome: Outcome) -> None:
        """Tells those that joined the outcome, and makes room for the next entry about the job."""
        if self._leaders.get(entry.job_arn) is entry:
            del self._leaders[entry.job_arn]
        if not entry._done.done():  # noqa: SLF001 - see above
            entry._done.set_result(outcome)  # noqa: SLF001 - see above

    def remove(self, entry: Entry) -> None:
        """The message has been acknowledged, or is lost to another receive."""
        self._entries.pop(entry.message.message_id, None)
        if not self._entries:
            self._empty.set()

    async def wait_empty(self) -> None:
        await self._empty.wait()


class Slots:
    """How many more messages may be held. A poller takes its slots before it receives."""

    def __init__(self, total: int) -> None:
        self._free = total
        self._some_free = asyncio.Event()
        self._some_free.set()

    async def take(self, up_to: int) -> int:
        """Waits for one free slot and takes as many as are free, at most `up_to`."""
        while not self._free:  # another poller that waited, too, may have been faster
            await self._some_free.wait()
        taken = min(self._free, up_to)
        self._free -= taken
        if not self._free:
            self._some_free.clear()
        return taken

    def give_back(self, count: int) -> None:
        self._free += count
        if self._free:
            self._some_free.set()


def _joined(outcome: Outcome) -> Outcome:
    match outcome:
        case Synced(target_ids=ids) | Duplicate(target_ids=ids):
            return Duplicate(Reason.JOINED, ids)
        case Deferred():
            return Deferred(outcome.reason, outcome.detail, outcome.delay_seconds)
        case _:
            return outcome
