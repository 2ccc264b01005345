"""What would become of a message about a job if it were received now, and why.

Pure: the decisions are the flow's own functions (`daemon.pipeline.flow` calls the same ones), on
answers that were gathered before (`daemon.operations.job_now`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from daemon.checkpoint.ports import JobState
from daemon.errors import EdgeFault, JobFault, JobRefused
from daemon.pipeline.foreign_jobs import is_foreign
from daemon.pipeline.same_job import same_creation, same_job
from daemon.reasons import Reason
from daemon.training_job.described_job import described_status
from daemon.training_job.final_status import final_status
from daemon.training_job.identity import JobArn
from daemon.training_job.tags import JobTags, SyncTagAbsent, TagsIncomplete, read_tags

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from daemon.checkpoint.ports import JobRecord
    from daemon.pipeline.flow import FlowRules
    from daemon.training_job.described_job import DescribedJob
    from daemon.training_job.event import TrainingJobEvent
    from daemon.training_job.identity import Home


class Advice(StrEnum):
    """What an operator should do with a message."""

    REDRIVE = "redrive"  # it would be synced now
    DELETE = "delete"  # nothing more can or need come of it
    FIX = "fix"  # a person has to change something first
    WAIT = "wait"  # it may work later, by itself
    LOOK = "look"  # nobody but a person can say


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the daemon would make of a message now."""

    outcome: str
    """One of the kinds of outcome (`daemon.outcome.REASONS`); "" if it cannot be told."""
    reason: Reason | None
    """One of the outcome's reasons; None if it cannot be told."""
    text: str
    """One sentence for people, with the next step."""
    advice: Advice
    missing_tags: tuple[str, ...] = ()
    """The configured keys that are missing or blank."""
    project: str = ""
    """The project that the run would be in, or is in; "" if it is not known."""


@dataclass(frozen=True, slots=True)
class JobNow:
    """What SageMaker and the checkpoint say of a job now."""

    home: Home
    description: Mapping[str, Any] | None = None
    """DescribeTrainingJob as botocore parses it. None: not asked, or see `fault`."""
    tags: Mapping[str, str] | None = None
    """All tags, as ListTags says. None: not asked, or see `fault`."""
    fault: EdgeFault | JobFault | JobRefused | None = None
    """Why SageMaker has not said more."""
    rows: Sequence[JobRecord] = field(default=())
    """The checkpoint's rows of the job's ARN, of all creation times, newest job first."""

    def arn_of(self, event: TrainingJobEvent) -> JobArn | None:
        """The ARN of an event's job: its own, or that of the job of its name in the home account.
        None: the account is not known.
        """
        if event.arn is not None:
            return event.arn
        return None if self.home.account is None else JobArn.of(self.home, event.name)


def verdict(
    event: TrainingJobEvent, now: JobNow, rules: FlowRules, *, rejected_for: str = ""
) -> Verdict:
    """What would become of a message about a job.

    The event's own tags are left out of account: a message that was rejected is decided by
    ListTags, and one that was not is decided by them whenever its own are not complete.

    Args:
        event: parsed from the message's body.
        now: what SageMaker and the checkpoint say.
        rules: of the daemon that would receive it.
        rejected_for: the reason for which it was rejected before; "": it was not.
    """
    unwanted = _unwanted(event, rules)
    if unwanted is not None:
        return unwanted
    arn = now.arn_of(event)
    if arn is not None and is_foreign(now.home, arn):
        return Verdict(
            "rejected",
            Reason.FOREIGN_ACCOUNT,
            f"it belongs to account {arn.account} in {arn.region}, and the daemon works for "
            f"{now.home.account or 'its own account'} in {now.home.region}: send it to the daemon "
            "there",
            Advice.LOOK,
        )
    if now.description is None:
        return _without_answer(event, now)
    try:
        if arn is None:
            arn = JobArn.parse(str(now.description.get("TrainingJobArn")))
        described = same_job(event, arn, now.description)
    except (JobRefused, JobFault) as fault:
        return _of_fault(event, now, fault)
    except ValueError:
        return Verdict(
            "deferred",
            Reason.SAGEMAKER_FAULT,
            "SageMaker describes it without an ARN that can be read: try again later",
            Advice.WAIT,
        )
    return _of_described(event, now, described, rules, rejected_for)


def _unwanted(event: TrainingJobEvent, rules: FlowRules) -> Verdict | None:
    if event.status is not None and event.status not in rules.statuses:
        return _of_status(event.status, rules)
    if event.changed_tags is not None and rules.tag_keys.sync not in event.changed_tags:
        return Verdict(
            "skipped",
            Reason.OTHER_EVENT,
            "it tells of a change of other tags: it can be deleted",
            Advice.DELETE,
        )
    return None


def _of_status(status: str, rules: FlowRules) -> Verdict:
    return Verdict(
        "skipped",
        Reason.STATUS_NOT_CONFIGURED,
        f"the job is {status}, and jobs.statuses has {', '.join(sorted(rules.statuses))} only: it "
        "can be deleted, unless you add the status",
        Advice.DELETE,
    )


def _without_answer(event: TrainingJobEvent, now: JobNow) -> Verdict:
    if now.fault is not None:
        return _of_fault(event, now, now.fault)
    rows = _matching(event, now)
    if rows and rows[0].done and event.creation_time is not None:
        return _synced(rows[0])
    return Verdict("", None, "SageMaker was not asked", Advice.LOOK)


def _of_fault(
    event: TrainingJobEvent, now: JobNow, fault: EdgeFault | JobFault | JobRefused
) -> Verdict:
    if isinstance(fault, EdgeFault):
        return Verdict(
            "held",
            fault.reason,
            f"it cannot be told now: {fault.detail}",
            Advice.LOOK,
        )
    if isinstance(fault, JobFault):
        return Verdict("deferred", fault.reason, f"{fault.detail}: try again later", Advice.WAIT)
    rows = _matching(event, now)
    if event.creation_time is not None and rows and rows[0].done:
        return _synced(rows[0])
    interrupted = any(row.unanswered_writes for row in rows)
    if interrupted:
        return Verdict(
            "rejected",
            fault.reason,
            f"{fault.detail}; its write was interrupted: redrive it, so that the daemon looks for "
            "its run",
            Advice.REDRIVE,
        )
    words = {
        Reason.JOB_GONE: "the job is gone from SageMaker, so its run cannot be written: it can be "
        "deleted",
        Reason.JOB_REPLACED: "another job has the name now, so its run cannot be written: it can "
        "be deleted",
    }
    text = words.get(fault.reason, fault.detail)
    advice = Advice.DELETE if fault.reason in words else Advice.LOOK
    return Verdict("rejected", fault.reason, text, advice)


def _of_described(
    event: TrainingJobEvent,
    now: JobNow,
    described: DescribedJob,
    rules: FlowRules,
    rejected_for: str,
) -> Verdict:
    row = next((row for row in now.rows if row.creation_time == described.mark.creation_time), None)
    if row is not None and row.done:
        return _synced(row)
    status = final_status(event, described.description)
    if status is None:
        return _not_ended(event, described)
    if status not in rules.statuses:
        return _of_status(status, rules)
    if now.tags is None:
        return _without_answer(event, now)
    tags = tags_now(now.tags, described, rules)
    if isinstance(tags, JobTags):
        return _would_be_synced(tags.project_name, row, rejected_for)
    return _of_lacking(tags, rules, rejected_for)


def tags_now(
    listed: Mapping[str, str], described: DescribedJob, rules: FlowRules
) -> JobTags | SyncTagAbsent | TagsIncomplete:
    """What ListTags's answer says of a job, with the defaults for what is missing."""
    tags = read_tags(listed, rules.tag_keys)
    if isinstance(tags, TagsIncomplete):
        return rules.tag_defaults.fill(tags, listed, rules.tag_keys, described, rules.redact)
    return tags


def _of_lacking(
    tags: SyncTagAbsent | TagsIncomplete, rules: FlowRules, rejected_for: str
) -> Verdict:
    if isinstance(tags, SyncTagAbsent):
        return Verdict(
            "skipped",
            Reason.NOT_TAGGED,
            f"it has no tag {rules.tag_keys.sync}, so it is ignored: add the tag, or delete the "
            "message",
            Advice.DELETE,
        )
    still = "still " if rejected_for == Reason.TAGS_INCOMPLETE else ""
    lacks = ", ".join(tags.missing) + "".join(f" ({each})" for each in tags.details)
    return Verdict(
        "rejected",
        Reason.TAGS_INCOMPLETE,
        f"it {still}lacks {lacks}: add what is missing, then redrive it",
        Advice.FIX,
        missing_tags=tags.missing,
    )


def _would_be_synced(project: str, row: JobRecord | None, rejected_for: str) -> Verdict:
    advice = Advice.REDRIVE
    if row is not None and row.state is JobState.SYNCED:
        text = "recorded as synced by an earlier version, which did not note where: redrive it"
        return Verdict("synced", Reason.FOUND_IN_TARGET, text, advice, project=project)
    if rejected_for == Reason.TAGS_INCOMPLETE:
        text = "its tags are complete now: redrive it"
    elif rejected_for == Reason.TARGET_REFUSED:
        text = (
            "nothing is wrong with the job itself: fix what the target refused, then redrive it; "
            "only that shows whether the target takes it now"
        )
        advice = Advice.FIX
    elif rejected_for:
        text = "it would be synced now: redrive it"
    else:
        text = "it would be synced"
    return Verdict("synced", Reason.CREATED, text, advice, project=project)


def _synced(row: JobRecord) -> Verdict:
    run = row.target_ids.get("run_id", "")
    return Verdict(
        "duplicate",
        Reason.ALREADY_SYNCED,
        f"already synced{f' (run {run})' if run else ''}: it can be deleted",
        Advice.DELETE,
    )


def _not_ended(event: TrainingJobEvent, described: DescribedJob) -> Verdict:
    status = described_status(described.description) or "without a status"
    if event.changed_tags is not None:
        text = f"the job is {status}: its own event follows when it ends"
        return Verdict("skipped", Reason.STATUS_NOT_CONFIGURED, text, Advice.DELETE)
    return Verdict(
        "deferred",
        Reason.NOT_TERMINAL,
        f"the job is {status} according to SageMaker: wait until it has ended",
        Advice.WAIT,
    )


def _matching(event: TrainingJobEvent, now: JobNow) -> list[JobRecord]:
    """The rows that can be of the event's job."""
    return [
        row for row in now.rows if same_creation(event, datetime.fromisoformat(row.creation_time))
    ]
