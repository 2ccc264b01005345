"""The checkpoint: which jobs are done, which are being worked on, and by which process.

`daemon.checkpoint.rules` draws the states of a job's row and decides what may become of it; this
module has the data and the protocol that a store implements.

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
from daemon.outcome import Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from daemon.training_job.identity import JobMark


class JobState(StrEnum):
    WRITING = "writing"
    SYNCED = "synced"
    REJECTED = "rejected"
    SKIPPED = "skipped"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a job. Given out by `Checkpoint.claim`, renewed by
    `Checkpoint.renew`.
    """

    job_arn: str
    """In lower case."""
    owner: str
    fence: int
    """Grows with every new claim on the same ARN, so that a late write of a former holder is
    refused."""


@dataclass(frozen=True, slots=True)
class ClaimedElsewhere:
    """Another living process has the job."""

    owner: str
    seconds_left: float


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What the checkpoint knows of one job."""

    job_arn: str
    creation_time: str
    """As in `JobMark`; "" for a job that was deferred or rejected before it could be described."""
    job_name: str
    state: JobState
    reason: str
    """A word of `Reason`: why the row is in its state, or why the last attempt ended; "" right
    after `begin_write`."""
    detail: str
    attempts: int
    """How often the job was deferred."""
    unanswered_writes: int
    """Creates that were begun and whose answer was never read. 0: it is known what is in the
    target."""
    target: str
    """Kind of the target, for example ``modeldb-v2``; "" before anything was written."""
    target_ids: Mapping[str, str]
    message_id: str
    """The SQS message that last changed the row."""
    first_seen_at: float
    """Epoch seconds."""
    updated_at: float
    """Epoch seconds."""
    steps: Mapping[str, str] = field(default_factory=dict)
    """What a target noted of the writes that are done, by its own words; empty once the job is
    synced."""


@dataclass(frozen=True, slots=True)
class WriterLease:
    """The right to write to a server. Given out by `Checkpoint.take_writer_lease`."""

    server_id: str
    owner: str
    term: int
    """Grows whenever the lease goes to another holder, or to the same one after it had run out."""


@dataclass(frozen=True, slots=True)
class WriterElsewhere:
    """Another process is, or may still be, the writer."""

    owner: str
    seconds_left: float
    """Until it may be taken over, if it is not renewed."""


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """A rejected message, by its own id. The body is kept only where no dead-letter queue took
    it.
    """

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
    """What `Checkpoint.history` returns; every given member narrows."""

    states: Collection[JobState] = ()
    job: str = ""
    """Part of the job's name or ARN, compared without case."""
    limit: int = 1000


class LeaseLost(JobFault):
    """The claim is no longer ours: nothing more may be written for this job."""

    def __init__(self, job_arn: str) -> None:
        super().__init__(Reason.LEASE_LOST, f"the claim on {job_arn} ran out or was taken over")


class NameLocked(JobFault):
    """Another process holds the lock of a name."""

    def __init__(self, name: str, seconds_left: float) -> None:
        super().__init__(
            Reason.NAME_LOCKED,
            f"another process is creating {name!r}; its lock ends in {seconds_left:.0f} s at the "
            f"latest",
            delay_seconds=max(1.0, seconds_left),
        )


class Checkpoint(Protocol):
    """See the module's text for the states. One object per process; all times in seconds."""

    @property
    def created_at(self) -> float:
        """When this checkpoint was made (epoch seconds). A young one may have forgotten what an
        older one knew.
        """

    async def claim(self, job_arn: str, lease_seconds: float) -> Claim | ClaimedElsewhere:
        """Claims a job for this process; a job that this process has already claimed is claimed
        again (lease renewed).
        """

    async def renew(self, claims: Sequence[Claim], lease_seconds: float) -> Sequence[Claim]:
        """Prolongs the leases of claims and of the name locks taken under them. Returns the claims
        that were lost.
        """

    async def release(self, claim: Claim) -> None:
        """Gives a claim and its locks back without an outcome. Never raises `LeaseLost`."""

    async def job(self, mark: JobMark) -> JobRecord | None: ...

    async def described(self, job_arn: str) -> Sequence[JobRecord]:
        """The rows of an ARN whose creation time is known, the newest job first: a name can have
        been used again.
        """

    async def begin_write(
        self, claim: Claim, mark: JobMark, job_name: str, *, target: str, lock_name: str
    ) -> JobRecord:
        """Writes the intent: one more unanswered write, and takes the lock of a name in the same
        step.

        Returns:
            The row as it is now (`unanswered_writes` counts this write).

        Raises:
            LeaseLost: the claim is gone; nothing was changed.
            NameLocked: another process has the lock; nothing was changed.
        """

    async def note_steps(self, claim: Claim, mark: JobMark, steps: Mapping[str, str]) -> None:
        """Notes completed writes of the job whose row is in state writing, over those noted before
        under the same words.

        Raises:
            LeaseLost: the claim is gone; nothing was changed.
        """

    async def take_writer_lease(
        self, server_id: str, lease_seconds: float, *, grace_seconds: float
    ) -> WriterLease | WriterElsewhere:
        """Makes this process the writer of a server, unless another one is; the writer itself
        prolongs its lease.

        Args:
            server_id: any word; the same in every process that writes to that server.
            grace_seconds: how long after the end of a lease that nobody gave back its holder's last
                call may still be carried out. A holder that is known to be gone needs no grace.
        """

    async def renew_writer_lease(self, lease: WriterLease, lease_seconds: float) -> bool:
        """Prolongs the lease. False: another process has taken it over."""

    async def release_writer_lease(self, lease: WriterLease) -> None:
        """Gives the lease back: nothing of this holder is under way any more, so that another may
        take it at once.
        """

    async def lock_name(self, claim: Claim, name: str, lease_seconds: float) -> None:
        """Takes the lock of a name for the claim. Again by the same claim: renewed.

        Raises:
            LeaseLost: the claim is gone.
            NameLocked: another claim (of this or another process) has it.
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
        target: str,
        target_ids: Mapping[str, str],
        message_id: str,
    ) -> None:
        """Final: the run is in the target. Ends the claim and its locks.

        Raises:
            LeaseLost: the claim is gone and the row is not synced by somebody else meanwhile.
        """

    async def record_skipped(
        self, claim: Claim, mark: JobMark, job_name: str, *, reason: Reason, message_id: str
    ) -> None:
        """Not for us, as far as known today; never written over synced, rejected or writing. Ends
        the claim and its locks.
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
        """Needs a person. Never over synced. With a mark the job's row is written, always the
        message's. Ends the claim.

        Args:
            unanswered_writes: what is known now of this job's writes; None: leave the row's own
                number.
        """

    async def keep_body(self, message_id: str, body: str) -> None:
        """Keeps the body of a rejected message that no dead-letter queue can take. Called after
        `record_rejected`.
        """

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
        """Counts an attempt and ends the claim and its locks.

        Args:
            unanswered_writes: what is known now of this job's writes (the row stays "writing" when
                above 0); None: leave the row's own number.
        """

    async def history(self, wanted: HistoryFilter) -> Sequence[JobRecord]:
        """Newest change first."""

    async def rejected_messages(self, limit: int = 1000) -> Sequence[RejectedMessage]: ...

    async def row_counts(self) -> Mapping[str, int]:
        """Rows per job state, every `JobState` named."""

    async def prune(self, older_than: float) -> int:
        """Deletes rows last changed before a moment (epoch seconds), except those in state writing.
        Returns how many.
        """

    async def probe(self) -> None:
        """Proves that the storage can be written.

        Raises:
            EdgeFault: it cannot.
        """

    async def aclose(self) -> None:
        """Gives every claim of this process back and closes the storage."""
