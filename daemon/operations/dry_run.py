"""What `sync` would do with one job. Asks SageMaker, the checkpoint and the target; changes nothing
anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from daemon.errors import EdgeFault, JobFault, JobRefused
from daemon.operations.job_now import job_now
from daemon.operations.sync_one import UNKNOWN_STEP, next_step
from daemon.operations.verdict import tags_now, verdict
from daemon.pipeline.foreign_jobs import jobs_of
from daemon.pipeline.other_answers import other_answers
from daemon.pipeline.same_job import described_job
from daemon.reasons import Reason
from daemon.training_job.described_job import described_status
from daemon.training_job.event import TrainingJobEvent
from daemon.training_job.final_status import final_status
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.aws.ports import TrainingJobs
    from daemon.checkpoint.ports import JobRecord
    from daemon.operations.sync_one import JobName
    from daemon.operations.verdict import JobNow, Verdict
    from daemon.pipeline.flow import FlowRules
    from daemon.targets.ports import Preview, Repair, Target
    from daemon.training_job.training_run import TrainingRun


@dataclass(frozen=True, slots=True)
class DryRun:
    """What would become of one job."""

    job: str
    outcome: str
    """A kind of outcome: synced, duplicate, …; ``unknown_job``."""
    reason: str
    text: str
    """One sentence for people."""
    next_step: str = ""
    """What to do; "" if there is nothing to do."""
    fault: str = ""
    """What could not be asked, so that the answer is not certain; "" if all was."""
    preview: Preview | None = None
    """What would be written if the target did not have the job; None: nothing."""
    found: Repair | None = None
    """The run that the target has, and how it differs; None: it has none, or was not asked."""

    def as_document(self) -> dict[str, Any]:
        """For programs: what JSON can hold. Members that nothing would be written for are null."""
        writes = self.preview if self.found is None and self.outcome == "synced" else None
        found = self.found
        return {
            "dry_run": True,
            "job": self.job,
            "outcome": self.outcome,
            "reason": self.reason,
            "text": self.text,
            "next_step": self.next_step,
            "fault": self.fault,
            "would_write": None if writes is None else dict(writes.document),
            "found": None if found is None else dict(found.target_run.ids),
            "differs": [] if found is None else list(found.changed),
            "stays": [] if found is None else list(found.unchangeable),
        }


async def dry_run(
    wanted: JobName,
    jobs: TrainingJobs,
    target: Target,
    rules: FlowRules,
    recorded: Sequence[JobRecord],
    *,
    force: bool,
) -> DryRun:
    """Asks what would become of a job.

    Args:
        wanted: the job.
        jobs: SageMaker's training jobs, whose home is known.
        target: asked for the run.
        rules: of the flow.
        recorded: the checkpoint's rows of the job's ARN and this target, newest job first.
        force: whether `sync --force` is meant.
    """
    event = TrainingJobEvent(wanted.name, wanted.arn)
    now = replace(await job_now(event, jobs.home, jobs), rows=recorded)
    judged = verdict(event, now, rules)
    if judged.outcome not in {"synced", "duplicate"} or now.description is None:
        return _nothing(wanted, now, judged, rules)
    row = next((row for row in recorded if row.done and _is_described(event, now, row)), None)
    run = await _run(event, now, jobs_of(jobs, wanted.arn) or jobs, rules)
    if run is None:  # synced, and its tags are gone since
        return _recorded(wanted, row)
    fault, found = "", None
    try:
        found = await target.compare(run)
    except (EdgeFault, JobFault, JobRefused) as error:
        fault = f"whether there is a run of this job is not known: {error.detail}"
    made = DryRun(wanted.name, "synced", Reason.CREATED.value, "", fault=fault, found=found)
    preview = target.preview(run)
    if found is not None:
        return _of_found(made, row, found, force=force)
    if row is not None and not force:
        return _recorded(wanted, row)
    text = f"{wanted.name} would become {preview.title}"
    if row is not None:
        text += "; it was synced before, but its run is not there any more"
    return replace(made, text=text, preview=preview)


def _is_described(event: TrainingJobEvent, now: JobNow, row: JobRecord) -> bool:
    assert now.description is not None  # noqa: S101 - the caller has checked; for the type checker
    return row.creation_time == described_job(event, now.description).mark.creation_time


async def _run(
    event: TrainingJobEvent, now: JobNow, jobs: TrainingJobs, rules: FlowRules
) -> TrainingRun | None:
    """The job as the flow hands it to the target; None without complete tags."""
    assert now.description is not None  # noqa: S101 - the caller has checked; for the type checker
    described = described_job(event, now.description)
    listed = now.tags or {}
    tags = tags_now(listed, described, rules)
    status = final_status(event, now.description)
    if status is None or not isinstance(tags, JobTags):
        return None
    run = training_run(described, tags, listed, rules.redact)
    others = await other_answers(jobs, described.mark, now.description)
    return others.added_to(replace(run, status=status))


def _of_found(made: DryRun, row: JobRecord | None, found: Repair, *, force: bool) -> DryRun:
    run = found.target_run.ids.get("run_id", "")
    there = f"{made.job} is there already as run {run}"
    outcome, reason = ("synced", Reason.FOUND_IN_TARGET)
    if row is not None and not force:
        outcome, reason = "duplicate", Reason.ALREADY_SYNCED
    if not force:
        differs = "; `--force` would repair it" if found.changed else ""
        text = f"{there}: nothing would be written{differs}"
    elif found.changed:
        text = f"{there}: what differs would be repaired"
    else:
        text = f"{there}, as it should be: nothing would be written"
    return replace(made, outcome=outcome, reason=reason.value, text=text)


def _recorded(wanted: JobName, row: JobRecord | None) -> DryRun:
    when = "" if row is None else f" on {datetime.fromtimestamp(row.updated_at, UTC):%Y-%m-%d}"
    return DryRun(
        wanted.name,
        "duplicate",
        Reason.ALREADY_SYNCED.value,
        f"{wanted.name} was synced{when}, according to the checkpoint: nothing would be written",
    )


def _nothing(wanted: JobName, now: JobNow, judged: Verdict, rules: FlowRules) -> DryRun:
    """A job that would not be synced."""
    reason = judged.reason
    if reason is Reason.JOB_GONE and not now.rows:
        where = f"account {now.home.account or 'unknown'} in {now.home.region}"
        return DryRun(
            wanted.name,
            "unknown_job",
            reason.value,
            f"SageMaker does not know a training job {wanted.name} in {where}",
            UNKNOWN_STEP,
        )
    return DryRun(
        wanted.name,
        judged.outcome,
        "" if reason is None else reason.value,
        f"{wanted.name} would be {judged.outcome or 'left alone'}: {_cause(now, judged, rules)}",
        "" if reason is None else next_step(reason),
    )


def _cause(now: JobNow, judged: Verdict, rules: FlowRules) -> str:
    match judged.reason:
        case Reason.NOT_TAGGED:
            return f"it has no tag {rules.tag_keys.sync}"
        case Reason.TAGS_INCOMPLETE:
            return f"it lacks the tags {', '.join(judged.missing_tags)}"
        case Reason.FOREIGN_ACCOUNT:
            return judged.text
        case _ if now.fault is not None:
            return now.fault.detail
        case _:
            return f"it is {described_status(now.description or {}) or 'without a status'}"
