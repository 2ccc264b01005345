"""The flow of one message: parse, claim, describe, validate, sync, record. Start reading at
`Flow._decide`.

SQS, aiohttp and SQLite are unknown here: everything that can block or fail is behind the protocols
`TrainingJobs`, `Checkpoint` and `Target`.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from daemon.aws.ports import ORIGIN, Origin
from daemon.checkpoint.journal import Journal
from daemon.checkpoint.lease_clock import Moment
from daemon.checkpoint.ports import ClaimedElsewhere, JobState
from daemon.clock import monotonic, wall
from daemon.errors import EdgeFault, JobFault, JobRefused
from daemon.outcome import Deferred, Duplicate, Held, Rejected, Skipped, Synced
from daemon.pipeline.foreign_jobs import ForeignJobs, jobs_of
from daemon.pipeline.other_answers import other_answers
from daemon.pipeline.same_job import described_job, same_creation, same_job
from daemon.pipeline.step import Step
from daemon.pipeline.storyteller import Storyteller
from daemon.pipeline.vouching import vouches
from daemon.reasons import Edge, Reason
from daemon.redaction.keys import SECRET_KEYS
from daemon.text import shortened
from daemon.training_job.described_job import described_status
from daemon.training_job.event import (
    MalformedBody,
    OtherEvent,
    mentions_training_job,
    parse_event,
)
from daemon.training_job.final_status import final_status
from daemon.training_job.identity import JobArn, JobMark
from daemon.training_job.run_reader import training_run
from daemon.training_job.tag_defaults import TagDefaults
from daemon.training_job.tags import JobTags, SyncTagAbsent, TagKeys, TagsIncomplete, read_tags
from daemon.unforeseen import blamed_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from daemon.aws.ports import TrainingJobs
    from daemon.checkpoint.ports import Checkpoint, JobRecord
    from daemon.intake.in_flight import InFlight
    from daemon.outcome import Outcome
    from daemon.pipeline.delivery import Delivery
    from daemon.pipeline.job_context import JobContext
    from daemon.pipeline.other_answers import OtherAnswers
    from daemon.targets.ports import Target
    from daemon.training_job.described_job import DescribedJob
    from daemon.training_job.event import TrainingJobEvent
    from daemon.training_job.training_run import TrainingRun

log = structlog.get_logger(__name__)

_DETAIL_CHARACTERS = 1000

GONE = frozenset({Reason.JOB_GONE, Reason.JOB_REPLACED})
"""The message's job is no longer in SageMaker."""


@dataclass(frozen=True, slots=True)
class FlowRules:
    """The part of the configuration that concerns jobs."""

    statuses: frozenset[str] = frozenset({"Completed"})
    tag_keys: TagKeys = field(default_factory=TagKeys)
    tag_defaults: TagDefaults = field(default_factory=TagDefaults)
    redact: Sequence[str] = SECRET_KEYS
    look_back_seconds: float = 86400.0
    """In a checkpoint younger than this, a missing row does not prove that a job is new."""
    lease_seconds: float = 60.0
    shared_queue: bool = False
    """A body that cannot be understood and mentions no training job is somebody else's."""
    skip_unknown_accounts: bool = False
    """Jobs of accounts and regions that are not configured are skipped, not rejected."""


class Flow:
    """Determines the outcome of each delivery and records it. Safe for concurrent deliveries.

    Args:
        jobs: SageMaker's training jobs, and those of other accounts and regions.
        checkpoint: claims, records and the journal's storage.
        target: where runs are written.
        in_flight: tells which deliveries concern the same job.
        rules: from the configuration.
        unavailable: why jobs of an account and region (`where`) are not to be asked about now.
        on_success: called with (step, message id, where) after each step that succeeded; for the
            breakers.
        on_step: called with (step, seconds) after each measured step; for the metrics.
    """

    def __init__(
        self,
        jobs: TrainingJobs,
        checkpoint: Checkpoint,
        target: Target,
        in_flight: InFlight,
        rules: FlowRules,
        *,
        unavailable: Callable[[str], EdgeFault | None] = lambda _where: None,
        on_success: Callable[[Step, str, str], None] = lambda _step, _message_id, _where: None,
        on_step: Callable[[Step, float], None] = lambda _step, _seconds: None,
    ) -> None:
        self._jobs = jobs
        self._checkpoint = checkpoint
        self._target = target
        self._in_flight = in_flight
        self._rules = rules
        self._foreign_jobs = ForeignJobs()
        self._story = Storyteller(checkpoint, rules.redact)
        self._unavailable = unavailable
        self._on_success = on_success
        self._on_step = on_step

    async def process(self, delivery: Delivery) -> Outcome:
        """Makes one attempt at a message.

        Returns:
            The outcome, durable in the checkpoint unless it is `Held` or shared with another
            delivery.
        """
        try:
            outcome = await self._outcome(delivery)
        except EdgeFault as fault:
            return Held(fault)
        except JobFault as fault:
            outcome = Deferred(fault.reason, fault.detail, fault.delay_seconds)
        except JobRefused as refusal:
            outcome = Rejected(refusal.reason, refusal.detail)
        except Exception as error:  # noqa: BLE001 - a bug must only delay this message
            outcome = _internal_error(delivery.job, error)
        if isinstance(outcome, Held):
            return outcome
        return await self.record(delivery, outcome)

    async def record(self, delivery: Delivery, outcome: Outcome) -> Outcome:
        """Makes an outcome durable and ends the claim.

        Returns:
            The outcome, or another one if it could not be recorded.
        """
        job = delivery.job
        if job.claim is None and not isinstance(outcome, Rejected):
            return outcome  # nothing was claimed, so there is nothing to record
        try:
            with self._timed(delivery, Step.RECORD):
                await self._record(delivery, outcome)
        except EdgeFault as fault:
            return Held(fault)
        except JobFault as fault:
            # the claim was lost after the last write; the next attempt finds the run
            outcome = Deferred(fault.reason, fault.detail, fault.delay_seconds)
        except Exception as error:  # noqa: BLE001 - not recorded, so it must be processed again
            return _internal_error(job, error)
        job.end_claim()
        return outcome

    async def release(self, delivery: Delivery, reason: Reason) -> None:
        """Ends the claim of a message that is given back without an outcome.

        Args:
            delivery: of the message.
            reason: why it is given back.

        Raises:
            EdgeFault: the checkpoint failed; the claim ends with its lease.
        """
        claim = delivery.job.end_claim()
        if claim is not None:
            await self._checkpoint.release(claim, story=self._story.with_return(delivery, reason))

    async def tell_of_hold(self, delivery: Delivery, fault: EdgeFault) -> None:
        """Keeps in the job's story that its message is held. Raises nothing."""
        await self._story.held(delivery, fault)

    async def _outcome(self, delivery: Delivery) -> Outcome:
        try:
            return await self._decide(delivery)
        except JobRefused as refusal:
            if refusal.reason not in GONE:
                raise
            return await self._outcome_of_gone_job(delivery, refusal)

    async def _decide(self, delivery: Delivery) -> Outcome:  # noqa: C901, PLR0911, PLR0912 - the whole flow on one screen, one return per outcome
        job = delivery.job
        job.step = Step.PARSE
        event = parse_event(delivery.message.body)
        if isinstance(event, OtherEvent):
            return Skipped(Reason.OTHER_EVENT, event.what)
        if isinstance(event, MalformedBody):
            return self._not_understood(event, delivery.message.body)
        job.event = event
        structlog.contextvars.bind_contextvars(job=event.name)
        unwanted = self._unwanted(event)
        if unwanted is not None:
            return unwanted
        job.arn = arn = await self._arn(delivery, event)
        self._story.received(delivery)
        jobs = self._jobs_of(delivery, event, arn)
        if isinstance(jobs, Skipped | Rejected | Held):
            return jobs

        job.step = Step.CLAIM
        joined = await self._in_flight.lead(delivery)
        if joined is not None:
            job.mark = joined.mark
            return joined.outcome
        lease_seconds, asked_at = self._rules.lease_seconds, Moment.now()
        claim = await self._checkpoint.claim(arn.key, lease_seconds, at_once=False)
        self._succeeded(delivery, Step.CLAIM)
        if isinstance(claim, ClaimedElsewhere):
            job.end_claim()  # one from before a hold, lost since
            detail = f"another process ({claim.owner}) works on {event.name}"
            return Deferred(Reason.CLAIMED_ELSEWHERE, detail, max(1.0, claim.seconds_left))
        job.take_claim(claim, asked_at, lease_seconds)
        self._story.claimed(delivery, claim)
        if job.write_in_doubt:
            return await self._settle_doubt(delivery)

        description = await self._describe(delivery, event, jobs)
        described = same_job(event, arn, description)
        self._story.described(delivery, description)
        job.mark = mark = described.mark
        known = await self._checkpoint.job(mark)
        if known is not None and known.state is JobState.SYNCED and not delivery.force:
            done = await self._already_synced(delivery, known)
            if done is not None:
                return done
        status = final_status(event, description)
        if status is None:
            return _not_ended(event, description)
        if status not in self._rules.statuses:
            return Skipped(Reason.STATUS_NOT_CONFIGURED, f"{event.name} is {status}")

        with self._timed(delivery, Step.VALIDATE):
            tags, all_tags = await self._tags(delivery, event, described, jobs)
        if isinstance(tags, SyncTagAbsent):
            return Skipped(
                Reason.NOT_TAGGED, f"{event.name} has no tag {self._rules.tag_keys.sync}"
            )
        if isinstance(tags, TagsIncomplete):
            missing = f"missing or blank tags of {event.name}: {', '.join(tags.missing)}"
            return Rejected(Reason.TAGS_INCOMPLETE, "; ".join([missing, *tags.details]))

        run = training_run(described, tags, all_tags, self._rules.redact)
        others = await self._other_answers(job, jobs, mark, description)
        if run.status != status:
            run = replace(run, status=status)
        job.run = others.added_to(run)
        return await self._sync(
            delivery, job.run, self._journal(delivery, event, mark, known, description)
        )

    async def _settle_doubt(self, delivery: Delivery) -> Outcome:
        """The outcome of a job of which this process may have made a second run: it was paused in
        a create until its lease had ended, and another process may have written the job meanwhile,
        and recorded it. Under a new claim the target is asked by the mark, when everything that was
        sent has been carried out, and doubles are healed.
        """
        job = delivery.job
        run, claim, journal = job.run, job.claim, job.journal
        assert run is not None  # noqa: S101 - a create was begun; for the type checker
        assert claim is not None  # noqa: S101 - just taken; as above
        assert journal is not None  # noqa: S101 - as the first
        job.mark = journal.mark
        known = await self._checkpoint.job(journal.mark)
        log.warning(
            "paused in a write until its lease had ended: the target is asked again",
            known="" if known is None else known.state,
        )
        doubtful = self._new_journal(delivery, known, look_up_first=True, in_doubt=True)
        done = await self._sync(delivery, run, doubtful)
        if known is not None and known.done and known.target_ids == done.target_ids:
            return Duplicate(Reason.ALREADY_SYNCED, known.target_ids)
        return done

    async def _other_answers(
        self, job: JobContext, jobs: TrainingJobs, mark: JobMark, description: Mapping[str, Any]
    ) -> OtherAnswers:
        if job.other_answers is None or job.other_answers.mark != mark:
            job.other_answers = await other_answers(jobs, mark, description)
        return job.other_answers

    def _not_understood(self, event: MalformedBody, body: str) -> Skipped | Rejected:
        if self._rules.shared_queue and not mentions_training_job(body):
            return Skipped(Reason.OTHER_EVENT, event.detail)
        return Rejected(Reason.MALFORMED_BODY, event.detail)

    def _unwanted(self, event: TrainingJobEvent) -> Skipped | None:
        """Why an event needs no look at its job, if so."""
        if event.status is not None and event.status not in self._rules.statuses:
            return Skipped(Reason.STATUS_NOT_CONFIGURED, f"{event.name} is {event.status}")
        if event.changed_tags is not None and self._rules.tag_keys.sync not in event.changed_tags:
            return Skipped(Reason.OTHER_EVENT, f"a change of other tags of {event.name}")
        return None

    async def _already_synced(
        self, delivery: Delivery, known: JobRecord
    ) -> Duplicate | Synced | None:
        """The outcome of a job that is recorded as synced. None: to an unknown place, and this
        target does not have its run.
        """
        if known.done:
            return Duplicate(Reason.ALREADY_SYNCED, known.target_ids)
        mark = delivery.job.mark = JobMark(known.job_arn, known.creation_time)
        with self._timed(delivery, Step.SYNC), blamed_on(Edge.TARGET, "find"):
            found = await self._target.find(mark)
        if found is None:
            return None
        same = found.ids.items() <= known.target_ids.items()
        if not (same or found.complete):
            return None
        return Synced(
            Reason.FOUND_IN_TARGET,
            known.target_ids if same else found.ids,
            "recorded as synced by an earlier version, which did not note to which address",
        )

    async def _sync(self, delivery: Delivery, run: TrainingRun, journal: Journal) -> Synced:
        job = delivery.job
        job.journal = journal
        if delivery.force:
            return await self._repair(delivery, run, journal)
        with self._timed(delivery, Step.SYNC), blamed_on(Edge.TARGET, "sync"):
            written = await self._target.sync(run, journal)
        job.notes = written.notes
        job.healed = written.healed
        return Synced(
            Reason.CREATED if written.created else Reason.FOUND_IN_TARGET,
            written.ids,
            written.detail,
        )

    async def _repair(self, delivery: Delivery, run: TrainingRun, journal: Journal) -> Synced:
        """Like `_sync`, for a job whose run may be there and outdated. Its row stays synced: what
        fails in between leaves a run that is less up to date, never none or a second one.
        """
        job = delivery.job
        with self._timed(delivery, Step.SYNC), blamed_on(Edge.TARGET, "repair"):
            job.repair = repair = await self._target.repair(run, journal)
        written = repair.target_run
        job.notes = written.notes
        job.healed = written.healed
        if written.created:
            return Synced(Reason.CREATED, written.ids, written.detail)
        if not repair.changed:
            return Synced(Reason.FOUND_IN_TARGET, written.ids, written.detail)
        self._story.repaired(delivery, repair.changed)
        return Synced(
            Reason.REPAIRED,
            written.ids,
            shortened(f"repaired: {', '.join(repair.changed)}", _DETAIL_CHARACTERS),
        )

    async def _outcome_of_gone_job(self, delivery: Delivery, refusal: JobRefused) -> Outcome:
        """The outcome of a job that was deleted, or whose name was used again, perhaps in the
        middle of its write.

        An interrupted write is completed from the `TrainingRun` of the last attempt; after a
        restart, which loses that, from what the target has.

        Raises:
            JobRefused: the one given; nothing of the job is in the target.
        """
        job = delivery.job
        assert job.event is not None  # noqa: S101 - a job is described after parsing; for the type checker
        rows = await self._matching_rows(job.event, job.key)
        # Without a creation time the message may be about a later job of this name, of which there
        # is no row: then it must not be dropped as a duplicate.
        if job.event.creation_time is not None and rows and rows[0].state is JobState.SYNCED:
            done = await self._already_synced(delivery, rows[0])
            if done is not None:
                return done
        for row in [row for row in rows if row.unanswered_writes]:
            mark = job.mark = JobMark(row.job_arn, row.creation_time)
            journal = self._journal(delivery, job.event, mark, row, {})
            if job.run is not None and job.run.mark == mark:
                return await self._sync(delivery, job.run, journal)
            job.journal = journal
            with self._timed(delivery, Step.SYNC), blamed_on(Edge.TARGET, "find"):
                found = await self._target.find(mark, unanswered_writes=row.unanswered_writes)
            if found is None:
                journal.settled()
                continue
            job.healed = found.healed
            if found.complete:
                detail = (
                    "found after its write was interrupted; the job has since been deleted in "
                    "SageMaker"
                )
                return Synced(Reason.FOUND_IN_TARGET, found.ids, detail)
            ids = ", ".join(f"{word} {value}" for word, value in found.ids.items())
            return Rejected(
                refusal.reason,
                f"{refusal.detail}; its run is in {self._target.kind} ({ids}) and may be "
                "incomplete: its write was interrupted, and what is missing can no longer be read "
                "from SageMaker",
            )
        raise refusal

    async def _matching_rows(self, event: TrainingJobEvent, arn: str) -> Sequence[JobRecord]:
        """The rows of the event's ARN, and of its creation time if it has one."""
        rows = await self._checkpoint.described(arn)
        return [
            row for row in rows if same_creation(event, datetime.fromisoformat(row.creation_time))
        ]

    async def _arn(self, delivery: Delivery, event: TrainingJobEvent) -> JobArn:
        """The event's ARN, or that of the job of this name in the home account."""
        if event.arn is not None:
            return event.arn
        home = self._jobs.home
        if home.account is not None:
            return JobArn.of(home, event.name)
        # STS has not told the account, which must not cost the message: the description has it
        description = await self._describe(delivery, event, self._jobs)
        return described_job(event, description).arn

    async def _describe(
        self, delivery: Delivery, event: TrainingJobEvent, jobs: TrainingJobs
    ) -> Mapping[str, Any]:
        with self._timed(delivery, Step.DESCRIBE), blamed_on(Edge.SAGEMAKER, "describe"):
            return await jobs.describe(event.name)

    def _jobs_of(
        self, delivery: Delivery, event: TrainingJobEvent, arn: JobArn
    ) -> TrainingJobs | Skipped | Rejected | Held:
        """SageMaker's jobs of the account and region of an event, or why there is no look at them.

        Raises:
            EdgeFault: the daemon's own account may not be what is configured.
        """
        home = self._jobs.home
        jobs = jobs_of(self._jobs, arn)
        if jobs is not None:
            # the ARN of a message without one is made from the configuration: it proves nothing
            if event.arn is not None and (jobs is not self._jobs or home.account is not None):
                self._foreign_jobs.saw_ours()
            delivery.job.where = "" if jobs is self._jobs else arn.where
            fault = self._unavailable(delivery.job.where)
            return jobs if fault is None else Held(fault, known=True)
        here = f"{home.account or 'its own account'} in {home.region}"
        if self._foreign_jobs.saw_foreign(arn) and not home.confirmed:
            raise EdgeFault(
                Edge.SAGEMAKER,
                Reason.ACCESS_DENIED,
                f"all messages so far are about jobs of {self._foreign_jobs.places}, none about "
                f"{here}, for which this daemon works, and STS does not confirm the account: "
                "correct aws.account_id and aws.region, or let the daemon reach STS. The messages "
                "are held, not rejected",
            )
        others = len(self._jobs.elsewhere)
        more = f" and {others} other accounts and regions" if others else ""
        detail = (
            f"the job belongs to account {arn.account} in {arn.region}; this daemon works for "
            f"{here}{more}"
        )
        if self._rules.skip_unknown_accounts:
            return Skipped(Reason.UNKNOWN_ACCOUNT, detail)
        return Rejected(Reason.FOREIGN_ACCOUNT, detail)

    async def _tags(
        self,
        delivery: Delivery,
        event: TrainingJobEvent,
        described: DescribedJob,
        jobs: TrainingJobs,
    ) -> tuple[JobTags | SyncTagAbsent | TagsIncomplete, Mapping[str, str]]:
        """The job's tags: the event's if they are complete, otherwise those of ListTags. Only those
        can skip or reject a job, or let defaults count, because an event's tags may be outdated.
        """
        given = event.tags or {}
        tags = read_tags(given, self._rules.tag_keys)
        # a message moved back from the dead-letter queue has the tags it was rejected for
        message = delivery.message
        redriven = (
            message.was_dead_letter
            or "reason" in message.attributes
            or message.attributes.get(ORIGIN) == Origin.REDRIVE
        )
        if isinstance(tags, JobTags) and not redriven:
            self._story.tags_read(delivery, tags, listed=False)
            return tags, given
        delivery.job.step = Step.TAGS
        with blamed_on(Edge.SAGEMAKER, "tags"):
            listed = await jobs.tags(described.arn.text)
        self._succeeded(delivery, Step.TAGS)
        tags = read_tags(listed, self._rules.tag_keys)
        if isinstance(tags, TagsIncomplete):
            rules = self._rules
            tags = rules.tag_defaults.fill(tags, listed, rules.tag_keys, described, rules.redact)
        self._story.tags_read(delivery, tags, listed=True)
        return tags, listed

    def _journal(
        self,
        delivery: Delivery,
        event: TrainingJobEvent,
        mark: JobMark,
        known: JobRecord | None,
        description: Mapping[str, Any],
    ) -> Journal:
        job = delivery.job
        journal = job.journal
        # A claim that was given up and taken again may have its fence again, but not its lease.
        if journal is not None and journal.mark == mark and journal.is_under(job.claim, job.lease):
            journal.resume()
            return journal
        return self._new_journal(
            delivery,
            known,
            look_up_first=not vouches(
                known,
                delivery,
                event,
                description,
                checkpoint=self._checkpoint,
                now=wall(),
                look_back_seconds=self._rules.look_back_seconds,
            ),
        )

    def _new_journal(
        self,
        delivery: Delivery,
        known: JobRecord | None,
        *,
        look_up_first: bool,
        in_doubt: bool = False,
    ) -> Journal:
        job = delivery.job
        assert job.claim is not None  # noqa: S101 - the flow has just claimed; for the type checker
        assert job.mark is not None  # noqa: S101 - as above
        return Journal(
            self._checkpoint,
            job.claim,
            job.mark,
            job.name,
            known,
            look_up_first=look_up_first,
            lease_seconds=self._rules.lease_seconds,
            project=job.project,
            story=job.story,
            lease=job.lease,
            in_doubt=in_doubt,
        )

    async def _record(self, delivery: Delivery, outcome: Outcome) -> None:
        job = delivery.job
        message_id = delivery.message.message_id
        unanswered = None if job.journal is None else job.journal.unanswered_writes
        story = self._story.with_outcome(delivery, outcome)
        match outcome:
            case Rejected(reason=reason, detail=detail):
                await self._checkpoint.record_rejected(
                    job.claim,
                    job.mark,
                    job.name,
                    job_arn=job.key,
                    reason=reason,
                    detail=detail,
                    unanswered_writes=unanswered,
                    message_id=message_id,
                    project=job.project,
                    story=story,
                )
            case _ if job.claim is None:
                pass
            case Synced(reason=reason, target_ids=ids, detail=detail) if job.mark is not None:
                await self._checkpoint.record_synced(
                    job.claim,
                    job.mark,
                    job.name,
                    reason=reason,
                    detail=detail,
                    target_ids=ids,
                    message_id=message_id,
                    project=job.project,
                    story=story,
                )
            case Skipped(reason=Reason.NOT_TAGGED as reason) if job.mark is not None:
                await self._checkpoint.record_skipped(
                    job.claim,
                    job.mark,
                    job.name,
                    reason=reason,
                    message_id=message_id,
                    story=story,
                )
            case Deferred(reason=reason, detail=detail):
                await self._checkpoint.record_deferred(
                    job.claim,
                    job.mark,
                    job.name,
                    reason=reason,
                    detail=detail,
                    unanswered_writes=unanswered,
                    message_id=message_id,
                    project=job.project,
                    story=story,
                )
            case Duplicate():
                await self._checkpoint.release(job.claim, story=story)
            case _:
                await self._checkpoint.release(job.claim)
        job.story.kept(story)

    @contextmanager
    def _timed(self, delivery: Delivery, step: Step) -> Iterator[None]:
        job = delivery.job
        job.step = step
        begun = monotonic()
        try:
            yield
        finally:
            job.durations[step] = monotonic() - begun
            self._on_step(step, job.durations[step])
        self._succeeded(delivery, step)

    def _succeeded(self, delivery: Delivery, step: Step) -> None:
        self._on_success(step, delivery.message.message_id, delivery.job.where)


def _not_ended(event: TrainingJobEvent, description: Mapping[str, Any]) -> Skipped | Deferred:
    status = described_status(description)
    said = f"{event.name} is {status or 'without a status'} according to DescribeTrainingJob"
    if status and event.changed_tags is not None:
        # its own event follows when it ends, perhaps in days, and finds the tags
        return Skipped(Reason.STATUS_NOT_CONFIGURED, said)
    return Deferred(Reason.NOT_TERMINAL, said)


def _internal_error(job: JobContext, error: Exception) -> Deferred:
    log.error("internal error", step=job.step, exc_info=error)
    return Deferred(
        Reason.INTERNAL_ERROR,
        f"{type(error).__name__} in step {job.step}; the log has the traceback",
    )
