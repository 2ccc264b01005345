"""What the flow has learnt about the job of a message."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon.checkpoint.lease_clock import LeaseClock
from daemon.pipeline.step import Step
from daemon.story import StoryDraft

if TYPE_CHECKING:
    from datetime import datetime

    from daemon.checkpoint.journal import Journal
    from daemon.checkpoint.lease_clock import Moment
    from daemon.checkpoint.ports import Claim
    from daemon.pipeline.other_answers import OtherAnswers
    from daemon.targets.ports import Repair
    from daemon.training_job.event import TrainingJobEvent
    from daemon.training_job.identity import JobArn, JobMark
    from daemon.training_job.training_run import TrainingRun


@dataclass(eq=False, slots=True)
class JobContext:
    """The job of one message, across all attempts at it. Only `Flow` sets its attributes.

    Attributes:
        event: the parsed body.
        arn: of the event, or derived from its job name.
        where: see `daemon.errors.EdgeFault`.
        mark: from DescribeTrainingJob, or from the checkpoint if the job is gone.
        claim: the claim this process holds. Ended by `end_claim` only.
        lease: of the newest claim.
        journal: the writes made under that claim.
        run: the `TrainingRun` built by the last attempt. Kept so that an interrupted write can be
            completed even if the job has since been deleted in SageMaker.
        other_answers: for `run`; kept for later attempts.
        step: where the flow is, or where it failed.
        durations: seconds spent in each measured step of the last attempt.
        notes: what the target shortened, renamed or left out.
        repair: of a run that was there; None: not asked for, or not done.
        healed: duplicate runs that the target deleted.
        story: what is to be kept of all this, and is not in the checkpoint yet.
    """

    event: TrainingJobEvent | None = None
    arn: JobArn | None = None
    where: str = ""
    mark: JobMark | None = None
    claim: Claim | None = None
    lease: LeaseClock | None = None
    journal: Journal | None = None
    run: TrainingRun | None = None
    other_answers: OtherAnswers | None = None
    step: Step = Step.PARSE
    durations: dict[Step, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    repair: Repair | None = None
    healed: int = 0
    story: StoryDraft = field(default_factory=StoryDraft)

    @property
    def key(self) -> str:
        """The ARN in lower case; "" before the body is understood."""
        return "" if self.arn is None else self.arn.key

    @property
    def name(self) -> str:
        """The job's name; "" before the body is understood."""
        return "" if self.event is None else self.event.name

    @property
    def project(self) -> str:
        """The name of the project that the run is in, or is to be in; "" while it is not known."""
        run = self.run
        return run.project_name if run is not None and run.mark == self.mark else ""

    @property
    def creation_second(self) -> datetime | None:
        """The event's creation time in whole seconds: DescribeTrainingJob rounds differently."""
        moment = self.event.creation_time if self.event is not None else None
        return None if moment is None else moment.replace(microsecond=0)

    @property
    def is_tag_change(self) -> bool:
        """The message is about a change of the job's tags."""
        return self.event is not None and self.event.changed_tags is not None

    @property
    def must_finish(self) -> bool:
        """True from the intent of a create until its answer, and while an outcome is recorded: an
        attempt that is running must not be interrupted then.
        """
        return self.step is Step.RECORD or (
            self.journal is not None and self.journal.write_under_way
        )

    @property
    def outcome_unknown(self) -> bool:
        """True when a create of this job was begun and its answer never read."""
        return self.journal is not None and self.journal.unanswered_writes > 0

    @property
    def write_in_doubt(self) -> bool:
        """True when a create of this process may stand beside one of another process; see
        `daemon.checkpoint.journal.Journal.in_doubt`.
        """
        return self.journal is not None and self.journal.in_doubt

    def take_claim(self, claim: Claim, asked_at: Moment, seconds: float) -> None:
        """A claim was taken, or renewed by taking it again.

        Args:
            claim: the claim.
            asked_at: from before it was taken.
            seconds: of its lease.
        """
        if self.claim == claim:
            self.renew_claim(asked_at, seconds)
        else:
            self.claim, self.lease = claim, LeaseClock(asked_at, seconds)

    def renew_claim(self, asked_at: Moment, seconds: float) -> None:
        """The claim was renewed; arguments as `LeaseClock.extend`."""
        if self.lease is not None:
            self.lease.extend(asked_at, seconds)

    def end_claim(self) -> Claim | None:
        """Forgets the claim, so that the heartbeat no longer renews it.

        Returns:
            The claim that was held, for its release in the checkpoint.
        """
        claim, self.claim = self.claim, None
        return claim
