"""Why a job is, or is not, in ModelDB, and what to do: what `explain` answers. Pure.

What the daemon would do with the job now is decided by the flow's own functions
(`daemon.operations.verdict`); this module puts it together with what the checkpoint, SageMaker and
the target say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from daemon.advice import advice
from daemon.checkpoint.ports import JobState
from daemon.errors import EdgeFault, JobRefused
from daemon.operations.job_story import moments
from daemon.operations.sync_one import JobName
from daemon.reasons import Reason
from daemon.training_job.described_job import DescribedJob, described_status
from daemon.training_job.event import TrainingJobEvent
from daemon.training_job.field_readers import moment
from daemon.training_job.identity import JobMark, iso_milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daemon.checkpoint.ports import JobRecord
    from daemon.operations.job_story import JobStory
    from daemon.operations.verdict import JobNow, Verdict
    from daemon.pipeline.flow import FlowRules
    from daemon.targets.ports import TargetRun

NOTHING_TO_DO = "nothing to do"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is known of one job."""

    event: TrainingJobEvent
    """Names the job, as a message about it would."""
    rules: FlowRules
    story: JobStory | None = None
    """None: the checkpoint has nothing of it, or see `checkpoint_problem`."""
    elsewhere: Sequence[JobRecord] = ()
    """Its rows of other targets."""
    now: JobNow | None = None
    """None: SageMaker could not be asked at all; see `sagemaker_problem`."""
    verdict: Verdict | None = None
    """What the daemon would do with a message about it."""
    run: TargetRun | None = None
    """What the target has."""
    target_asked: bool = False
    """The target has answered: without a `run` it has none."""
    checkpoint_problem: str = ""
    sagemaker_problem: str = ""
    target_problem: str = ""
    rows: Sequence[JobRecord] = field(default=(), init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", () if self.story is None else self.story.rows)

    @property
    def known(self) -> bool:
        """Whether anything is known of the job itself."""
        return bool(
            (self.story is not None and self.story.known)
            or self.elsewhere
            or self.run
            or (self.now is not None and self.now.description is not None)
        )

    @property
    def arn(self) -> str:
        """The ARN, as far as it is known."""
        if self.described is not None:
            return self.described.arn.text
        if self.event.arn is not None:
            return self.event.arn.text
        return "" if self.story is None else self.story.job_arn

    @property
    def described(self) -> DescribedJob | None:
        """The job that SageMaker has under this name now."""
        if self.now is None or self.now.description is None:
            return None
        try:
            return DescribedJob.of(self.now.description)
        except ValueError:
            return None

    @property
    def mark(self) -> JobMark | None:
        """Of the job that is asked about: the described one, else the newest on record."""
        if self.described is not None:
            return self.described.mark
        rows = [row for row in self.rows if row.creation_time]
        return JobMark(rows[0].job_arn, rows[0].creation_time) if rows else None

    @property
    def row(self) -> JobRecord | None:
        """The row of that job, or the one of its ARN that says no creation time."""
        mark = self.mark
        return next(
            (
                row
                for row in self.rows
                if mark is None or row.creation_time in {mark.creation_time, ""}
            ),
            None,
        )


def job_event(text: str) -> TrainingJobEvent:
    """A job's name or ARN, as the event that a message about it has.

    Raises:
        SetupFault: it is neither.
    """
    wanted = JobName.parse(text)
    return TrainingJobEvent(wanted.name, wanted.arn)


def unknown(explanation: Explanation) -> str:
    """One sentence about a job of which nothing is known."""
    name = explanation.event.name
    verdict = explanation.verdict
    if verdict is not None and verdict.reason is Reason.FOREIGN_ACCOUNT:
        return f"{_foreign(explanation)}: ask with the configuration of the daemon there"
    problems = [explanation.sagemaker_problem, explanation.checkpoint_problem]
    now = explanation.now
    if now is not None and isinstance(now.fault, JobRefused):
        said = (
            f"SageMaker has no training job {name} in {now.home.region}"
            + (f" (account {now.home.account})" if now.home.account else "")
            + ": check the name, and whether the configuration is for its account and region"
        )
        return "; ".join(filter(None, [said, explanation.checkpoint_problem]))
    return f"nothing is known of {name}: " + "; ".join(filter(None, problems))


@dataclass(frozen=True, slots=True)
class Answer:
    """Two sentences for people."""

    why: str
    """Why the job is, or is not, in the target."""
    next_step: str


def answer(explanation: Explanation) -> Answer:
    """The answer to "why is my model not there?"."""
    story = explanation.story
    if story is not None and story.claim is not None:
        return Answer(
            f"process {story.claim.owner} works on it now", "wait a minute, then ask again"
        )
    verdict = explanation.verdict
    if verdict is None or verdict.outcome in {"", "held"}:
        return _by_record(explanation)
    if verdict.reason is Reason.ALREADY_SYNCED:
        return _synced(explanation)
    if verdict.outcome == "synced":
        return _would_be_synced(explanation)
    return _not_to_be_synced(explanation, verdict)


def _by_record(explanation: Explanation) -> Answer:
    """Without SageMaker."""
    row = explanation.row
    if explanation.run is not None or (row is not None and row.done):
        return _synced(explanation)
    if row is None:
        return Answer(
            "the checkpoint has no record of it", "cure what is said below, then ask again"
        )
    words = f"it is recorded as {row.state}" + (f" ({row.reason})" if row.reason else "")
    known = advice(row.reason)
    return Answer(
        f"{words}: {row.detail}" if row.detail else words,
        known.do if known is not None else "ask again when SageMaker answers",
    )


def _synced(explanation: Explanation) -> Answer:
    name, row = explanation.event.name, explanation.row
    if explanation.run is not None and (row is None or not row.done):
        return Answer(
            "its run is there, but the checkpoint has not recorded it",
            f"`sync {name}` records it",
        )
    if explanation.target_asked and explanation.run is None:
        return Answer(
            "it was synced, but its run is not there any more: somebody has deleted it",
            f"`sync {name} --force` writes it again, if it is wanted",
        )
    return Answer("it is synced", NOTHING_TO_DO)


def _would_be_synced(explanation: Explanation) -> Answer:
    name, row = explanation.event.name, explanation.row
    if explanation.run is not None:
        return _synced(explanation)
    if row is None:
        return Answer(
            "nothing stands in its way, but no message about it has been handled",
            f"`sync {name}` takes it now; reconcile finds it by itself, if it is on and the job is "
            "recent enough",
        )
    detail = row.detail or "no detail"
    return {
        JobState.ENQUEUED: Answer(
            f"a message about it was {row.detail or 'sent to the queue'}, and not handled yet",
            f"wait for the daemon; if it does not run, start it, or `sync {name}`",
        ),
        JobState.RELEASED: Answer(
            f"it was put off ({row.reason}): {detail}",
            f"its message will be received again; `sync {name}` syncs it now",
        ),
        JobState.WRITING: Answer(
            "its write has begun, and how it ended is not known",
            "its message will be received again, and the run is looked up first; "
            f"`sync {name}` does so now",
        ),
        JobState.SKIPPED: Answer(
            "it had no sync tag when its message came; its tags are complete now", f"`sync {name}`"
        ),
        JobState.REJECTED: Answer(
            f"its message was rejected ({row.reason}): {detail}; nothing that SageMaker says of it "
            "stands in its way now",
            f"`sync {name}`, or send its dead letter back: `dead-letters redrive --job {name}`",
        ),
        JobState.SYNCED: Answer(
            "an earlier version recorded it as synced, but not where",
            f"`sync {name}` looks for its run",
        ),
    }[row.state]


def _not_to_be_synced(explanation: Explanation, verdict: Verdict) -> Answer:
    name, rules = explanation.event.name, explanation.rules
    sync, missing = rules.tag_keys.sync, ", ".join(verdict.missing_tags)
    described = explanation.described
    status = "" if described is None else described_status(described.description)
    gone = _gone(explanation)
    known = None if verdict.reason is None else advice(verdict.reason)
    return {
        Reason.NOT_TAGGED: Answer(
            f"it has no tag {sync}, so it is ignored",
            f"add the tag {sync} (any value) and the other tags, then `sync {name}`",
        ),
        Reason.TAGS_INCOMPLETE: Answer(
            f"it has the tag {sync}, but lacks {missing}",
            f"add the tag{'s' if len(verdict.missing_tags) > 1 else ''} {missing}, then "
            f"`sync {name}`",
        ),
        Reason.STATUS_NOT_CONFIGURED: Answer(
            f"it is {status}, and jobs.statuses has {', '.join(sorted(rules.statuses))} only",
            f"add {status} to jobs.statuses if such jobs are wanted, restart the daemon, then "
            f"`sync {name}`",
        ),
        Reason.NOT_TERMINAL: Answer(
            f"it is {status}: it has not ended", "wait: its event follows when it ends"
        ),
        Reason.FOREIGN_ACCOUNT: Answer(
            _foreign(explanation), "ask with the configuration of the daemon there"
        ),
        Reason.JOB_GONE: gone,
        Reason.JOB_REPLACED: gone,
    }.get(
        verdict.reason or Reason.INTERNAL_ERROR,
        Answer(verdict.text, known.do if known is not None else "ask again later"),
    )


def _gone(explanation: Explanation) -> Answer:
    row = explanation.row
    if row is not None and row.done:
        return Answer("it is synced, and has since been deleted in SageMaker", NOTHING_TO_DO)
    if explanation.run is not None:
        return _synced(explanation)
    return Answer(
        "SageMaker does not know it any more, so its run cannot be written",
        "nothing can be done, unless the job is run again",
    )


def _foreign(explanation: Explanation) -> str:
    arn, now = explanation.event.arn, explanation.now
    here = "another account or region"
    if now is not None:
        here = f"{now.home.account or 'its own account'} in {now.home.region}"
    there = "another account" if arn is None else f"account {arn.account} in {arn.region}"
    return f"the job belongs to {there}, and this configuration is for {here}"


def sagemaker_facts(explanation: Explanation) -> Mapping[str, Any] | None:
    """What SageMaker says of the job, without anything that may be secret: no values of tags or
    hyperparameters. None: it could not be asked, or does not know the job.
    """
    described, now = explanation.described, explanation.now
    if described is None or now is None:
        return None
    ended = moment(described.description, "TrainingEndTime")
    keys = explanation.rules.tag_keys
    return {
        "status": described_status(described.description),
        "created_at": described.mark.creation_time,
        "ended_at": None if ended is None else iso_milliseconds(ended),
        "sync_tag": None if now.tags is None else keys.sync in now.tags,
        "missing_tags": []
        if explanation.verdict is None
        else list(explanation.verdict.missing_tags),
    }


def as_document(explanation: Explanation) -> Mapping[str, Any]:
    """For ``--json``: see docs/operations.md."""
    found = answer(explanation)
    verdict, story = explanation.verdict, explanation.story
    claim = None if story is None else story.claim
    in_modeldb = explanation.run is not None if explanation.target_asked else None
    return {
        "job": explanation.event.name,
        "arn": explanation.arn or None,
        "why": found.why,
        "next_step": found.next_step,
        "in_modeldb": in_modeldb,
        "target_ids": None if explanation.run is None else dict(explanation.run.ids),
        "verdict": None
        if verdict is None
        else {"outcome": verdict.outcome or None, "reason": verdict.reason},
        "sagemaker": sagemaker_facts(explanation),
        "problems": {
            "checkpoint": explanation.checkpoint_problem or None,
            "sagemaker": explanation.sagemaker_problem or None,
            "target": explanation.target_problem or None,
        },
        "working_on_it": None
        if claim is None
        else {"owner": claim.owner, "seconds_left": round(claim.seconds_left, 1)},
        "records": [_record(row) for row in [*explanation.rows, *explanation.elsewhere]],
        "story": []
        if story is None
        else [
            {
                "at": iso(told.at),
                "what": told.what,
                "text": told.text,
                "message_id": told.message_id or None,
                "owner": told.owner or None,
            }
            for told in moments(story)
        ],
    }


def _record(row: JobRecord) -> Mapping[str, Any]:
    return {
        "created_at": row.creation_time or None,
        "state": row.state,
        "reason": row.reason or None,
        "detail": row.detail or None,
        "project": row.project or None,
        "attempts": row.attempts,
        "unanswered_writes": row.unanswered_writes,
        "target": {"kind": row.target, "place": row.place},
        "target_ids": dict(row.target_ids),
        "message_id": row.message_id or None,
        "first_seen_at": iso(row.first_seen_at),
        "updated_at": iso(row.updated_at),
    }


def iso(epoch_seconds: float) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return iso_milliseconds(datetime.fromtimestamp(max(0.0, epoch_seconds), UTC))


def problem_of(fault: Exception) -> str:
    """What to say of a fault."""
    return fault.detail if isinstance(fault, EdgeFault) else str(fault)
