"""The checkpoint: which jobs are done, which are being worked on, and by which process.

`daemon.checkpoint.rules` draws the states of a job's row and decides what may become of it; this
module has the data and the protocol that a store implements.

- A checkpoint is opened for one *target*: kind and place (`TargetPlace`). "Done" is per target, so
  rows, claims and name locks of other targets are not seen: daemons of several targets may share a
  checkpoint, and a daemon that moves to another ModelDB syncs there whatever it receives. Only
  unanswered writes of another place of the same kind count (`daemon.checkpoint.rules.seen_from`).
- A *claim* is on a job's ARN, because it is taken before DescribeTrainingJob gives the creation
  time. It has an owner (one process) and a lease, which the heartbeat renews. Whoever loses the
  lease writes nothing more.
- A *name lock* guards a name that must be created once (project, experiment, run). It belongs to a
  claim.
- A target whose run takes several writes notes each completed one (`note_steps`), so that the next
  attempt goes on from there.
- A server that takes one writer only has a *writer lease*: its holder writes, the others stand by.
- A job's *story* says what was done with it and when; it decides nothing.
- The operations (reconcile, backfill, ...) keep their own state here: *notes*, a *watch list* of
  jobs that have not ended, and *requests* to a running daemon. A claim may also be on an operation
  (``operation:reconcile``), so that one process at a time does it.

Every call that changes something returns when the change is durable.

Errors: `daemon.errors.EdgeFault` with `Edge.CHECKPOINT` when the storage fails (disk full, I/O
error); `LeaseLost` and `NameLocked` where a method names them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from daemon.errors import JobFault
from daemon.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from daemon.story import StoryEntry
    from daemon.targets.place import TargetPlace
    from daemon.training_job.identity import JobMark


class JobState(StrEnum):
    ENQUEUED = "enqueued"
    """Sent to the queue by reconcile or backfill; nothing has come of it yet."""
    WRITING = "writing"
    SYNCED = "synced"
    REJECTED = "rejected"
    SKIPPED = "skipped"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a job. Taken by `Checkpoint.claim`, renewed by `Checkpoint.renew`."""

    job_arn: str
    """In lower case."""
    owner: str
    fence: int
    """The fencing token: grows with every claim on the ARN and refuses a former holder's writes."""


@dataclass(frozen=True, slots=True)
class ClaimedElsewhere:
    """Another process holds the claim."""

    owner: str
    seconds_left: float


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What the checkpoint knows of one job in one target."""

    job_arn: str
    creation_time: str
    """As in `JobMark`; "" for a job that was deferred or rejected before it could be described."""
    job_name: str
    state: JobState
    reason: str
    """A `Reason`: why the row is in its state or the last attempt ended; "" after `begin_write`."""
    detail: str
    attempts: int
    """How often the job was deferred."""
    unanswered_writes: int
    """Creates that were begun and whose answer was never read. 0: the target's content is known."""
    target: str
    """Kind of the target, for example ``modeldb-v2``; see `place`."""
    place: str
    """Of the target. "": the row was written by a version that did not record it (version 2 of the
    schema). It counts for every place of its kind, and with kind "" for every kind; what is under
    way goes on from there, but a synced job may be in another place (`done`)."""
    target_ids: Mapping[str, str]
    message_id: str
    """The SQS message that last changed the row."""
    first_seen_at: float
    """Epoch seconds."""
    updated_at: float
    """Epoch seconds."""
    steps: Mapping[str, str] = field(default_factory=dict)
    """Completed steps of the write, in the target's own words; empty once the job is synced."""
    project: str = ""
    """The name of its project, once that is known."""

    @property
    def done(self) -> bool:
        """The job is known to be in this target."""
        return self.state is JobState.SYNCED and self.place != ""


@dataclass(frozen=True, slots=True)
class WriterLease:
    """The right to write to a single-writer server, taken by `Checkpoint.take_writer_lease`."""

    server_id: str
    owner: str
    term: int
    """The fencing token: grows with each change of holder and each expiry."""


@dataclass(frozen=True, slots=True)
class WriterElsewhere:
    """Another process is, or may still be, the writer."""

    owner: str
    seconds_left: float
    """Until the lease may be taken over, if it is not renewed."""
    ended: bool = False
    """The lease has ended, but what its holder sent may still be carried out."""


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """A rejected message. The body is kept only if no dead-letter queue took it."""

    message_id: str
    job_arn: str
    """In lower case; "" when the body names no job."""
    reason: str
    detail: str
    body: str | None
    rejected_at: float
    """Epoch seconds."""


@dataclass(frozen=True, slots=True)
class HistoryFilter:
    """What `Checkpoint.history` returns; the members are combined with AND."""

    states: Collection[JobState] = ()
    reasons: Collection[str] = ()
    job: str = ""
    """Part of the job's name or ARN, case-insensitive."""
    project: str = ""
    """The whole name of the project, case-insensitive (ASCII)."""
    since: float | None = None
    """Only rows changed at this moment or later, in epoch seconds."""
    until: float | None = None
    """Only rows changed before this moment, in epoch seconds."""
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class EnqueuedJob:
    """A job about which a message was sent to the queue."""

    job_arn: str
    creation_time: str
    """As in `JobMark`."""
    job_name: str
    by: str
    """``reconcile`` or ``backfill``."""
    row_changed_at: float | None
    """`JobRecord.updated_at` of its row as it was read before the send; None: there was no row."""
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class WatchedJob:
    """A job that had not ended when reconcile saw it."""

    job_arn: str
    creation_time: str
    """As in `JobMark`."""
    job_name: str
    first_seen_at: float
    """Epoch seconds."""
    look_again_at: float
    """Epoch seconds."""


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """A job that another process asks the running daemon of this target to sync."""

    request_id: str
    job: str
    """Name or ARN, as it was asked for."""
    force: bool
    asked_at: float
    """Epoch seconds."""
    taken_by: str = ""
    """The process that works on it, or has answered; "" while nobody does."""
    begun: bool = False
    """Somebody has begun to work on it: it cannot be withdrawn any more."""
    progress: str = ""
    """What the work waits for, for people; "" for nothing."""
    answer: str | None = None
    """JSON; None while there is none."""


class LeaseLost(JobFault):
    """The claim is lost: nothing more may be written for this job."""

    def __init__(self, job_arn: str) -> None:
        super().__init__(Reason.LEASE_LOST, f"the claim on {job_arn} expired or was taken over")


class NameLocked(JobFault):
    """Another claim holds the lock of a name."""

    def __init__(self, name: str, seconds_left: float) -> None:
        super().__init__(
            Reason.NAME_LOCKED,
            f"another process is creating {name!r}; its lock expires in {seconds_left:.0f} s",
            delay_seconds=max(1.0, seconds_left),
        )


class Checkpoint(Protocol):
    """One object per process, safe for concurrent calls. `daemon.checkpoint.rules` says what each
    method does to a row.

    Methods that end a claim or change a job's row take entries of its story, which are added in the
    same transaction, and the name of its project, "" while that is not known.
    """

    @property
    def target(self) -> TargetPlace:
        """Of which jobs, claims and name locks are read and written."""

    @property
    def owner(self) -> str:
        """This process's name in claims, leases and requests (`daemon.checkpoint.owners`)."""

    @property
    def created_at(self) -> float:
        """Since when this checkpoint has been in use for its target, in epoch seconds. A new one
        may replace a lost one, so it cannot vouch for older jobs. Later than it really was where a
        clock was wrong, or the checkpoint unused for long.
        """

    @property
    def opened_at(self) -> float:
        """Since when this process has had it open without a break, in epoch seconds. Before that it
        may have been an older copy, put back since.
        """

    async def claim(
        self, job_arn: str, lease_seconds: float, *, at_once: bool = True
    ) -> Claim | ClaimedElsewhere:
        """Claims a job for this process. A claim that this process already holds is renewed.

        Args:
            job_arn: in any case of letters.
            lease_seconds: from now on.
            at_once: False: a store whose writes are dear may take the claim together with the first
                change of the job. Until then nobody is kept out; that change raises `LeaseLost` if
                another process was quicker, and `renew` says so at the latest after that.
        """

    async def renew(self, claims: Sequence[Claim], lease_seconds: float) -> Sequence[Claim]:
        """Renews claims and their name locks. Returns the claims that are lost."""

    async def release(self, claim: Claim, *, story: Sequence[StoryEntry] = ()) -> None:
        """Releases a claim and its name locks without an outcome. A lost claim is ignored."""

    async def job(self, mark: JobMark) -> JobRecord | None: ...

    async def described(self, job_arn: str) -> Sequence[JobRecord]:
        """The rows of an ARN with a known creation time, newest job first: names can be reused."""

    async def begin_write(
        self,
        claim: Claim,
        mark: JobMark,
        job_name: str,
        *,
        lock_name: str,
        project: str = "",
        story: Sequence[StoryEntry] = (),
    ) -> JobRecord:
        """Records the intent to write and takes the lock of a name, in one atomic step.

        Returns:
            The new row; its `unanswered_writes` includes this write.

        Raises:
            LeaseLost: the claim is lost; nothing was changed.
            NameLocked: another claim has the lock; nothing was changed.
        """

    async def note_steps(
        self,
        claim: Claim,
        mark: JobMark,
        steps: Mapping[str, str],
        *,
        story: Sequence[StoryEntry] = (),
    ) -> None:
        """Adds completed steps to a row in state writing; a step of the same name is replaced.

        Raises:
            LeaseLost: the claim is lost; nothing was changed.
        """

    async def take_writer_lease(
        self, server_id: str, lease_seconds: float, *, grace_seconds: float
    ) -> WriterLease | WriterElsewhere:
        """Takes the writer lease of a server, or renews it if this process holds it.

        Args:
            server_id: names the server; the same in every process that writes to it.
            grace_seconds: how long after the end of a lease its holder's last call may still be
                carried out. No grace follows a lease that was released. That a holder is gone, or
                has closed its checkpoint without releasing, only ends its lease.
        """

    async def renew_writer_lease(self, lease: WriterLease, lease_seconds: float) -> bool:
        """Renews the lease. False: it is lost."""

    async def release_writer_lease(self, lease: WriterLease) -> None:
        """Releases the lease, so that another process may take it at once. To be called only when
        no call of this holder is in flight. A lost lease is ignored.
        """

    async def lock_name(self, claim: Claim, name: str, lease_seconds: float) -> None:
        """Takes the lock of a name for the claim, or renews it.

        Raises:
            LeaseLost: the claim is lost.
            NameLocked: another claim, of this or another process, has it.
        """

    async def unlock_name(self, claim: Claim, name: str) -> None: ...

    async def record_synced(
        self,
        claim: Claim,
        mark: JobMark,
        job_name: str,
        *,
        reason: Reason,
        detail: str,
        target_ids: Mapping[str, str],
        message_id: str,
        project: str = "",
        story: Sequence[StoryEntry] = (),
    ) -> None:
        """Records that the run is in the target. Ends the claim and its locks.

        Raises:
            LeaseLost: the claim is lost, and its next holder has not recorded the job as synced.
        """

    async def record_skipped(
        self,
        claim: Claim,
        mark: JobMark,
        job_name: str,
        *,
        reason: Reason,
        message_id: str,
        story: Sequence[StoryEntry] = (),
    ) -> None:
        """Records that the job is to be ignored; a later event may still sync it. Ends the claim
        and its locks.

        Raises:
            LeaseLost: the claim is lost; nothing was changed.
        """

    async def record_rejected(
        self,
        claim: Claim | None,
        mark: JobMark | None,
        job_name: str,
        *,
        job_arn: str,
        reason: Reason,
        detail: str,
        message_id: str,
        unanswered_writes: int | None = None,
        project: str = "",
        story: Sequence[StoryEntry] = (),
    ) -> None:
        """Records a permanent failure in the row of the message and in that of the job, and ends
        the claim and its locks.

        Args:
            claim: None if the job was not claimed.
            mark: None if the job was not described: its row then has no creation time.
            job_arn: "" if the message names no job: only the message's row is written.
            unanswered_writes: the number known now; None: the row keeps its own.

        Raises:
            LeaseLost: the claim is lost; nothing was changed.
        """

    async def keep_body(self, message_id: str, body: str) -> None:
        """Keeps the body of a rejected message that no dead-letter queue can take."""

    async def record_deferred(
        self,
        claim: Claim,
        mark: JobMark | None,
        job_name: str,
        *,
        reason: Reason,
        detail: str,
        unanswered_writes: int | None,
        message_id: str,
        project: str = "",
        story: Sequence[StoryEntry] = (),
    ) -> None:
        """Counts an attempt that failed and ends the claim and its locks.

        Args:
            unanswered_writes: the number known now; None: the row keeps its own. Above 0, the row
                stays in state writing.

        Raises:
            LeaseLost: the claim is lost; nothing was changed.
        """

    async def note_story(self, job_arn: str, entries: Sequence[StoryEntry]) -> None:
        """Adds to the story of a job, of which there need be no row."""

    async def story(self, job_arn: str) -> Sequence[StoryEntry]:
        """What was done with a job for this target, oldest first: at most
        `daemon.story.ENTRIES_LIMIT` entries, of all jobs that had this ARN.
        """

    async def claim_on(self, job_arn: str) -> ClaimedElsewhere | None:
        """Who, this process included, has a claim on a job now. Changes nothing."""

    async def jobs_named(self, name: str) -> Sequence[JobRecord]:
        """The rows of this target of every job that has or had a name or ARN (whole, in any case),
        the newest job first; one that could not be described comes last. Of `ANY_TARGET`: the rows
        of all targets.
        """

    async def note(self, name: str) -> str | None:
        """An operation's note for this target."""

    async def notes(self, prefix: str) -> Mapping[str, str]:
        """The notes for this target whose name begins so, by name."""

    async def put_note(self, name: str, value: str | None, claim: Claim | None = None) -> None:
        """Keeps a note of an operation; None deletes it.

        Raises:
            LeaseLost: the claim is given and lost; nothing was changed.
        """

    async def record_enqueued(self, jobs: Sequence[EnqueuedJob]) -> None:
        """Records that messages about jobs were sent to the queue, in their rows and stories. To be
        called after the send. A row that has changed since before the send stays as it is, because
        something may have come of the message already; so does one that is synced or whose write
        has begun. ListTrainingJobs may round the creation time differently: the row of a job is the
        one within a second.
        """

    async def watch(self, jobs: Sequence[WatchedJob]) -> None:
        """Puts jobs on the watch list. One that is there keeps its `first_seen_at`."""

    async def unwatch(self, job_arns: Sequence[str]) -> None: ...

    async def watched(self, limit: int, not_after: float) -> Sequence[WatchedJob]:
        """The jobs to be looked at again by a moment (epoch seconds), the most overdue first."""

    async def watching(self, job_arn: str) -> Sequence[WatchedJob]:
        """What the watch list has of an ARN."""

    async def ask(self, job: str, *, force: bool) -> SyncRequest:
        """Asks the running daemon of this target to sync a job."""

    async def take_request(self, *, lease_seconds: float) -> SyncRequest | None:
        """Takes the oldest request that has no answer and that nobody works on: not yet taken, its
        lease ended, or its taker is known to be gone.
        """

    async def renew_request(
        self, request_id: str, *, lease_seconds: float, progress: str = "", begun: bool = False
    ) -> bool:
        """Renews the lease of a request that this process has taken, and says how far it is.

        Args:
            request_id: of the request.
            lease_seconds: from now on.
            progress: as `SyncRequest.progress`.
            begun: from now on it cannot be withdrawn.

        Returns:
            False: it was withdrawn, or another process has taken it over; it is not to be begun.
        """

    async def give_back_request(self, request_id: str) -> None:
        """Lets others take a request that this process has taken. A lost one is ignored."""

    async def answer_request(self, request_id: str, answer: str) -> bool:
        """Answers a request, also after its lease. False: it is gone, answered, or another process
        has taken it over.
        """

    async def request(self, request_id: str) -> SyncRequest | None: ...

    async def requests_about(self, job: str) -> Sequence[SyncRequest]:
        """The requests of this target that name a job just so, the newest first."""

    async def withdraw(self, request_id: str) -> bool:
        """Deletes a request that nobody has begun. False: it is gone, or somebody has."""

    async def history(self, wanted: HistoryFilter) -> Sequence[JobRecord]:
        """The wanted rows of all targets, most recently changed first."""

    async def rejected_messages(self, limit: int = 1000) -> Sequence[RejectedMessage]:
        """The newest first."""

    async def rejected_message(self, message_id: str) -> RejectedMessage | None: ...

    async def rejected_about(self, job_arn: str) -> Sequence[RejectedMessage]:
        """The rejected messages about an ARN, the newest first."""

    async def forget_body(self, message_id: str) -> None:
        """Deletes the kept body of a rejected message, which is elsewhere now."""

    async def row_counts(self) -> Mapping[str, int]:
        """The number of rows in each `JobState`, of all targets, zeros included."""

    async def job_counts(self) -> Mapping[TargetPlace, int]:
        """The number of rows of each target that has any."""

    async def prune(self, older_than: float) -> int:
        """Deletes what was last changed before a moment, in epoch seconds, except rows in state
        writing: some thousands at a time. Returns how many; 0: no more are left.
        """

    async def probe(self) -> None:
        """Tests the storage with a write.

        Raises:
            EdgeFault: it cannot be written.
        """

    async def aclose(self) -> None:
        """Releases the claims and name locks of this process, ends its writer leases (the grace
        follows), and closes the storage.
        """
