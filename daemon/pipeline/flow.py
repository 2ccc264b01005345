"""The flow of one message: parse, claim, describe, validate, sync, record. Read `Flow._decide`
first.

Nothing here knows SQS, aiohttp or SQLite; what can block or fail stands behind the protocols
`TrainingJobs`, `Checkpoint` and `Target`.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from daemon.checkpoint.journal import Journal
from daemon.checkpoint.ports import ClaimedElsewhere, JobState
from daemon.clock import monotonic, wall
from daemon.errors import EdgeFault, JobFault, JobRefused
from daemon.outcome import Deferred, Duplicate, Edge, Held, Reason, Rejected, Skipped, Synced
from daemon.training_job.event import MalformedBody, OtherEvent, parse_event
from daemon.training_job.identity import JobArn, JobMark
from daemon.training_job.tags import JobTags, SyncTagAbsent, TagKeys, TagsIncomplete, read_tags
from daemon.training_job.training_run import described_identity, described_status, training_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from daemon.aws.ports import TrainingJobs
    from daemon.checkpoint.ports import Checkpoint, JobRecord
    from daemon.intake.in_flight import Entry, InFlight
    from daemon.outcome import Outcome
    from daemon.targets.ports import Target
    from daemon.training_job.event import TrainingJobEvent
    from daemon.training_job.training_run import TrainingRun

log = structlog.get_logger(__name__)

TERMINAL_STATUSES = frozenset({"Completed", "Stopped", "Failed"})
"""The statuses after which a job does not change any more (botocore's model of
TrainingJobStatus)."""

GONE = frozenset({Reason.JOB_GONE, Reason.JOB_REPLACED})
"""The job of the message is no longer in SageMaker."""

EDGE_OF_STEP = {
    "describe": Edge.SAGEMAKER,
    "tags": Edge.SAGEMAKER,
    "sync": Edge.TARGET,
    "record": Edge.CHECKPOINT,
}


@dataclass(frozen=True, slots=True)
class FlowRules:
    """What the configuration says about jobs."""

    statuses: frozenset[str] = frozenset({"Completed"})
    tag_keys: TagKeys = field(default_factory=TagKeys)
    redact: Sequence[str] = ()
    look_back_seconds: float = 86400.0
    """A checkpoint younger than this cannot vouch that a job without a row is new."""
    lease_seconds: float = 60.0


class Flow:
    """Takes entries of the in-flight ledger to their outcome. Safe for concurrent entries.

    Args:
        on_success: told (step, message id) of each step that worked, for the breakers.
        on_step: told (step, seconds) of each step that ended, for the metrics.
        clock: epoch seconds.
    """

    def __init__(
        self,
        jobs: TrainingJobs,
        checkpoint: Checkpoint,
        target: Target,
        in_flight: InFlight,
        rules: FlowRules,
        *,
        on_success: Callable[[str, str], None] = lambda _step, _token: None,
        on_step: Callable[[str, float], None] = lambda _step, _seconds: None,
        clock: Callable[[], float] = wall,
    ) -> None:
        self._jobs = jobs
        self._checkpoint = checkpoint
        self._target = target
        self._in_flight = in_flight
        self._rules = rules
        self._on_success = on_success
        self._on_step = on_step
        self._clock = clock

    async def process(self, entry: Entry) -> Outcome:
        """The outcome of a message, durable in the checkpoint when this returns, unless it is
        `Held` or shared with another entry.
        """
        try:
            outcome = await self._ended(entry)
        except EdgeFault as fault:
            return Held(fault.reason, fault.edge, fault.detail, fault.curable)
        except JobFault as fault:
            outcome = Deferred(fault.reason, fault.detail, fault.delay_seconds)
        except JobRefused as refusal:
            outcome = Rejected(refusal.reason, refusal.detail)
        except Exception as error:  # noqa: BLE001 - a bug must cost this message a retry, not the daemon its life
            outcome = _internal_error(entry, error)
        return await self.record(entry, outcome)

    async def record(self, entry: Entry, outcome: Outcome) -> Outcome:
        """Makes an outcome durable and ends the claim. Returns the outcome, or what became of it
        for want of a durable record.
        """
        if entry.claim is None and not isinstance(outcome, Rejected):
            return outcome  # nothing was claimed, so there is nothing to remember
        try:
            with self._timed(entry, "record"):
                await self._record(entry, outcome)
        except EdgeFault as fault:
            return Held(fault.reason, fault.edge, fault.detail, fault.curable)
        # the claim was lost between the last write and its record: the next delivery finds the run
        except JobFault as fault:
            entry.claim = None
            return Deferred(fault.reason, fault.detail, fault.delay_seconds)
        except Exception as error:  # noqa: BLE001 - not durable, so not done: the message comes again
            return _internal_error(entry, error)
        entry.claim = None
        return outcome

    async def _ended(self, entry: Entry) -> Outcome:
        try:
            return await self._decide(entry)
        except JobRefused as refusal:
            if refusal.reason not in GONE:
                raise
            return await self._of_a_job_that_is_gone(entry, refusal)

    async def _decide(self, entry: Entry) -> Outcome:  # noqa: C901, PLR0911 - the whole flow in one screen, one return an outcome
        entry.step = "parse"
        event = parse_event(entry.message.body)
        if isinstance(event, OtherEvent):
            return Skipped(Reason.OTHER_EVENT, event.what)
        if isinstance(event, MalformedBody):
            return Rejected(Reason.MALFORMED_BODY, event.detail)
        entry.event = event
        structlog.contextvars.bind_contextvars(job=event.name)
        if event.status is not None and event.status not in self._rules.statuses:
            return Skipped(Reason.STATUS_NOT_CONFIGURED, f"{event.name} is {event.status}")
        arn = self._arn_at_home(entry, event)

        entry.step = "claim"
        shared = await self._in_flight.lead(entry, arn.key)
        if shared is not None:
            return shared
        claim = await self._checkpoint.claim(arn.key, self._rules.lease_seconds)
        if isinstance(claim, ClaimedElsewhere):
            entry.claim = None
            detail = f"another process works on {event.name}"
            return Deferred(Reason.CLAIMED_ELSEWHERE, detail, max(1.0, claim.seconds_left))
        entry.claim = claim

        with self._timed(entry, "describe"):
            description = await self._jobs.describe(event.name)
        described_arn, mark = _same_job(event, arn, description)
        entry.mark = mark
        known = await self._checkpoint.job(mark)
        if known is not None and known.state is JobState.SYNCED:
            return Duplicate(Reason.ALREADY_SYNCED, known.target_ids)
        status = described_status(description)
        if status not in TERMINAL_STATUSES:
            return Deferred(
                Reason.NOT_TERMINAL,
                f"{event.name} is {status or 'without a status'}, says DescribeTrainingJob",
            )
        if status not in self._rules.statuses:
            return Skipped(Reason.STATUS_NOT_CONFIGURED, f"{event.name} is {status}")

        with self._timed(entry, "validate"):
            tags, all_tags = await self._tags(entry, event, described_arn)
        if isinstance(tags, SyncTagAbsent):
            return Skipped(
                Reason.NOT_TAGGED, f"{event.name} has no tag {self._rules.tag_keys.sync}"
            )
        if isinstance(tags, TagsIncomplete):
            return Rejected(
                Reason.TAGS_INCOMPLETE,
                f"missing or blank tags of {event.name}: {', '.join(tags.missing)}",
            )

        entry.run = training_run(description, tags, all_tags, self._rules.redact)
        return await self._sync(entry, entry.run, self._journal(entry, event, mark, known))

    async def _sync(self, entry: Entry, run: TrainingRun, journal: Journal) -> Synced:
        entry.journal = journal
        with self._timed(entry, "sync"):
            written = await self._target.sync(run, journal)
        entry.notes = written.notes
        entry.healed = written.healed
        return Synced(
            Reason.CREATED if written.created else Reason.FOUND_IN_TARGET,
            written.ids,
            written.detail,
        )

    async def _of_a_job_that_is_gone(self, entry: Entry, refusal: JobRefused) -> Outcome:
        """What becomes of a job that may have been written before it was deleted, or its name used
        again.

        A write that was half-way is ended with what was read of the job then; where that is lost,
        too, as far as can be seen.

        Raises:
            JobRefused: the one given, when nothing of the job is in the target.
        """
        assert entry.event is not None  # noqa: S101 - only a job that was asked for is gone; tells the type checker
        rows = await self._rows_meant(entry.event, entry.job_arn)
        # Without a creation time the message may be of a later job of this name, of which nothing
        # is recorded: that is for a person.
        if entry.event.creation_time is not None and rows and rows[0].state is JobState.SYNCED:
            return Duplicate(Reason.ALREADY_SYNCED, rows[0].target_ids)
        # Of another kind of target, this one can say nothing.
        for row in [
            row for row in rows if row.unanswered_writes and row.target == self._target.kind
        ]:
            mark = entry.mark = JobMark(row.job_arn, row.creation_time)
            journal = self._journal(entry, entry.event, mark, row)
            if entry.run is not None and entry.run.mark == mark:
                return await self._sync(entry, entry.run, journal)
            entry.journal = journal
            with self._timed(entry, "sync"):
                found = await self._target.find(mark, unanswered_writes=row.unanswered_writes)
            if found is None:
                journal.settled()
                continue
            entry.healed = found.healed
            if found.complete:
                detail = (
                    "found after its write was cut off; the job has been deleted in SageMaker since"
                )
                return Synced(Reason.FOUND_IN_TARGET, found.ids, detail)
            ids = ", ".join(f"{word} {value}" for word, value in found.ids.items())
            return Rejected(
                refusal.reason,
                f"{refusal.detail}; its run is in {self._target.kind} ({ids}) and may be "
                f"incomplete: its write was cut off, and what "
                "is missing can no longer be read from SageMaker",
            )
        raise refusal

    async def _rows_meant(self, event: TrainingJobEvent, job_arn: str) -> Sequence[JobRecord]:
        """The rows of jobs that the message can mean: by the ARN, and by the creation time where it
        tells one.
        """
        rows = await self._checkpoint.described(job_arn)
        return [
            row
            for row in rows
            if _created_as_told(event, datetime.fromisoformat(row.creation_time))
        ]

    def _arn_at_home(self, entry: Entry, event: TrainingJobEvent) -> JobArn:
        home = self._jobs.home
        if event.arn is None:
            if home.account is None:
                raise JobRefused(
                    Reason.MALFORMED_BODY,
                    "the message has no ARN, and the account is unknown: set aws.account_id",
                )
            return JobArn.of(home, event.name)
        arn = event.arn
        if (home.account is not None and arn.account != home.account) or (
            arn.region,
            arn.partition,
        ) != (
            home.region,
            home.partition,
        ):
            entry.job_arn = arn.key  # remembered by its job, though nobody here works on it
            raise JobRefused(
                Reason.FOREIGN_ACCOUNT,
                f"the job belongs to account {arn.account} in {arn.region}; this daemon works for "
                f"{home.account or 'its own account'} in {home.region}",
            )
        return arn

    async def _tags(
        self, entry: Entry, event: TrainingJobEvent, arn: JobArn
    ) -> tuple[JobTags | SyncTagAbsent | TagsIncomplete, Mapping[str, str]]:
        """The job's tags: the event's when they are complete, else what ListTags says, which alone
        can skip or reject.
        """
        # redriven after a rejection: its tags are the old ones
        came_back = "reason" in entry.message.attributes
        if event.tags is not None and not came_back:
            tags = read_tags(event.tags, self._rules.tag_keys)
            if isinstance(tags, JobTags):
                return tags, event.tags
        entry.step = "tags"
        listed = await self._jobs.tags(arn.text)
        self._on_success("tags", entry.message.message_id)
        return read_tags(listed, self._rules.tag_keys), listed

    def _journal(
        self, entry: Entry, event: TrainingJobEvent, mark: JobMark, known: JobRecord | None
    ) -> Journal:
        assert entry.claim is not None  # noqa: S101 - the flow has just claimed; tells the type checker
        if (
            entry.journal is not None
            and entry.journal.mark == mark
            and entry.journal.claim == entry.claim
        ):
            entry.journal.resume()
            return entry.journal
        young = self._clock() - self._checkpoint.created_at < self._rules.look_back_seconds
        # deferred, rejected or skipped: the target may have it all the same
        never_written = known is None or not known.target
        look_up_first = never_written and (young or entry.receive_count > 1 or event.replayed)
        return Journal(
            self._checkpoint,
            entry.claim,
            mark,
            event.name,
            known,
            target=self._target.kind,
            look_up_first=look_up_first,
            lease_seconds=self._rules.lease_seconds,
        )

    async def _record(self, entry: Entry, outcome: Outcome) -> None:
        claim, mark, message_id = entry.claim, entry.mark, entry.message.message_id
        unanswered = None if entry.journal is None else entry.journal.unanswered_writes
        name = entry.event.name if entry.event is not None else ""
        match outcome:
            case Rejected(reason=reason, detail=detail):
                await self._checkpoint.record_rejected(
                    claim,
                    mark,
                    name,
                    job_arn=entry.job_arn,
                    reason=reason,
                    detail=detail,
                    unanswered_writes=unanswered,
                    message_id=message_id,
                )
            case _ if claim is None:
                pass
            case Synced(reason=reason, target_ids=ids, detail=detail) if mark is not None:
                target = self._target.kind
                await self._checkpoint.record_synced(
                    claim,
                    mark,
                    name,
                    reason=reason,
                    detail=detail,
                    target=target,
                    target_ids=ids,
                    message_id=message_id,
                )
            case Skipped(reason=Reason.NOT_TAGGED as reason) if mark is not None:
                await self._checkpoint.record_skipped(
                    claim, mark, name, reason=reason, message_id=message_id
                )
            case Deferred(reason=reason, detail=detail):
                await self._checkpoint.record_deferred(
                    claim,
                    mark,
                    name,
                    reason=reason,
                    detail=detail,
                    unanswered_writes=unanswered,
                    message_id=message_id,
                )
            case _:
                await self._checkpoint.release(claim)

    @contextmanager
    def _timed(self, entry: Entry, step: str) -> Iterator[None]:
        entry.step = step
        begun = monotonic()
        try:
            yield
        finally:
            seconds = monotonic() - begun
            entry.durations[step] = seconds
            self._on_step(step, seconds)
        self._on_success(step, entry.message.message_id)


def _internal_error(entry: Entry, error: Exception) -> Deferred:
    log.error("internal error", step=entry.step, exc_info=error)
    return Deferred(
        Reason.INTERNAL_ERROR,
        f"{type(error).__name__} in step {entry.step}; the log has the traceback",
    )


def _same_job(
    event: TrainingJobEvent, arn: JobArn, description: Mapping[str, Any]
) -> tuple[JobArn, JobMark]:
    """The described ARN and the mark, after comparing them with what the event says.

    Raises:
        JobRefused: the name belongs to another job now, or to another account's.
    """
    try:
        described, created = described_identity(description)
    except ValueError as error:
        raise JobFault(
            Reason.SAGEMAKER_FAULT, f"DescribeTrainingJob({event.name}): {error}"
        ) from error
    if (described.account, described.region) != (arn.account, arn.region):
        raise JobRefused(
            Reason.FOREIGN_ACCOUNT,
            f"{event.name} is described in account {described.account}, {described.region}; the "
            f"event is of {arn.account}, "
            f"{arn.region}",
        )
    if described.key != arn.key:
        raise JobRefused(
            Reason.JOB_REPLACED,
            f"the event is of {arn.text}, DescribeTrainingJob answers {described.text}",
        )
    if event.creation_time is not None and not _created_as_told(event, created):
        raise JobRefused(
            Reason.JOB_REPLACED,
            f"the job named {event.name} was created {created:%Y-%m-%dT%H:%M:%SZ}, the event's "
            f"{event.creation_time:%Y-%m-%dT%H:%M:%SZ}: the name has been used again",
        )
    return described, JobMark.of(described, created)


def _created_as_told(event: TrainingJobEvent, created: datetime) -> bool:
    """Whether a job of the event's name is the event's, as far as the event tells: events and
    Describe round differently.
    """
    return event.creation_time is None or abs((event.creation_time - created).total_seconds()) < 1
