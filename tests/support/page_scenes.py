"""Scenes for the status page: a daemon's state and a real checkpoint file, served on a socket.

The same scenes make the pictures in docs/images (`python -m tests.browser.pictures`), the browser
tests and the measurements.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from daemon.checkpoint.ports import JobRecord, JobState
from daemon.checkpoint.sqlite import story_rows
from daemon.checkpoint.sqlite.reader import SqliteReader
from daemon.checkpoint.sqlite.schema import MIGRATIONS, migrate
from daemon.clock import wall
from daemon.observability.activity import Minute
from daemon.observability.http import HealthReport, serve_http
from daemon.observability.metrics import Metrics
from daemon.observability.site import StatusSite
from daemon.observability.status import EdgeStatus, QueueStatus, ReconcileStatus, Status
from daemon.reasons import Edge, Reason
from daemon.story import StoryEntry, StoryEvent
from daemon.targets.place import TargetPlace
from tests.support.daemon_process import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from pathlib import Path

    from daemon.observability.http import HttpServer

TARGET = TargetPlace("modeldb-v2", "http://modeldb-proxy:8080/v1")
NOW = 1_764_331_200.0
"""2025-11-28T12:00:00Z."""
MODELS = ("churn-xgb", "demand-lstm", "fraud-gbm", "recs-two-tower", "price-elasticity")
PROJECTS = ("churn", "demand forecast", "fraud", "recommendations", "pricing")


def arn_of(name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{name}"


def record(number: int, *, at: float, **changes: object) -> JobRecord:
    """The row of one synced job, with changes."""
    name = f"{MODELS[number % 5]}-2025-11-28-{number:05d}"
    ids = {
        "project_id": f"5b0e{number:04x}-77aa-4c11-9e6a-0d2f6c1be001",
        "experiment_id": f"c1d2{number:04x}-1f0e-4b7c-8a37-52a4d7e5f002",
        "run_id": f"9f3a{number:04x}-6d4b-4e15-b0c8-7be1a2c3d003",
        "project": PROJECTS[number % 5],
        "experiment": MODELS[number % 5],
        "run": name,
        "run_url": f"http://modeldb:3000/personal/projects/{number}/exp-runs/{number}",
    }
    made = JobRecord(
        job_arn=arn_of(name),
        creation_time="2025-11-28T11:02:07.050Z",
        job_name=name,
        state=JobState.SYNCED,
        reason=Reason.CREATED,
        detail="",
        attempts=0,
        unanswered_writes=0,
        target=TARGET.kind,
        place=TARGET.place,
        target_ids=ids,
        message_id=f"{number:08x}-1f2e-4d3c-8b4a-5c6d7e8f9a0b",
        first_seen_at=at - 2,
        updated_at=at,
    )
    return replace(made, **changes)  # type: ignore[arg-type] # any member


def rejected(number: int, *, at: float) -> JobRecord:
    return record(
        number,
        at=at,
        state=JobState.REJECTED,
        reason=Reason.TAGS_INCOMPLETE,
        detail="the job has MODEL_DB_SYNC, but these tags are missing: MODEL_DB_MODEL_NAME, "
        "MODEL_DB_MODEL_TYPE",
        target_ids={},
    )


def skipped(number: int, *, at: float) -> JobRecord:
    return record(number, at=at, state=JobState.SKIPPED, reason=Reason.NOT_TAGGED, target_ids={})


def waiting(number: int, *, at: float) -> JobRecord:
    return record(
        number,
        at=at,
        state=JobState.RELEASED,
        reason=Reason.TARGET_FAULT,
        detail='createExperimentRun: 500 {"code":2} after three attempts; no run has this mark',
        attempts=2,
        target_ids={},
    )


def of_each_kind(count: int, *, newest: float, seconds: float) -> list[JobRecord]:
    """Rows, the newest first: most are synced."""
    makers = {3: rejected, 11: skipped, 17: waiting}
    return [
        makers.get(number % 20, record)(number, at=newest - number * seconds)
        for number in range(count)
    ]


def minutes(rate: float, now: float, latency: float = 1.4) -> Sequence[Minute]:
    """The last hour of a daemon that syncs so many jobs a minute."""
    made = []
    for index in range(60):
        wave = 0.6 + 0.4 * ((index * 7) % 13) / 13 + (0.5 if 24 <= index <= 33 else 0)
        synced = round(rate * wave)
        outcomes = {"synced": synced, "duplicate": synced // 9, "rejected": int(index % 17 == 5)}
        slow = 1 + ((index * 5) % 7) / 4
        busy = rate > 0
        made.append(
            Minute(
                (now // 60 - 59 + index) * 60,
                outcomes if busy else {},
                latency * (0.8 + ((index * 3) % 5) / 10) if busy else None,
                latency * 1.3 * slow if busy else None,
            )
        )
    return made


@dataclass
class Scene:
    """A daemon's state, and what its checkpoint holds."""

    status: Status
    records: Sequence[JobRecord] = ()
    stories: Mapping[str, Sequence[StoryEntry]] = field(default_factory=dict)
    """By ARN."""
    broken_checkpoint: bool = False


def edges(now: float, since: float = 5_400) -> Sequence[EdgeStatus]:
    return [EdgeStatus(edge, works=True, since=now - since) for edge in Edge]


def base(now: float) -> Status:
    return Status(
        state="ready",
        since=now - 5_400,
        now=now,
        started_at=now - 93_600,
        version="0.1.0",
        target=TARGET,
        edges=edges(now),
        queue=QueueStatus(0, 0, 0, 0, asked_at=now - 12),
        rows={},
        reconcile=ReconcileStatus(now - 1_140, 3),
        minutes=minutes(0, now),
        counted_since=now - 93_600,
    )


def idle(now: float) -> Scene:
    return Scene(replace(base(now), rows={"synced": 0}))


def busy(now: float) -> Scene:
    rows = of_each_kind(60, newest=now - 4, seconds=19)
    status = replace(
        base(now),
        held_here=23,
        oldest_message_seconds=3.4,
        queue=QueueStatus(148, 23, 2, 3, asked_at=now - 7),
        rows={"writing": 4, "synced": 18_204, "rejected": 31, "skipped": 412, "released": 2},
        minutes=minutes(70, now),
    )
    rows[0] = replace(rows[0], reason=Reason.FOUND_IN_TARGET)
    return Scene(status, rows, {TOLD: story(now - 4)})


TOLD = record(0, at=0).job_arn
"""The ARN of the job in `busy` that has a story."""


def story(at: float) -> Sequence[StoryEntry]:
    """A job that had to wait for ModelDB, whose first create was never answered."""
    message = "3f6b2a10-7c1d-4e55-9a0b-51d2c8e7f901"
    owner = "modeldb-sync-0-4f2a"
    told = (
        (-1330.4, StoryEvent.RECEIVED, "receive 1, sent 2025-11-28 11:37:43Z"),
        (-1330.3, StoryEvent.CLAIMED, ""),
        (-1330.1, StoryEvent.DESCRIBED, "Completed"),
        (-1330.0, StoryEvent.TAGS_READ, "by ListTags: complete, project churn"),
        (-1329.9, StoryEvent.WRITE_BEGUN, "run churn-xgb-2025-11-28-00000"),
        (
            -1299.8,
            StoryEvent.HELD,
            "target unreachable: createExperimentRun: no answer within 30 s",
        ),
        (-31.2, StoryEvent.CLAIMED, ""),
        (
            -0.1,
            StoryEvent.OUTCOME,
            "synced (found_in_target), run 9f3a0000-6d4b-4e15-b0c8-7be1a2c3d003",
        ),
    )
    return [
        StoryEntry(
            at + seconds,
            what,
            message if what is not StoryEvent.CLAIMED else "",
            detail,
            owner if what is StoryEvent.CLAIMED else "",
        )
        for seconds, what, detail in told
    ]


def modeldb_down(now: float) -> Scene:
    scene = busy(now - 1_320)
    fault = EdgeStatus(
        Edge.TARGET,
        works=False,
        since=now - 1_320,
        reason=Reason.UNAVAILABLE,
        detail="http://modeldb-proxy:8080/v1: findProjects: 500 after 5.0 s, as ModelDB answers "
        "without its database (PostgreSQL)",
    )
    kept = [each for each in edges(now) if each.edge is not Edge.TARGET]
    quiet = [
        replace(each, outcomes={}, median_seconds=None, slow_seconds=None)
        if each.at > now - 1_320
        else each
        for each in minutes(70, now)
    ]
    status = replace(
        scene.status,
        state="paused",
        since=now - 1_320,
        now=now,
        started_at=now - 93_600,
        counted_since=now - 93_600,
        edges=[fault, *kept],
        held_here=64,
        oldest_message_seconds=1_324,
        queue=QueueStatus(1_512, 64, 0, 3, asked_at=now - 21),
        minutes=quiet,
    )
    return Scene(status, scene.records)


def thousand_jobs(now: float) -> Scene:
    rows = of_each_kind(1_000, newest=now - 40, seconds=97)
    counts: dict[str, int] = {}
    for each in rows:
        counts[each.state] = counts.get(each.state, 0) + 1
    return Scene(replace(base(now), rows=counts, minutes=minutes(0.9, now)), rows)


def not_ready(now: float) -> Scene:
    fault = EdgeStatus(
        Edge.SAGEMAKER,
        works=False,
        since=now - 300,
        reason=Reason.ACCESS_DENIED,
        detail="sagemaker:ListTags is denied to role modeldb-sync; allow it on training-job/*",
    )
    kept = [each for each in edges(now) if each.edge is not Edge.SAGEMAKER]
    status = replace(
        base(now),
        state="not ready",
        since=now - 300,
        edges=[fault, *kept],
        dead_letter_fault="not_found: the dead-letter queue that the redrive policy names is gone",
        hanging=("poller 1: hangs: 12 s past its deadline",),
        reconcile=ReconcileStatus(
            None, 0, "access_denied: sagemaker:ListTrainingJobs is not allowed"
        ),
    )
    return Scene(status, of_each_kind(6, newest=now - 400, seconds=60))


def standing_by(now: float) -> Scene:
    status = replace(
        base(now),
        state="standing by",
        target=TargetPlace("modeldb-v1", "modeldb:6543"),
        standing_by="process 4f2a is the writer; this one takes over when it ends",
    )
    return Scene(status)


def starting(now: float) -> Scene:
    status = replace(
        base(now),
        state="not ready",
        started_at=now - 2,
        since=now - 2,
        counted_since=now - 2,
        edges=[EdgeStatus(edge, works=False, since=now - 2) for edge in Edge],
        queue=None,
        reconcile=None,
    )
    return Scene(status)


def stopping(now: float) -> Scene:
    return Scene(replace(busy(now).status, state="stopping"))


def unreadable(now: float) -> Scene:
    fault = EdgeStatus(
        Edge.CHECKPOINT,
        works=False,
        since=now - 75,
        reason=Reason.STORAGE,
        detail="checkpoint /var/lib/modeldb-sync/checkpoint.db: the disk is full",
    )
    kept = [each for each in edges(now) if each.edge is not Edge.CHECKPOINT]
    status = replace(base(now), state="not ready", since=now - 75, edges=[*kept, fault])
    return Scene(status, broken_checkpoint=True)


SCENES = {
    "idle": idle,
    "busy": busy,
    "modeldb-down": modeldb_down,
    "thousand-jobs": thousand_jobs,
    "not-ready": not_ready,
    "standing-by": standing_by,
    "starting": starting,
    "stopping": stopping,
    "unreadable": unreadable,
}


@dataclass
class FixedSource:
    """A `StatusSource` that says what a test wants."""

    now: Status
    started_at: float = field(default=0.0)

    def status(self, before: Mapping[int, Mapping[str, int]]) -> Status:
        del before
        return self.now


def make_checkpoint(
    path: Path,
    records: Iterable[JobRecord],
    stories: Mapping[str, Sequence[StoryEntry]] | None = None,
) -> None:
    """A checkpoint file with these rows and stories."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    migrate(connection, path, wall(), MIGRATIONS)
    names = [member.name for member in fields(JobRecord)]
    connection.execute("BEGIN")
    connection.executemany(
        f"INSERT OR REPLACE INTO jobs ({', '.join(names)}) "
        f"VALUES ({', '.join(f':{name}' for name in names)})",
        (
            {name: getattr(each, name) for name in names}
            | {"target_ids": json.dumps(dict(each.target_ids)), "steps": json.dumps({})}
            for each in records
        ),
    )
    for arn, entries in (stories or {}).items():
        story_rows.add(connection, TARGET, arn, entries, now=entries[-1].at)
    connection.execute("COMMIT")
    connection.close()


def health() -> HealthReport:
    return HealthReport(ok=True, state="ready", checks={})


@asynccontextmanager
async def served(source: FixedSource, path: Path, *, port: int = 0) -> AsyncIterator[HttpServer]:
    """A server with the status page."""
    server = await serve_http(
        "127.0.0.1",
        port,
        metrics=Metrics(version="0.1.0", target="modeldb-v2"),
        healthz=health,
        readyz=health,
        site=StatusSite(source, SqliteReader(path)),
    )
    try:
        yield server
    finally:
        await server.aclose()


@asynccontextmanager
async def scene_served(scene: Scene, folder: Path) -> AsyncIterator[HttpServer]:
    """A server with the page of a scene."""
    path = folder / "checkpoint.db"
    if scene.broken_checkpoint:
        path.write_bytes(b"no database" * 1000)
    else:
        make_checkpoint(path, scene.records, scene.stories)
    async with served(FixedSource(scene.status), path) as server:
        yield server
