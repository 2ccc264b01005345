"""The rules of the checkpoint, as pure functions: a row as it is stored and an event in, the row as
it must become or a refusal out.

A store only executes them: it reads the rows, asks the rule, and writes the answer in one atomic
step (a transaction, or a write conditional on the row being as it was read). The functions are
named after the methods of `daemon.checkpoint.ports.Checkpoint` they decide.

A job's row, one per ARN, creation time and target::

    claim ── begin_write ──> writing ── record_synced ──> synced
                             │     ▲
                             └─────┘ begin_write: one more unanswered write

    event             no row,   released  skipped   rejected  writing        synced
                      enqueued
    begin_write       writing   writing   writing   writing   writing        writing
    note_steps        refused   refused   refused   refused   writing        refused
    record_synced     synced    synced    synced    synced    synced         synced
    record_skipped    skipped   skipped   skipped   unchanged unchanged      unchanged
    record_rejected   rejected  rejected  rejected  rejected  rejected       unchanged
    record_deferred   released  released  released  released  released, or   unchanged
                                                              writing while
                                                              unanswered
    record_enqueued   enqueued  enqueued  enqueued  enqueued  unchanged      unchanged

A row of an older version, which does not say in which place its target is, is taken over by the
first target of its kind that changes it. A synced one is not: to another place it is "no row".

Nothing else is known of other places, except that a write without an answer may still be carried
out, wherever it was sent: see `seen_from`.

After a crash, a stop or a timeout the row stays in state writing: what is in the target is unknown,
so the next attempt, which sees `unanswered_writes` > 0, looks the job up there first.

Claims, name locks and writer leases are leases of one owner (a process):

- A lease that has not expired keeps everybody else out; a claim or name lock not if its owner is
  known to be gone.
- A claim has a fence, a writer lease a term: fencing tokens, which only grow. The holder of an
  older one has lost the lease.
- A holder may renew an expired lease while nobody else took it, but may not write before that.
- A name lock belongs to a claim and ends with it.
- A writer lease that was released is free at once. Any other is free when it has ended and the
  grace has passed, in which the server may still carry out the last calls of its holder. That the
  holder is gone, or has closed its connections, ends the lease then and there, but not the grace.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from daemon.checkpoint.ports import (
    Claim,
    ClaimedElsewhere,
    EnqueuedJob,
    JobRecord,
    JobState,
    LeaseLost,
    NameLocked,
    RejectedMessage,
    SyncRequest,
    WatchedJob,
    WriterElsewhere,
    WriterLease,
)
from daemon.story import StoryEntry, StoryEvent, continued, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daemon.reasons import Reason
    from daemon.targets.place import TargetPlace

NEVER_SKIPPED = frozenset({JobState.SYNCED, JobState.REJECTED, JobState.WRITING})
NEVER_ENQUEUED = frozenset({JobState.SYNCED, JobState.WRITING})
NEVER_PRUNED = frozenset({JobState.WRITING})

EARLIEST_CLOCK = 1_735_689_600.0
"""2025-01-01, before this program: a clock that showed less was wrong."""
LONGEST_UNUSED_SECONDS = 86400.0
CLOCK_JUMP_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """A claim and the end of its lease in epoch seconds."""

    claim: Claim
    lease_until: float


@dataclass(frozen=True, slots=True)
class NameLockRow:
    """A name lock, the claim it belongs to, and the end of its lease in epoch seconds."""

    name: str
    claim: Claim
    lease_until: float


@dataclass(frozen=True, slots=True)
class WriterLeaseRow:
    """A writer lease and its end in epoch seconds. 0: it was released, with every call answered."""

    lease: WriterLease
    lease_until: float


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A request and the end of its taker's lease in epoch seconds; 0: it was never taken."""

    request: SyncRequest
    lease_until: float


def claim(
    held: ClaimRow | None, wanted: Claim, *, now: float, lease_until: float, holder_gone: bool
) -> ClaimRow | ClaimedElsewhere:
    """The owner's own claim renewed, a new one, or the refusal.

    Args:
        held: the claim on the ARN, if there is one.
        wanted: what the claim is when it is a new one; its fence is above all fences that were ever
            given out for the ARN.
        holder_gone: the owner of `held` is known to be gone.
    """
    if held is not None and held.lease_until > now:
        if held.claim.owner == wanted.owner:
            return ClaimRow(held.claim, lease_until)
        if not holder_gone:
            return ClaimedElsewhere(held.claim.owner, held.lease_until - now)
    return ClaimRow(wanted, lease_until)


def renew(held: ClaimRow | None, given: Claim, *, lease_until: float) -> ClaimRow | None:
    """The claim renewed, even if its lease expired; None: it is lost."""
    return ClaimRow(given, lease_until) if held is not None and held.claim == given else None


def require_lease(held: ClaimRow | None, given: Claim, *, now: float) -> ClaimRow:
    """The claim's row.

    Raises:
        LeaseLost: the claim is lost, or its lease expired, so that anybody may take it.
    """
    if held is None or held.claim != given or held.lease_until <= now:
        raise LeaseLost(given.job_arn)
    return held


def lock_name(
    held: NameLockRow | None, wanted: NameLockRow, *, now: float, holder_gone: bool
) -> NameLockRow:
    """The lock taken, or renewed by the claim that has it. The claim's lease must have been checked
    (`require_lease`).

    Args:
        held: the lock of the name, if there is one.
        wanted: the lock as it is to be.
        holder_gone: the owner of `held` is known to be gone.

    Raises:
        NameLocked: another claim, of this or another process, has it.
    """
    if (
        held is not None
        and held.claim != wanted.claim
        and held.lease_until > now
        and not holder_gone
    ):
        raise NameLocked(wanted.name, held.lease_until - now)
    return wanted


def take_writer_lease(
    held: WriterLeaseRow | None,
    server_id: str,
    owner: str,
    *,
    now: float,
    lease_seconds: float,
    grace_seconds: float,
) -> WriterLeaseRow | WriterElsewhere:
    """The owner's own lease renewed, a lease of a new term, or the refusal.

    Args:
        held: the latest lease of the server, if there ever was one; released or not.
        grace_seconds: as `daemon.checkpoint.ports.Checkpoint.take_writer_lease`.
    """
    term = 1
    if held is not None:
        ours, valid = held.lease.owner == owner, held.lease_until > now
        free_at = held.lease_until + grace_seconds
        if not ours and free_at > now:
            return WriterElsewhere(held.lease.owner, free_at - now, ended=held.lease_until <= now)
        term = held.lease.term if ours and valid else held.lease.term + 1
    return WriterLeaseRow(WriterLease(server_id, owner, term), now + lease_seconds)


def renew_writer_lease(
    held: WriterLeaseRow | None, given: WriterLease, *, lease_until: float
) -> WriterLeaseRow | None:
    """The lease renewed, even if it expired; None: it is lost."""
    return WriterLeaseRow(given, lease_until) if held is not None and held.lease == given else None


def release_writer_lease(held: WriterLeaseRow | None, given: WriterLease) -> WriterLeaseRow | None:
    """The lease released, free for everybody at once; None: it is lost."""
    return renew_writer_lease(held, given, lease_until=0.0)


def end_writer_lease(held: WriterLeaseRow, *, now: float) -> WriterLeaseRow:
    """The lease of a holder that is gone or closes without having released it: it sends nothing
    more, but the server may not have carried out all that it sent. So the grace follows, from here
    or from an earlier end.
    """
    return replace(held, lease_until=min(held.lease_until, now))


def job_row(
    known: JobRecord | None,
    undescribed: JobRecord | None,
    *,
    target: TargetPlace,
    job_arn: str,
    creation_time: str,
    job_name: str,
    now: float,
) -> JobRecord:
    """The row of a job, or a new one; to be changed by one of the functions below.

    Args:
        known: the row of this ARN and creation time for this target, or else the one of an unknown
            place (`JobRecord.place`). If `takes_over` says so, the store must delete it.
        undescribed: the same without a creation time. If `absorbs` says so, its attempts and its
            age are added, and the store must delete it.
        target: the checkpoint's.
    """
    if known is not None and _in_doubt(known):
        known = None
    row = known or JobRecord(
        job_arn=job_arn,
        creation_time=creation_time,
        job_name=storable(job_name),
        state=JobState.RELEASED,
        reason="",
        detail="",
        attempts=0,
        unanswered_writes=0,
        target="",
        place="",
        target_ids={},
        message_id="",
        first_seen_at=now,
        updated_at=now,
    )
    row = replace(row, target=target.kind, place=target.place)
    if undescribed is None or not absorbs(row, undescribed):
        return row
    return replace(
        row,
        attempts=row.attempts + undescribed.attempts,
        first_seen_at=min(row.first_seen_at, undescribed.first_seen_at),
    )


def absorbs_enqueued(row: JobRecord, other: JobRecord) -> bool:
    """True if another row of the ARN is of the same job, enqueued under the creation time that
    ListTrainingJobs gave: the store must delete it.
    """
    return (
        other.state is JobState.ENQUEUED
        and other.creation_time != row.creation_time
        and same_creation(other.creation_time, row.creation_time)
    )


def absorbs(row: JobRecord, undescribed: JobRecord) -> bool:
    """True if the row without a creation time holds deferrals of this same job. A job rejected
    before it was described may be an earlier one of that name, so its row stays.
    """
    return row.creation_time != "" and undescribed.state is JobState.RELEASED


def seen_from(target: TargetPlace, row: JobRecord) -> JobRecord:
    """A row as it counts for a target. Of one of another place only the unanswered writes count:
    that may be another name of the same server, which may still carry them out.
    """
    if row.place in ("", target.place):
        return row
    return JobRecord(
        job_arn=row.job_arn,
        creation_time=row.creation_time,
        job_name=row.job_name,
        state=JobState.WRITING,
        reason="",
        detail="",
        attempts=0,
        unanswered_writes=row.unanswered_writes,
        target=target.kind,
        place=target.place,
        target_ids={},
        message_id="",
        first_seen_at=row.updated_at,
        updated_at=row.updated_at,
        project=row.project,
    )


def takes_over(row: JobRecord, known: JobRecord) -> bool:
    """True if a job's new row replaces one of an unknown place. A synced one stays until the same
    run was found in this target.
    """
    if known.place != "":
        return False
    return not _in_doubt(known) or (row.done and row.target_ids == known.target_ids)


def _in_doubt(known: JobRecord) -> bool:
    """Synced, but perhaps to another place."""
    return known.state is JobState.SYNCED and not known.done


def begin_write(row: JobRecord, *, now: float) -> JobRecord:
    """The intent of a write. A synced job may be written again (a forced sync)."""
    return replace(
        row,
        state=JobState.WRITING,
        reason="",
        detail="",
        unanswered_writes=row.unanswered_writes + 1,
        updated_at=now,
    )


def note_steps(
    known: JobRecord | None, given: Claim, steps: Mapping[str, str], *, now: float
) -> JobRecord:
    """More completed steps of a write.

    Raises:
        LeaseLost: the row is not in state writing, so another holder has finished it.
    """
    if known is None or known.state is not JobState.WRITING:
        raise LeaseLost(given.job_arn)
    return replace(known, steps={**known.steps, **steps}, updated_at=now)


def may_record_synced(held: ClaimRow | None, given: Claim, known: JobRecord | None) -> bool:
    """Whether a finished write is to be recorded. A run in the target is a fact, so an expired
    lease suffices while nobody else took the job.

    Returns:
        False: the next holder has recorded it.

    Raises:
        LeaseLost: the claim is lost and the job is not synced.
    """
    if held is not None and held.claim == given:
        return True
    if known is not None and known.done:
        return False
    raise LeaseLost(given.job_arn)


def record_synced(
    row: JobRecord,
    *,
    reason: Reason,
    detail: str,
    target_ids: Mapping[str, str],
    message_id: str,
    now: float,
) -> JobRecord:
    return replace(
        row,
        state=JobState.SYNCED,
        reason=reason,
        detail=storable(detail),
        unanswered_writes=0,
        target_ids=target_ids,
        message_id=message_id,
        updated_at=now,
        steps={},
    )


def record_skipped(row: JobRecord, *, reason: Reason, message_id: str, now: float) -> JobRecord:
    if row.state in NEVER_SKIPPED:
        return row
    return replace(
        row,
        state=JobState.SKIPPED,
        reason=reason,
        detail="",
        message_id=message_id,
        updated_at=now,
    )


def record_rejected(
    row: JobRecord,
    *,
    reason: Reason,
    detail: str,
    message_id: str,
    unanswered_writes: int | None,
    now: float,
) -> JobRecord:
    """The row keeps its number of unanswered writes where `unanswered_writes` is None, so that a
    later attempt still looks the job up first.
    """
    if row.state is JobState.SYNCED:
        return row
    return replace(
        row,
        state=JobState.REJECTED,
        reason=reason,
        detail=storable(detail),
        unanswered_writes=row.unanswered_writes if unanswered_writes is None else unanswered_writes,
        message_id=message_id,
        updated_at=now,
    )


def record_deferred(
    row: JobRecord,
    *,
    reason: Reason,
    detail: str,
    unanswered_writes: int | None,
    message_id: str,
    now: float,
) -> JobRecord:
    """One more attempt, with its reason and detail; unanswered writes as in `record_rejected`."""
    if row.state is JobState.SYNCED:
        return row
    unanswered = row.unanswered_writes if unanswered_writes is None else unanswered_writes
    return replace(
        row,
        state=JobState.WRITING if unanswered else JobState.RELEASED,
        reason=reason,
        detail=storable(detail),
        attempts=row.attempts + 1,
        unanswered_writes=unanswered,
        message_id=message_id,
        updated_at=now,
    )


def may_enqueue(known: JobRecord | None, job: EnqueuedJob) -> bool:
    """Whether a job's row, as `seen_from` shows it, may become enqueued. What is synced, perhaps to
    another place, or being written must stay on record, and so must what has come of the message.
    """
    changed_at = None if known is None else known.updated_at
    return changed_at == job.row_changed_at and (known is None or known.state not in NEVER_ENQUEUED)


def same_creation(one: str, other: str) -> bool:
    """Whether two creation times of one ARN can be of the same job: lists and descriptions may
    differ in rounding. "" is that of no described job.
    """
    if "" in {one, other}:
        return one == other
    apart = datetime.fromisoformat(one) - datetime.fromisoformat(other)
    return abs(apart.total_seconds()) < 1


def row_of(rows: Sequence[JobRecord], creation_time: str) -> JobRecord | None:
    """The row of the job of this creation time among those of its ARN."""
    near = [row for row in rows if same_creation(row.creation_time, creation_time)]
    exact = [row for row in near if row.creation_time == creation_time]
    return next(iter([*exact, *near]), None)


def record_enqueued(row: JobRecord, *, job: EnqueuedJob, now: float) -> JobRecord:
    if row.state in NEVER_ENQUEUED:
        return row
    return replace(
        row,
        state=JobState.ENQUEUED,
        reason="",
        detail=f"sent to the queue by {job.by}",
        message_id=job.message_id,
        updated_at=now,
    )


def with_project(row: JobRecord, project: str) -> JobRecord:
    """The row with the name of its project, if that is known."""
    return replace(row, project=storable(project)) if project else row


def story(known: Sequence[StoryEntry], added: Sequence[StoryEntry]) -> Sequence[StoryEntry]:
    """A job's story with more entries, each of them short enough, and not too many."""
    return continued(
        known, [replace(entry, detail=shortened(storable(entry.detail))) for entry in added]
    )


def enqueued_entry(job: EnqueuedJob, *, now: float) -> StoryEntry:
    """What `record_enqueued` adds to the story."""
    return StoryEntry(now, StoryEvent.ENQUEUED, job.message_id, f"by {job.by}")


def watch(known: WatchedJob | None, wanted: WatchedJob) -> WatchedJob:
    """The entry of the watch list; one that is there keeps the moment it was first seen."""
    return wanted if known is None else replace(wanted, first_seen_at=known.first_seen_at)


def take_request(
    held: RequestRow, owner: str, *, now: float, lease_until: float, taker_gone: bool
) -> RequestRow | None:
    """The request taken; None: it is answered, or somebody works on it.

    Args:
        held: the request as it is.
        owner: who wants to take it.
        taker_gone: its taker is known to be gone.
    """
    request = held.request
    if request.answer is not None:
        return None
    if request.taken_by and held.lease_until > now and not taker_gone:
        return None
    return RequestRow(replace(request, taken_by=owner, progress=""), lease_until)


def renew_request(
    held: RequestRow | None, owner: str, *, lease_until: float, progress: str, begun: bool
) -> RequestRow | None:
    """The request with a longer lease, even if it ended; what is begun stays begun. None: it was
    withdrawn, answered, or another process has taken it over.
    """
    if held is None or held.request.answer is not None or held.request.taken_by != owner:
        return None
    request = held.request
    renewed = replace(request, progress=storable(progress), begun=request.begun or begun)
    return RequestRow(renewed, lease_until)


def give_back_request(held: RequestRow | None, owner: str) -> RequestRow | None:
    """The request free for everybody; None: it is not this process's."""
    if held is None or held.request.answer is not None or held.request.taken_by != owner:
        return None
    return RequestRow(replace(held.request, taken_by="", progress=""), 0.0)


def seen_request(held: RequestRow, *, now: float) -> SyncRequest:
    """The request as others see it: after its lease, nobody works on it."""
    request = held.request
    if request.answer is None and held.lease_until <= now:
        return replace(request, taken_by="", progress="")
    return request


def answer_request(held: RequestRow | None, owner: str, answer: str) -> RequestRow | None:
    """The request answered, also after the lease; None: another process has taken it over, it has
    an answer, or it is gone.
    """
    if held is None or held.request.answer is not None or held.request.taken_by != owner:
        return None
    return replace(held, request=replace(held.request, answer=storable(answer)))


def may_withdraw(held: RequestRow | None) -> bool:
    """Whether nobody has begun with the request yet."""
    return held is not None and not held.request.begun and held.request.answer is None


def reject_message(
    known: RejectedMessage | None,
    message_id: str,
    *,
    job_arn: str,
    reason: Reason,
    detail: str,
    now: float,
) -> RejectedMessage:
    """The row of a rejected message; a body that was kept stays."""
    return RejectedMessage(
        message_id=message_id,
        job_arn=job_arn,
        reason=reason,
        detail=storable(detail),
        body=None if known is None else known.body,
        rejected_at=now,
    )


def keep_body(
    known: RejectedMessage | None, message_id: str, body: str, *, now: float
) -> RejectedMessage:
    """The row of a rejected message with its body, even if the rejection is not on record."""
    row = known or RejectedMessage(message_id, "", "", "", None, now)
    return replace(row, body=storable(body))


def forget_body(known: RejectedMessage) -> RejectedMessage:
    """The row of a rejected message whose body is elsewhere now."""
    return replace(known, body=None)


def created_at(recorded: float | None, *, last_used_at: float, now: float) -> float:
    """When a checkpoint came to know of a target, as far as its clocks can be trusted: from then on
    it saw every job. Otherwise it is as good as new.

    Args:
        recorded: when that was found before; None: the target is new to this checkpoint.
        last_used_at: the latest moment on record.
        now: epoch seconds.
    """
    if recorded is None or recorded < EARLIEST_CLOCK or recorded > now:
        return now
    # unused for long, a backup that was put back, or the clock is, or was, a wrong one
    in_use = -CLOCK_JUMP_SECONDS <= now - last_used_at <= LONGEST_UNUSED_SECONDS
    return recorded if in_use else now


def storable(text: str) -> str:
    r"""Text that UTF-8 can hold: lone surrogates, which JSON may contain, escaped (``\ud800``)."""
    return text.encode("utf-8", "backslashreplace").decode()
