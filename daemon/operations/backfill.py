"""Backfill: lists SageMaker's training jobs of a period, oldest first, and sends a message about
each one that this target is not known to have. The daemons do the rest.

- *Order*: send, then record the jobs as enqueued, then save the position. A kill in between sends
  at most one batch a second time, which the flow joins or finds to be a duplicate.
- The *position* is the creation time of the last job dealt with, and the ARNs of those that were
  created in the same millisecond: a listing that starts there again misses none and repeats none.
  Every listing after a fault, and every resumed backfill, starts there.
- One backfill of a target runs at a time: it holds the claim `CLAIM`, with which it saves its
  position.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from daemon.aws.ports import Failed, Origin
from daemon.checkpoint import rules
from daemon.checkpoint.ports import Claim, ClaimedElsewhere, EnqueuedJob, LeaseLost
from daemon.clock import wall
from daemon.errors import DaemonError, EdgeFault
from daemon.operations.messages import MOST_MESSAGES, message_about
from daemon.operations.when import Period
from daemon.reasons import Edge, Reason
from daemon.training_job.identity import JobArn, JobMark
from daemon.waiting import unless

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from daemon.aws.ports import JobPage, ListedJob, Queue, TrainingJobs
    from daemon.checkpoint.ports import Checkpoint, JobRecord
    from daemon.operations.pacing import Pace

CLAIM = "operation:backfill"
LEASE_SECONDS = 300.0
"""Of the claim, renewed before each page; longer than the longest pause and one request."""
TRIES = 5
"""Of a page or a batch, before an outage ends the backfill. Throttling never does."""
_FIRST_PAUSE_SECONDS = 1.0
_PASSING = frozenset({Reason.UNREACHABLE, Reason.UNAVAILABLE, Reason.NOT_THE_API})
"""Faults that another try may not have."""
_MARGIN_SECONDS = 1.0
"""Around the times that SageMaker is asked for: it may round them."""
_ENDED = frozenset({"Completed", "Failed", "Stopped"})
_LEAVING = "Deleting"
_REFUSED_SHOWN = 20


class Finding(StrEnum):
    """What a listed job is to the backfill."""

    TO_SEND = "to_send"
    SYNCED = "synced"  # this target is known to have it
    UNFINISHED = "unfinished"  # it will announce itself
    OTHER_STATUS = "other_status"  # its status is not wanted


@dataclass(frozen=True, slots=True)
class Position:
    """How far the list has been dealt with."""

    milliseconds: int
    """Epoch milliseconds of the latest creation time."""
    arns: frozenset[str] = frozenset()
    """In lower case: the jobs of this creation time."""

    @classmethod
    def at(cls, epoch_seconds: float) -> Position:
        """Before all jobs that were created at this moment or later."""
        return cls(round(epoch_seconds * 1000))

    def includes(self, job: ListedJob) -> bool:
        """Whether the job has been dealt with."""
        created = _milliseconds(job)
        return created < self.milliseconds or (
            created == self.milliseconds and job.arn.lower() in self.arns
        )

    def after(self, job: ListedJob) -> Position:
        """The position once this job, too, has been dealt with."""
        created, arn = _milliseconds(job), job.arn.lower()
        if created > self.milliseconds:
            return Position(created, frozenset({arn}))
        if created == self.milliseconds:
            return Position(created, self.arns | {arn})
        return self


@dataclass(frozen=True, slots=True)
class Tally:
    """What has been dealt with, over all runs of a backfill."""

    listed: int = 0
    """Jobs of the period."""
    sent: int = 0
    synced: int = 0
    unfinished: int = 0
    other_status: int = 0
    refused: int = 0
    """Jobs whose message SQS does not accept."""
    refused_names: tuple[str, ...] = ()
    """Some of them."""

    @property
    def to_send(self) -> int:
        """Jobs that were, or are to be, sent."""
        return self.listed - self.synced - self.unfinished - self.other_status

    def counting(self, finding: Finding) -> Tally:
        """The tally with one more job. One that is to be sent counts as listed only."""
        more = replace(self, listed=self.listed + 1)
        match finding:
            case Finding.SYNCED:
                return replace(more, synced=self.synced + 1)
            case Finding.UNFINISHED:
                return replace(more, unfinished=self.unfinished + 1)
            case Finding.OTHER_STATUS:
                return replace(more, other_status=self.other_status + 1)
            case Finding.TO_SEND:
                return more


@dataclass(frozen=True, slots=True)
class Progress:
    """A backfill between two of its steps, as it is kept in the checkpoint."""

    period: Period
    begun_at: float
    """Epoch seconds."""
    position: Position
    tally: Tally = field(default_factory=Tally)

    @property
    def fraction(self) -> float:
        """How much of the period has been listed, from 0 to 1."""
        length = max(0.001, self.period.until - self.period.since)
        return min(1.0, max(0.0, (self.position.milliseconds / 1000 - self.period.since) / length))

    def after(self, job: ListedJob, finding: Finding) -> Progress:
        """The progress once this job, too, has been dealt with."""
        return replace(self, position=self.position.after(job), tally=self.tally.counting(finding))

    def note(self) -> str:
        """For the checkpoint."""
        position = {"at": self.position.milliseconds, "arns": sorted(self.position.arns)}
        return json.dumps(
            {
                "since": self.period.since,
                "until": self.period.until,
                "begun_at": self.begun_at,
                "position": position,
                "tally": asdict(self.tally),
            }
        )

    @classmethod
    def of_note(cls, text: str) -> Progress:
        """From the checkpoint."""
        note = json.loads(text)
        tally = note["tally"]
        return cls(
            Period(note["since"], note["until"]),
            note["begun_at"],
            Position(note["position"]["at"], frozenset(note["position"]["arns"])),
            Tally(**{**tally, "refused_names": tuple(tally["refused_names"])}),
        )


class AlreadyRunning(DaemonError):
    """Another process does a backfill of this target."""


def finding_of(job: ListedJob, known: JobRecord | None, statuses: frozenset[str]) -> Finding:
    """What a listed job is to a backfill of these statuses.

    Args:
        job: of the period.
        known: its row of this target.
        statuses: the wanted ones.
    """
    if job.status not in _ENDED and job.status != _LEAVING:
        return Finding.UNFINISHED
    if job.status not in statuses:
        return Finding.OTHER_STATUS
    if known is not None and known.done:
        return Finding.SYNCED
    return Finding.TO_SEND


async def row_of(checkpoint: Checkpoint, job: ListedJob) -> JobRecord | None:
    """The row of a listed job."""
    mark = _mark(job)
    return rules.row_of(await checkpoint.described(mark.arn), mark.creation_time)


async def _nothing() -> None: ...


class JobList:
    """The listed jobs of a period, page by page.

    Args:
        jobs: SageMaker's.
        pace: of the requests.
        stop: ends the list when it is set.
        before_request: awaited before each request.

    Attributes:
        requests: how many were made.
    """

    def __init__(
        self,
        jobs: TrainingJobs,
        pace: Pace,
        stop: asyncio.Event,
        before_request: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        self._before_request = before_request
        self._jobs = jobs
        self._pace = pace
        self._stop = stop
        self.requests = 0

    async def pages(
        self, period: Period, position: Callable[[], Position]
    ) -> AsyncIterator[Sequence[ListedJob]]:
        """The jobs of each page that have not been dealt with.

        Args:
            period: when they were created.
            position: how far they have been dealt with, now.

        Raises:
            EdgeFault: the list cannot be read. It is not raised for throttling.
        """
        token: str | None = None
        start = position()
        failures = 0
        while not self._stop.is_set():
            await unless(self._stop, self._pace.wait())
            if self._stop.is_set():
                return
            await self._before_request()
            try:
                page = await self._page(period, start, token)
            except EdgeFault as fault:
                if fault.reason is Reason.THROTTLED:
                    self._pace.throttled()
                    continue
                failures += 1
                if fault.reason not in _PASSING or failures == TRIES:
                    raise
                # perhaps it was the token
                token, start = None, position()
                await unless(self._stop, asyncio.sleep(_pause(failures)))
                continue
            self._pace.worked()
            failures = 0
            yield [
                job
                for job in page.jobs
                if period.since <= job.creation_time.timestamp() < period.until
                and not start.includes(job)
            ]
            token = page.token
            if token is None:
                return

    async def _page(self, period: Period, start: Position, token: str | None) -> JobPage:
        self.requests += 1
        return await self._jobs.list_page(
            created_after=start.milliseconds / 1000 - _MARGIN_SECONDS,
            created_before=period.until + _MARGIN_SECONDS,
            token=token,
        )


class DryRun:
    """Lists what a backfill would send. Changes nothing.

    Attributes:
        progress: how far it is.
    """

    def __init__(
        self,
        jobs: TrainingJobs,
        checkpoint: Checkpoint,
        period: Period,
        *,
        statuses: frozenset[str],
        pace: Pace,
        stop: asyncio.Event,
    ) -> None:
        self._checkpoint = checkpoint
        self._statuses = statuses
        self._list = JobList(jobs, pace, stop)
        self.progress = Progress(period, wall(), Position.at(period.since))

    async def run(self) -> AsyncIterator[Sequence[tuple[ListedJob, JobRecord | None]]]:
        """The jobs of each page that would be sent, with their rows.

        Raises:
            EdgeFault: SageMaker or the checkpoint does not work.
        """
        period = self.progress.period
        async for page in self._list.pages(period, lambda: self.progress.position):
            found = []
            for job in page:
                known = await row_of(self._checkpoint, job)
                finding = finding_of(job, known, self._statuses)
                self.progress = self.progress.after(job, finding)
                if finding is Finding.TO_SEND:
                    found.append((job, known))
            yield found


class Backfill:
    """One run of a backfill: begins or resumes it.

    Args:
        jobs: SageMaker's.
        queue: to which messages are sent.
        checkpoint: of the target.
        name: of the note that keeps its position.
        statuses: of the jobs that are to be sent.
        pace: of the list requests.
        stop: lets it end after the batch under way when it is set.

    Attributes:
        on_progress: called after each step.
        progress: how far it is, as saved; None before it has begun.
        resumed: it goes on with an unfinished one.
        requests, throttles: of this run.
    """

    def __init__(
        self,
        jobs: TrainingJobs,
        queue: Queue,
        checkpoint: Checkpoint,
        *,
        name: str,
        statuses: frozenset[str],
        pace: Pace,
        stop: asyncio.Event,
    ) -> None:
        self._queue = queue
        self._checkpoint = checkpoint
        self._name = name
        self._statuses = statuses
        self._pace = pace
        self._stop = stop
        self.on_progress: Callable[[Progress], None] = lambda _progress: None
        self._list = JobList(jobs, pace, stop, self._renew)
        self._claim: Claim | None = None
        self.progress: Progress | None = None
        self.resumed = False

    @property
    def requests(self) -> int:
        return self._list.requests

    @property
    def throttles(self) -> int:
        return self._pace.throttles

    async def run(self, period: Period, *, restart: bool = False) -> bool:
        """Lists and sends.

        Args:
            period: of a backfill that has not begun; one that is resumed keeps its own.
            restart: forget an unfinished one.

        Returns:
            True when the period is finished, False when it was stopped.

        Raises:
            AlreadyRunning: another process does it.
            EdgeFault: SageMaker, the queue or the checkpoint does not work.
            LeaseLost: another process has taken it over.
        """
        claim = await self._checkpoint.claim(CLAIM, LEASE_SECONDS)
        if isinstance(claim, ClaimedElsewhere):
            raise AlreadyRunning(
                f"a backfill of this target runs already, in process {claim.owner}: wait until it "
                "has ended, or stop it with Ctrl-C there"
            )
        self._claim = claim
        try:
            note = None if restart else await self._checkpoint.note(self._name)
            if note is None:
                begun = Progress(period, wall(), Position.at(period.since))
                await self._save(begun)
            else:
                self.progress = Progress.of_note(note)
                self.resumed = True
            return await self._work()
        finally:
            # if this fails, the claim ends with its lease, or with this process
            with contextlib.suppress(EdgeFault):
                await self._checkpoint.release(claim)

    async def _work(self) -> bool:
        progress = self._saved()
        self.on_progress(progress)
        async for page in self._list.pages(progress.period, lambda: self._saved().position):
            await self._deal_with(page)
            if self._stop.is_set():
                return False
        if self._stop.is_set():
            return False
        await self._checkpoint.put_note(self._name, None, self._claim)
        return True

    async def _deal_with(self, page: Sequence[ListedJob]) -> None:
        """Sends what is to be sent of a page, and saves the position after each batch."""
        progress = self._saved()
        batch: list[tuple[ListedJob, JobRecord | None]] = []
        for job in page:
            known = await row_of(self._checkpoint, job)
            finding = finding_of(job, known, self._statuses)
            progress = progress.after(job, finding)
            if finding is Finding.TO_SEND:
                batch.append((job, known))
            if len(batch) == MOST_MESSAGES:
                progress = replace(progress, tally=await self._send(batch, progress.tally))
                await self._save(progress)
                batch = []
                if self._stop.is_set():
                    return
        if batch:
            progress = replace(progress, tally=await self._send(batch, progress.tally))
        await self._save(progress)

    async def _send(
        self, batch: Sequence[tuple[ListedJob, JobRecord | None]], tally: Tally
    ) -> Tally:
        """Sends messages about jobs until each is in the queue, or refused.

        Args:
            batch: at most ten jobs and their rows.
            tally: to be added to.

        Raises:
            EdgeFault: some could not be sent.
        """
        left = list(batch)
        failures = 0
        while True:
            left, tally, fault = await self._send_once(left, tally)
            if not left:
                return tally
            failures += 1
            worth_another = fault.reason is Reason.THROTTLED or (
                fault.reason in _PASSING and failures < TRIES
            )
            if not worth_another or self._stop.is_set():
                raise fault
            await self._renew()
            await unless(self._stop, asyncio.sleep(_pause(failures)))

    async def _send_once(
        self, batch: Sequence[tuple[ListedJob, JobRecord | None]], tally: Tally
    ) -> tuple[list[tuple[ListedJob, JobRecord | None]], Tally, EdgeFault]:
        """One try: what is left, the tally, and why it is left."""
        fault = EdgeFault(Edge.QUEUE, Reason.UNAVAILABLE, "SQS has not answered for a message")
        try:
            answers = await self._queue.send(
                [message_about(job, Origin.BACKFILL) for job, _ in batch]
            )
        except EdgeFault as error:
            return list(batch), tally, error
        sent, left = [], []
        for (job, known), answer in zip(batch, answers, strict=True):
            if not isinstance(answer, Failed):
                sent.append(_enqueued(job, known, answer.message_id))
            elif answer.refused:
                names = (*tally.refused_names, job.name)[:_REFUSED_SHOWN]
                tally = replace(tally, refused=tally.refused + 1, refused_names=names)
            else:
                left.append((job, known))
                fault = EdgeFault(
                    Edge.QUEUE,
                    answer.reason or Reason.UNAVAILABLE,
                    f"SQS does not take a message ({answer.code}): {answer.detail}",
                )
        if sent:
            await self._checkpoint.record_enqueued(sent)
        return left, replace(tally, sent=tally.sent + len(sent)), fault

    async def _save(self, progress: Progress) -> None:
        await self._checkpoint.put_note(self._name, progress.note(), self._claim)
        self.progress = progress
        self.on_progress(progress)

    async def _renew(self) -> None:
        claims = [] if self._claim is None else [self._claim]
        if await self._checkpoint.renew(claims, LEASE_SECONDS):
            raise LeaseLost(CLAIM)

    def _saved(self) -> Progress:
        assert self.progress is not None  # noqa: S101 - set before the first page; for the type checker
        return self.progress


def note_name(since: str, until: str | None, statuses: frozenset[str]) -> str:
    """The name of the note of a backfill: the same command has the same.

    Args:
        since: as it was typed.
        until: likewise; None: it was not given.
        statuses: of the jobs that are to be sent.
    """
    words = [since, "now" if until is None else until, *sorted(statuses)]
    return "backfill " + " ".join(word.strip().lower() for word in words)


def _enqueued(job: ListedJob, known: JobRecord | None, message_id: str) -> EnqueuedJob:
    mark = _mark(job)
    return EnqueuedJob(
        mark.arn,
        mark.creation_time,
        job.name,
        Origin.BACKFILL.value,
        None if known is None else known.updated_at,
        message_id,
    )


def _mark(job: ListedJob) -> JobMark:
    return JobMark.of(JobArn.parse(job.arn), job.creation_time)


def _milliseconds(job: ListedJob) -> int:
    return round(job.creation_time.timestamp() * 1000)


def _pause(failures: int) -> float:
    """Seconds before the next try."""
    return float(min(_FIRST_PAUSE_SECONDS * 2 ** (failures - 1), 30.0))
