"""Reconcile: finds the jobs that no event has announced, and sends messages about them to the
queue, which the flow handles as any other.

A pass lists the jobs that were created since the last complete scan and decides about each
(`decide`). The *position* is the creation time of the newest job that a complete scan has listed:
SageMaker's time, so that a wrong clock here loses no job. Jobs that have not ended, or ended only
minutes ago, go on the watch list of the checkpoint and are described later.

Each account and region has a position of its own, and one that cannot be listed keeps none of the
others from being listed.

What makes it safe to stop anywhere: a message is sent first and recorded then, the position comes
last, and a second message about a job ends as duplicate.
"""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import structlog

from daemon.aws.ports import Failed, ListedJob, Origin
from daemon.checkpoint.ports import EnqueuedJob, JobState, LeaseLost, WatchedJob
from daemon.checkpoint.rules import row_of
from daemon.clock import wall
from daemon.errors import DaemonError, EdgeFault, JobFault, JobRefused
from daemon.operations.messages import MOST_MESSAGES, message_about
from daemon.reasons import Edge, Reason
from daemon.training_job.described_job import DescribedJob, described_status
from daemon.training_job.field_readers import moment
from daemon.training_job.final_status import TERMINAL_STATUSES
from daemon.training_job.identity import JobArn, iso_milliseconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence

    from daemon.aws.ports import JobPage, OutgoingMessage, Sent
    from daemon.checkpoint.ports import Claim, ClaimedElsewhere, JobRecord
    from daemon.operations.pacing import Pace

log = structlog.get_logger(__name__)

CLAIM = "operation:reconcile"
"""Claimed by the process that makes a pass."""
NOTE = "reconcile"
"""Name of the checkpoint's note with the `Progress`."""
LEASE_SECONDS = 300.0
"""Of the claim; it is renewed before each request."""

YOUNG_SECONDS = 900.0
"""So long after the end of a job its event may be on its way."""
OVERLAP_SECONDS = 3600.0
"""So far before its position a scan begins: a new job may be listed later than a newer one."""
AHEAD_SECONDS = 86_400.0
"""So far into the future a scan reaches, because this machine's clock may be behind."""
WATCH_PAUSE_SECONDS = (600.0, 10_800.0)
"""Shortest and longest pause between two looks at a job that has not ended: a quarter of the time
since it was first seen."""
MOST_THROTTLES = 8
"""In a row, before a pass is given up."""
MOST_WATCHED = 100_000
_SAME_SECOND = 1.0
_SETTLED = {JobState.SYNCED, JobState.WRITING, JobState.SKIPPED, JobState.REJECTED}

Answer = TypeVar("Answer")


class Verdict(StrEnum):
    """What becomes of a job that a pass has seen: a closed set, used as metric label."""

    KNOWN = "known"  # it has a row in the checkpoint, or a status that is not synced
    ENQUEUED = "enqueued"  # nothing is known of it: a message is sent
    WATCHING = "watching"  # it has not ended
    TOO_YOUNG = "too_young"  # it ended so recently that its event may be on its way


class Jobs(Protocol):
    """What a pass needs of `daemon.aws.ports.TrainingJobs`."""

    @property
    def elsewhere(self) -> Mapping[str, Jobs]: ...

    async def list_page(
        self, *, created_after: float, created_before: float, token: str | None = None
    ) -> JobPage: ...

    async def describe(self, name: str) -> Mapping[str, Any]: ...


class Sender(Protocol):
    """What a pass needs of `daemon.aws.ports.Queue`."""

    async def send(self, entries: Sequence[OutgoingMessage]) -> Sequence[Sent | Failed]: ...


class Records(Protocol):
    """What a pass needs of `daemon.checkpoint.ports.Checkpoint`."""

    async def claim(self, job_arn: str, lease_seconds: float) -> Claim | ClaimedElsewhere: ...
    async def renew(self, claims: Sequence[Claim], lease_seconds: float) -> Sequence[Claim]: ...
    async def release(self, claim: Claim) -> None: ...
    async def described(self, job_arn: str) -> Sequence[JobRecord]: ...
    async def record_enqueued(self, jobs: Sequence[EnqueuedJob]) -> None: ...
    async def watch(self, jobs: Sequence[WatchedJob]) -> None: ...
    async def unwatch(self, job_arns: Sequence[str]) -> None: ...
    async def watched(self, limit: int, not_after: float) -> Sequence[WatchedJob]: ...
    async def watching(self, job_arn: str) -> Sequence[WatchedJob]: ...
    async def note(self, name: str) -> str | None: ...
    async def put_note(self, name: str, value: str | None, claim: Claim | None = None) -> None: ...


class Paused(DaemonError):
    """The pass was given up, because the daemon holds its messages or is not the writer."""


@dataclass(frozen=True, slots=True)
class ReconcileRules:
    """The settings, as plain data.

    Attributes:
        statuses: of jobs that are synced.
        look_back_seconds: a row that changed within this time leaves its job alone.
        longest_job_seconds: how far the first scan reaches back.
    """

    statuses: Collection[str]
    look_back_seconds: float
    longest_job_seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """What the checkpoint keeps between two passes."""

    position: float | None = None
    """Creation time of the newest job of a complete scan, in epoch seconds; None: no job yet."""
    began_at: float | None = None
    """When the last complete pass began, in epoch seconds; None: there was none."""
    ended_at: float | None = None

    @classmethod
    def of(cls, note: str | None) -> Progress:
        """Reads a note. One that cannot be read is none: the scan begins anew."""
        try:
            members = json.loads(note or "{}")
            numbers = [members.get(name) for name in ("position", "began_at", "ended_at")]
        except (ValueError, AttributeError):
            return cls()
        usable = [isinstance(each, int | float) and math.isfinite(each) for each in numbers]
        return cls(*(each if ok else None for each, ok in zip(numbers, usable, strict=True)))

    @property
    def note(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class ReconcileEdges:
    """What a pass works with.

    Attributes:
        may_go_on: asked before each request; False gives the pass up.
        on_job: called with the verdict on each job, once it has been carried out.
        on_request: called before each request.
        lists: the pace of ListTrainingJobs.
        describes: the pace of DescribeTrainingJob, whose rate the flow shares.
    """

    jobs: Jobs
    queue: Sender
    checkpoint: Records
    may_go_on: Callable[[], bool]
    on_job: Callable[[Verdict], None]
    on_request: Callable[[], None]
    lists: Pace
    describes: Pace


def decide(job: ListedJob, row: JobRecord | None, rules: ReconcileRules, now: float) -> Verdict:
    """What becomes of a job.

    Args:
        job: as SageMaker lists or describes it.
        row: its own in the checkpoint.
        rules: the settings.
        now: epoch seconds.
    """
    if row is not None and _leaves_alone(row, rules, now):
        return Verdict.KNOWN
    if job.status not in TERMINAL_STATUSES:
        return Verdict.WATCHING
    if job.status not in rules.statuses:
        return Verdict.KNOWN
    if now - _ended_at(job) < YOUNG_SECONDS:
        return Verdict.TOO_YOUNG
    return Verdict.ENQUEUED


async def reconcile_once(edges: ReconcileEdges, rules: ReconcileRules, claim: Claim) -> Progress:
    """One pass: scans the jobs created since the last one, then looks at those it watches.

    Args:
        edges: what it works with.
        rules: the settings.
        claim: on `CLAIM`.

    Returns:
        The new progress, which is in the checkpoint.

    Raises:
        EdgeFault: something failed; nothing that was not seen counts as seen.
        LeaseLost: another process has the claim.
        Paused: `edges.may_go_on` says no.
    """
    began_at = wall()
    before = Progress.of(await edges.checkpoint.note(NOTE))
    run = _Pass(edges, rules, claim)
    position = before.position
    for where in ("", *edges.jobs.elsewhere):
        with run.keeping_to_itself(where):
            if where:
                await run.scan_elsewhere(where)
            else:
                position = await run.scan(edges.jobs, position)
    await run.look_at_watched()
    if run.faults:
        progress = replace(before, position=position)
        await edges.checkpoint.put_note(NOTE, progress.note, claim)
        raise next(iter(run.faults.values()))
    progress = Progress(position, began_at, wall())
    await edges.checkpoint.put_note(NOTE, progress.note, claim)
    return progress


def note_of(where: str) -> str:
    """The name of the checkpoint's note with the position in an account and region.

    Args:
        where: ``<account>/<region>``; "": the daemon's own.
    """
    return f"{NOTE} {where}" if where else NOTE


class _Pass:
    """See `reconcile_once`."""

    def __init__(self, edges: ReconcileEdges, rules: ReconcileRules, claim: Claim) -> None:
        self._edges = edges
        self._rules = rules
        self._claim = claim
        self.faults: dict[str, EdgeFault] = {}
        """By account and region that could not be asked."""

    @contextmanager
    def keeping_to_itself(self, where: str) -> Iterator[None]:
        """Notes a fault of SageMaker's in one of several accounts and regions.

        Raises:
            EdgeFault: there is only one.
        """
        try:
            yield
        except EdgeFault as fault:
            if fault.edge is not Edge.SAGEMAKER or not self._edges.jobs.elsewhere:
                raise
            self.faults[where] = fault

    async def scan_elsewhere(self, where: str) -> None:
        """Lists and judges the jobs of another account or region."""
        checkpoint, name = self._edges.checkpoint, note_of(where)
        before = Progress.of(await checkpoint.note(name))
        position = await self.scan(self._edges.jobs.elsewhere[where], before.position)
        if position != before.position:
            await checkpoint.put_note(name, Progress(position).note, self._claim)

    async def scan(self, jobs: Jobs, position: float | None) -> float | None:
        """Lists and judges jobs up to the newest. Returns the new position."""
        now = wall()
        after = now - self._rules.longest_job_seconds
        if position is not None:
            after = position - OVERLAP_SECONDS
        token: str | None = None
        while True:
            page = await self._page(jobs, after, now + AHEAD_SECONDS, token)
            await self._judge(page.jobs)
            created = [job.creation_time.timestamp() for job in page.jobs]
            position = max([*created, *([] if position is None else [position])], default=None)
            token = page.token
            if token is None:
                return position

    async def _page(self, jobs: Jobs, after: float, before: float, token: str | None) -> JobPage:
        return await self._asked(
            self._edges.lists,
            lambda: jobs.list_page(created_after=after, created_before=before, token=token),
        )

    async def look_at_watched(self) -> None:
        """Describes the jobs on the watch list that are due."""
        now = wall()
        for job in await self._edges.checkpoint.watched(MOST_WATCHED, math.inf):
            # a moment that is further away was noted under a wrong clock
            where = self._where(job.job_arn)
            due = not now < job.look_again_at <= now + WATCH_PAUSE_SECONDS[1]
            if due and where not in self.faults:
                with self.keeping_to_itself(where):
                    await self._look_at(job)

    def _where(self, job_arn: str) -> str:
        where = JobArn.parse(job_arn).where
        return where if where in self._edges.jobs.elsewhere else ""

    async def _look_at(self, watched: WatchedJob) -> None:
        checkpoint, now = self._edges.checkpoint, wall()
        row = await self._row(watched.job_arn, watched.creation_time)
        if row is not None and _leaves_alone(row, self._rules, now):
            await self._unwatch(watched)
            self._edges.on_job(Verdict.KNOWN)
            return
        try:
            job = await self._described(watched)
        except JobRefused as refusal:
            log.info("a watched job is gone", job=watched.job_name, detail=refusal.detail)
            await self._unwatch(watched)
            return
        except JobFault as fault:
            log.info("a watched job cannot be read", job=watched.job_name, detail=fault.detail)
            await self._watch_on(watched, now)
            return
        match decide(job, row, self._rules, now):
            case Verdict.WATCHING:
                await self._watch_on(watched, now)
                self._edges.on_job(Verdict.WATCHING)
            case Verdict.TOO_YOUNG:
                again = _ended_at(job) + YOUNG_SECONDS
                await checkpoint.watch([replace(watched, look_again_at=again)])
                self._edges.on_job(Verdict.TOO_YOUNG)
            case Verdict.ENQUEUED:
                await self._send([(job, row)])
                await self._unwatch(watched)
            case Verdict.KNOWN:
                await self._unwatch(watched)
                self._edges.on_job(Verdict.KNOWN)

    async def _described(self, watched: WatchedJob) -> ListedJob:
        """The job as DescribeTrainingJob has it.

        Raises:
            JobRefused: it is gone, or its name belongs to another job.
            JobFault: its description cannot be read.
        """
        own = self._edges.jobs
        jobs = own.elsewhere.get(self._where(watched.job_arn), own)
        description = await self._asked(
            self._edges.describes, lambda: jobs.describe(watched.job_name)
        )
        try:
            described = DescribedJob.of(description)
        except ValueError as error:
            raise JobFault(Reason.SAGEMAKER_FAULT, str(error)) from error
        created = datetime.fromisoformat(watched.creation_time)
        apart = abs((described.creation_time - created).total_seconds())
        if described.arn.key != watched.job_arn.lower() or apart >= _SAME_SECOND:
            raise JobRefused(Reason.JOB_REPLACED, "its name belongs to another job")
        return ListedJob(
            watched.job_name,
            described.arn.text,
            described_status(description) or "",
            described.creation_time,
            moment(description, "TrainingEndTime"),
            moment(description, "LastModifiedTime"),
        )

    async def _watch_on(self, watched: WatchedJob, now: float) -> None:
        least, most = WATCH_PAUSE_SECONDS
        pause = min(max(least, (now - watched.first_seen_at) / 4), most)
        await self._edges.checkpoint.watch([replace(watched, look_again_at=now + pause)])

    async def _unwatch(self, watched: WatchedJob) -> None:
        """Takes a job off the watch list, with older ones of its name: they are gone."""
        others = await self._edges.checkpoint.watching(watched.job_arn)
        if all(each.creation_time <= watched.creation_time for each in others):
            await self._edges.checkpoint.unwatch([watched.job_arn])

    async def _judge(self, jobs: Sequence[ListedJob]) -> None:
        """Carries out what becomes of listed jobs."""
        now = wall()
        unknown: list[tuple[ListedJob, JobRecord | None]] = []
        watched: list[WatchedJob] = []
        others: list[Verdict] = []
        for job in jobs:
            row = await self._row(job.arn.lower(), iso_milliseconds(job.creation_time))
            verdict = decide(job, row, self._rules, now)
            if verdict is Verdict.ENQUEUED:
                unknown.append((job, row))
                continue
            others.append(verdict)
            if verdict is Verdict.WATCHING:
                watched.append(_watched(job, now, now + WATCH_PAUSE_SECONDS[0]))
            elif verdict is Verdict.TOO_YOUNG:
                watched.append(_watched(job, now, _ended_at(job) + YOUNG_SECONDS))
        if watched:
            await self._edges.checkpoint.watch(watched)
        for verdict in others:
            self._edges.on_job(verdict)
        for first in range(0, len(unknown), MOST_MESSAGES):
            await self._send(unknown[first : first + MOST_MESSAGES])

    async def _row(self, arn: str, creation_time: str) -> JobRecord | None:
        return row_of(await self._edges.checkpoint.described(arn), creation_time)

    async def _send(self, jobs: Sequence[tuple[ListedJob, JobRecord | None]]) -> None:
        """Sends messages about up to ten jobs, given with their rows, and records them."""
        await self._go_on()
        results = await self._edges.queue.send(
            [message_about(job, Origin.RECONCILE) for job, _ in jobs]
        )
        sent: list[EnqueuedJob] = []
        failed: list[Failed] = []
        for (job, row), result in zip(jobs, results, strict=True):
            if isinstance(result, Failed):
                failed.append(result)
            else:
                sent.append(_enqueued(job, row, result.message_id))
        if sent:
            await self._edges.checkpoint.record_enqueued(sent)
        for enqueued in sent:
            log.info("a job without an event is sent to the queue", job=enqueued.job_name)
            self._edges.on_job(Verdict.ENQUEUED)
        for failure in failed:
            raise EdgeFault(
                Edge.QUEUE,
                failure.reason or Reason.UNAVAILABLE,
                f"SQS does not take a message ({failure.code}): {failure.detail}",
            )

    async def _asked(self, pace: Pace, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Makes a request at its pace, several times while it is throttled."""
        throttles = 0
        while True:
            await self._go_on()
            await pace.wait()
            try:
                answer = await call()
            except EdgeFault as fault:
                if fault.reason is not Reason.THROTTLED:
                    raise
                pace.throttled()
                throttles += 1
                if throttles == MOST_THROTTLES:
                    raise
            else:
                pace.worked()
                return answer

    async def _go_on(self) -> None:
        """Raises LeaseLost or Paused."""
        self._edges.on_request()
        if not self._edges.may_go_on():
            raise Paused("the daemon holds its messages")
        if await self._edges.checkpoint.renew([self._claim], LEASE_SECONDS):
            raise LeaseLost(CLAIM)


def _leaves_alone(row: JobRecord, rules: ReconcileRules, now: float) -> bool:
    """Whether the row of a job says that there is nothing to do for it.

    A message about a rejected job would only make another dead letter.
    """
    return row.state in _SETTLED or now - row.updated_at < rules.look_back_seconds


def _ended_at(job: ListedJob) -> float:
    """Epoch seconds. A job that failed to start has no end of its own."""
    return (job.end_time or job.last_modified or job.creation_time).timestamp()


def _watched(job: ListedJob, now: float, look_again_at: float) -> WatchedJob:
    return WatchedJob(
        job.arn.lower(), iso_milliseconds(job.creation_time), job.name, now, look_again_at
    )


def _enqueued(job: ListedJob, row: JobRecord | None, message_id: str) -> EnqueuedJob:
    return EnqueuedJob(
        job.arn.lower(),
        iso_milliseconds(job.creation_time),
        job.name,
        Origin.RECONCILE,
        None if row is None else row.updated_at,
        message_id,
    )
