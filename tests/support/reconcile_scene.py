"""Reconcile with a real checkpoint, a SageMaker in memory, a queue that keeps what it is sent, and
a clock that a test moves.
"""

from __future__ import annotations

import contextlib
import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from unittest import mock

from daemon.aws.ports import Failed, JobPage, ListedJob, Sent
from daemon.checkpoint.ports import Claim
from daemon.errors import EdgeFault, JobRefused
from daemon.intake.backoff import Backoff
from daemon.operations.pacing import Pace
from daemon.operations.reconcile import (
    CLAIM,
    LEASE_SECONDS,
    NOTE,
    Progress,
    ReconcileEdges,
    ReconcileRules,
    reconcile_once,
)
from daemon.operations.reconcile_loop import ReconcileLoop, Surroundings
from daemon.reasons import Edge, Reason
from daemon.training_job.identity import JobMark, iso_milliseconds
from tests.support.checkpoint_calls import FakeClock, checkpoints_at, several_owners
from tests.support.job_lister import JobLister, ListRefused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from daemon.aws.ports import OutgoingMessage
    from daemon.checkpoint.ports import JobRecord
    from daemon.checkpoint.sqlite.store import SqliteCheckpoint
    from daemon.operations.reconcile import Verdict
    from tests.support.checkpoint_calls import Start

HOUR = 3600.0
DAY = 86_400.0
LOOK_BACK = DAY
LONGEST = 5 * DAY
EVERY = HOUR
DENIED = EdgeFault(
    Edge.SAGEMAKER, Reason.ACCESS_DENIED, "permission sagemaker:ListTrainingJobs is missing"
)


ACCOUNT = "123456789012"


def arn_of(name: str, account: str = ACCOUNT) -> str:
    return f"arn:aws:sagemaker:eu-west-1:{account}:training-job/{name}"


class ListedSageMaker:
    """ListTrainingJobs and DescribeTrainingJob in memory.

    Attributes:
        lister: has the rate limit; none by default.
        lists: the periods asked for, one entry a scan.
        described: names, in order.
        faults: raised by the next requests, of either kind; None: that one works.
    """

    def __init__(self, account: str = ACCOUNT) -> None:
        self.account = account
        self.elsewhere: dict[str, ListedSageMaker] = {}
        self.lister = JobLister(lambda: 0.0, rate=None)
        self.lists: list[tuple[float, float]] = []
        self.described: list[str] = []
        self.faults: list[EdgeFault | None] = []
        self._descriptions: dict[str, dict[str, Any]] = {}

    def put(self, name: str, created: float, status: str, ended: float | None = None) -> None:
        """Adds a job, or changes it."""
        description = {
            "TrainingJobName": name,
            "TrainingJobArn": arn_of(name, self.account),
            "TrainingJobStatus": status,
            "CreationTime": created,
            **({} if ended is None else {"TrainingEndTime": ended}),
        }
        self._descriptions[name] = description
        self.lister.put(description)

    def delete(self, name: str) -> None:
        del self._descriptions[name]
        self.lister.remove(name)

    async def list_page(
        self, *, created_after: float, created_before: float, token: str | None = None
    ) -> JobPage:
        if token is None:
            self.lists.append((created_after, created_before))
        self._fail()
        try:
            page = self.lister.page(
                {
                    "CreationTimeAfter": created_after,
                    "CreationTimeBefore": created_before,
                    "MaxResults": 100,
                    **({} if token is None else {"NextToken": token}),
                }
            )
        except ListRefused as refusal:
            raise EdgeFault(Edge.SAGEMAKER, Reason.THROTTLED, str(refusal)) from refusal
        return JobPage(
            [_listed(summary) for summary in page["TrainingJobSummaries"]], page.get("NextToken")
        )

    async def describe(self, name: str) -> Mapping[str, Any]:
        self.described.append(name)
        self._fail()
        if name not in self._descriptions:
            raise JobRefused(Reason.JOB_GONE, f"SageMaker does not have {name}")
        return {
            key: _moment(value) if isinstance(value, float) else value
            for key, value in self._descriptions[name].items()
        }

    def _fail(self) -> None:
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault


class KeepingQueue:
    """Takes every message.

    Attributes:
        batches: the names of the jobs, by call.
        sent: the messages, in order.
        fault: raised instead.
        refused: names of jobs whose messages are not taken.
    """

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.sent: list[OutgoingMessage] = []
        self.fault: EdgeFault | None = None
        self.refused: set[str] = set()

    @property
    def jobs(self) -> list[str]:
        return [name for batch in self.batches for name in batch]

    async def send(self, entries: Sequence[OutgoingMessage]) -> Sequence[Sent | Failed]:
        if self.fault is not None:
            raise self.fault
        names = [json.loads(entry.body)["TrainingJobName"] for entry in entries]
        self.batches.append([name for name in names if name not in self.refused])
        self.sent += entries
        return [
            Failed("InternalError", "try again", stale=False)
            if name in self.refused
            else Sent(f"m-{name}")
            for name in names
        ]


@dataclass
class ReconcileScene:
    """See `reconcile_scene`.

    Attributes:
        verdicts: names of the verdicts of all passes, in order.
        may_go_on: whether the daemon works.
        backlog_seconds: what it says of its backlog.
        failures: what the loop reported.
    """

    checkpoint: SqliteCheckpoint
    start: Start
    clock: FakeClock
    sagemaker: ListedSageMaker = field(default_factory=ListedSageMaker)
    queue: KeepingQueue = field(default_factory=KeepingQueue)
    rules: ReconcileRules = field(
        default_factory=lambda: ReconcileRules(frozenset({"Completed"}), LOOK_BACK, LONGEST)
    )
    verdicts: list[Verdict] = field(default_factory=list)
    may_go_on: bool = True
    backlog_seconds: float | None = None
    failures: list[EdgeFault | None] = field(default_factory=list)
    successes: list[float] = field(default_factory=list)
    checkpoint_faults: list[EdgeFault] = field(default_factory=list)
    requests: int = 0

    def edges(self, checkpoint: SqliteCheckpoint | None = None) -> ReconcileEdges:
        return ReconcileEdges(
            self.sagemaker,
            self.queue,
            checkpoint or self.checkpoint,
            may_go_on=lambda: self.may_go_on,
            on_job=self.verdicts.append,
            on_request=self._count,
            lists=Pace(least_seconds=0.0, most_seconds=0.0),
            describes=Pace(least_seconds=0.0, most_seconds=0.0),
        )

    def loop(self, checkpoint: SqliteCheckpoint | None = None) -> ReconcileLoop:
        return ReconcileLoop(
            self.edges(checkpoint),
            self.rules,
            EVERY,
            Surroundings(
                backlog_seconds=lambda: self.backlog_seconds,
                on_fault=self.checkpoint_faults.append,
                on_success=self.successes.append,
                on_failure=self.failures.append,
            ),
            Backoff(60.0, 3600.0, random.Random(1)),
        )

    async def claim(self) -> Claim:
        claim = await self.checkpoint.claim(CLAIM, LEASE_SECONDS)
        assert isinstance(claim, Claim)
        return claim

    async def one_pass(self) -> Progress:
        claim = await self.claim()
        try:
            return await reconcile_once(self.edges(), self.rules, claim)
        finally:
            await self.checkpoint.release(claim)

    async def progress(self) -> Progress:
        return Progress.of(await self.checkpoint.note(NOTE))

    async def row(self, name: str, created: float) -> JobRecord | None:
        return await self.checkpoint.job(mark_of(name, created))

    async def watched(self) -> dict[str, float]:
        """Seconds until the next look at each job on the watch list."""
        return {
            job.job_name: job.look_again_at - self.clock.now
            for job in await self.checkpoint.watched(1000, float("inf"))
        }

    def ended(
        self, name: str, ago: float = HOUR, ran: float = HOUR, status: str = "Completed"
    ) -> float:
        """A job that ended some time ago. Returns its creation time."""
        created = self.clock.now - ago - ran
        self.sagemaker.put(name, created, status, created + ran)
        return created

    def running(self, name: str, for_seconds: float = HOUR, status: str = "InProgress") -> float:
        """A job that runs for some time already. Returns its creation time."""
        created = self.clock.now - for_seconds
        self.sagemaker.put(name, created, status)
        return created

    def _count(self) -> None:
        self.requests += 1


def mark_of(name: str, created: float) -> JobMark:
    return JobMark(arn_of(name), iso_milliseconds(_moment(created)))


@contextlib.asynccontextmanager
async def reconcile_scene(path: Path) -> AsyncIterator[ReconcileScene]:
    """Args: path: of the checkpoint."""
    clock = FakeClock()
    with (
        checkpoints_at(clock),
        mock.patch("daemon.operations.reconcile.wall", clock),
        mock.patch("daemon.operations.reconcile_loop.wall", clock),
    ):
        async with several_owners(path) as start:
            yield ReconcileScene(await start(), start, clock)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _listed(summary: Mapping[str, Any]) -> ListedJob:
    ended = summary.get("TrainingEndTime")
    return ListedJob(
        summary["TrainingJobName"],
        summary["TrainingJobArn"],
        summary["TrainingJobStatus"],
        _moment(summary["CreationTime"]),
        None if ended is None else _moment(ended),
    )
