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

    from daemon.targets.place import TargetPlace
    from daemon.training_job.identity import JobMark


class JobState(StrEnum):
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
    job: str = ""
    """Part of the job's name or ARN, case-insensitive."""
    limit: int = 1000


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
    """

    @property
    def target(self) -> TargetPlace:
        """Of which jobs, claims and name locks are read and written."""

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

    async def claim(self, job_arn: str, lease_seconds: float) -> Claim | ClaimedElsewhere:
        """Claims a job for this process. A claim that this process already holds is renewed."""

    async def renew(self, claims: Sequence[Claim], lease_seconds: float) -> Sequence[Claim]:
        """Renews claims and their name locks. Returns the claims that are lost."""

    async def release(self, claim: Claim) -> None:
        """Releases a claim and its name locks without an outcome. A lost claim is ignored."""

    async def job(self, mark: JobMark) -> JobRecord | None: ...

    async def described(self, job_arn: str) -> Sequence[JobRecord]:
        """The rows of an ARN with a known creation time, newest job first: names can be reused."""

    async def begin_write(
        self, claim: Claim, mark: JobMark, job_name: str, *, lock_name: str
    ) -> JobRecord:
        """Records the intent to write and takes the lock of a name, in one atomic step.

        Returns:
            The new row; its `unanswered_writes` includes this write.

        Raises:
            LeaseLost: the claim is lost; nothing was changed.
            NameLocked: another claim has the lock; nothing was changed.
        """

    async def note_steps(self, claim: Claim, mark: JobMark, steps: Mapping[str, str]) -> None:
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
    ) -> None:
        """Records that the run is in the target. Ends the claim and its locks.

        Raises:
            LeaseLost: the claim is lost, and its next holder has not recorded the job as synced.
        """

    async def record_skipped(
        self, claim: Claim, mark: JobMark, job_name: str, *, reason: Reason, message_id: str
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
    ) -> None:
        """Counts an attempt that failed and ends the claim and its locks.

        Args:
            unanswered_writes: the number known now; None: the row keeps its own. Above 0, the row
                stays in state writing.

        Raises:
            LeaseLost: the claim is lost; nothing was changed.
        """

    async def history(self, wanted: HistoryFilter) -> Sequence[JobRecord]:
        """The wanted rows of all targets, most recently changed first."""

    async def rejected_messages(self, limit: int = 1000) -> Sequence[RejectedMessage]:
        """The newest first."""

    async def row_counts(self) -> Mapping[str, int]:
        """The number of rows in each `JobState`, of all targets, zeros included."""

    async def job_counts(self) -> Mapping[TargetPlace, int]:
        """The number of rows of each target that has any."""

    async def prune(self, older_than: float) -> int:
        """Deletes rows last changed before a moment, in epoch seconds, except those in state
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
