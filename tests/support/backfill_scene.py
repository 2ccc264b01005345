"""A backfill in memory: SageMaker's list cut into small pages, a queue, and the part of the
checkpoint that a backfill uses. Any call may fail, or be the last one before a kill.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from daemon.aws.ports import Failed, JobPage, ListedJob, OutgoingMessage, Sent
from daemon.checkpoint.ports import Claim, EnqueuedJob, JobRecord, JobState
from daemon.operations.backfill import Backfill
from daemon.operations.pacing import Pace
from daemon.operations.when import Period
from daemon.training_job.event import TrainingJobEvent, parse_event
from daemon.training_job.identity import JobArn, JobMark

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daemon.checkpoint.ports import ClaimedElsewhere

BEGIN = 1_763_600_000.0
PERIOD = Period(BEGIN, BEGIN + 86_400)
COMPLETED = frozenset({"Completed"})


class Killed(BaseException):
    """The process ends here."""


def listed(name: str, seconds: float = 0.0, status: str = "Completed") -> ListedJob:
    """A job created some time after the begin of the period."""
    arn = f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{name}"
    return ListedJob(name, arn, status, datetime.fromtimestamp(BEGIN + seconds, UTC))


def row(job: ListedJob, state: JobState, *, place: str = "here", reason: str = "") -> JobRecord:
    """What the checkpoint has of a job."""
    mark = JobMark.of(JobArn.parse(job.arn), job.creation_time)
    return JobRecord(
        mark.arn,
        mark.creation_time,
        job.name,
        state,
        reason=reason,
        detail="",
        attempts=0,
        unanswered_writes=0,
        target="modeldb-v2",
        place=place,
        target_ids={},
        message_id="m-1",
        first_seen_at=BEGIN,
        updated_at=BEGIN,
    )


@dataclass
class BackfillScene:
    """What a backfill works with, and outlives its kills.

    Attributes:
        jobs: that SageMaker lists.
        rows: of the checkpoint, by ARN.
        page_size: of the list.
        faults: by call (list, send, record, save): what the next calls raise, before or after they
            are carried out; None: nothing.
        answers: what SQS says of the next messages; None: sent.
        sent: job names, one per message in the queue.
        asked: the arguments of each list request.
    """

    jobs: Sequence[ListedJob] = ()
    rows: dict[str, JobRecord] = field(default_factory=dict)
    page_size: int = 100
    faults: dict[str, deque[BaseException | None]] = field(default_factory=dict)
    late_faults: dict[str, deque[BaseException | None]] = field(default_factory=dict)
    answers: deque[Failed | None] = field(default_factory=deque)
    sent: list[str] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    asked: list[tuple[float, float, str | None]] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    holder: ClaimedElsewhere | None = None
    lost: bool = False
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, period: Period = PERIOD, *, restart: bool = False) -> bool:
        return await self.backfill().run(period, restart=restart)

    def backfill(self, statuses: frozenset[str] = COMPLETED) -> Backfill:
        """One run of the backfill in a new process."""
        edges: Any = self
        return Backfill(
            edges,
            edges,
            edges,
            name="backfill",
            statuses=statuses,
            pace=Pace(0.0, 0.0),
            stop=self.stop,
        )

    @property
    def sent_once(self) -> set[str]:
        return set(self.sent)

    @property
    def again(self) -> int:
        """How many messages were about a job that another one was about."""
        return sum(count - 1 for count in Counter(self.sent).values())

    # SageMaker and the queue

    async def list_page(
        self, *, created_after: float, created_before: float, token: str | None = None
    ) -> JobPage:
        self.asked.append((created_after, created_before, token))
        self._fail("list")
        wanted = sorted(
            (job.creation_time.timestamp(), job.name, job)
            for job in self.jobs
            if created_after <= job.creation_time.timestamp() <= created_before
        )
        start = int(token or 0)
        page = [job for _, _, job in wanted[start : start + self.page_size]]
        more = start + self.page_size < len(wanted)
        return JobPage(page, str(start + self.page_size) if more else None)

    async def send(self, entries: Sequence[OutgoingMessage]) -> Sequence[Sent | Failed]:
        self._fail("send")
        self.batches.append(len(entries))
        answers: list[Sent | Failed] = []
        for entry in entries:
            failed = self.answers.popleft() if self.answers else None
            if failed is None:
                event = parse_event(entry.body)
                assert isinstance(event, TrainingJobEvent)
                assert entry.attributes == {"origin": "backfill"}
                self.sent.append(event.name)
            answers.append(failed or Sent(f"m-{len(self.sent)}"))
        self._fail("send", late=True)
        return answers

    # the checkpoint

    async def claim(self, arn: str, _lease_seconds: float) -> Claim | ClaimedElsewhere:
        return self.holder or Claim(arn, "me", 1)

    async def renew(self, claims: Sequence[Claim], _lease_seconds: float) -> Sequence[Claim]:
        return claims if self.lost else ()

    async def release(self, _claim: Claim) -> None: ...

    async def note(self, name: str) -> str | None:
        return self.notes.get(name)

    async def put_note(self, name: str, value: str | None, claim: Claim) -> None:
        assert claim.owner == "me"
        self._fail("save")
        if value is None:
            self.notes.pop(name, None)
        else:
            self.notes[name] = value
        self._fail("save", late=True)

    async def described(self, arn: str) -> Sequence[JobRecord]:
        return [self.rows[arn]] if arn in self.rows else []

    async def record_enqueued(self, jobs: Sequence[EnqueuedJob]) -> None:
        self._fail("record")
        by_arn: Mapping[str, ListedJob] = {job.arn.lower(): job for job in self.jobs}
        for each in jobs:
            assert by_arn[each.job_arn].name in self.sent, "recorded before it was sent"
            self.rows[each.job_arn] = row(by_arn[each.job_arn], JobState.ENQUEUED)
        self._fail("record", late=True)

    def _fail(self, call: str, *, late: bool = False) -> None:
        waiting = (self.late_faults if late else self.faults).get(call)
        fault = waiting.popleft() if waiting else None
        if fault is not None:
            raise fault
