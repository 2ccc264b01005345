"""What a job costs in a checkpoint of a thousand and of a million jobs.

    python -m benchmarks.checkpoint_growth --folder /var/tmp/bench

Two SQLite checkpoints, one small and one large, of the same kind of rows: each job with its story,
the names scattered like those of real jobs, 10,000 projects. In turns, both take new jobs as the
flow does: claim, look for a row, begin the write, record the run. Prints the time and the processor
time of a job in each, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sqlite3
import statistics
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from daemon.checkpoint.ports import Checkpoint, Claim
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.reasons import Reason
from daemon.story import StoryEntry, StoryEvent
from daemon.targets.place import TargetPlace
from daemon.training_job.identity import JobMark

TARGET = TargetPlace("modeldb-v2", "http://modeldb.example.com:8080/v1")
PROJECTS = 10_000
CREATED = "2026-11-28T11:02:07.050Z"
BATCH = 50_000
"""Rows of one transaction of the filling."""
_MODEL = "model-of-the-rows"
_NUMBERS = (
    "WITH RECURSIVE numbers (n) AS (SELECT ? UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?)"
)


@dataclass
class Figures:
    """Milliseconds of a job, one entry a round."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


async def main() -> None:
    """Fills both checkpoints, runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, help="of the checkpoints; default: a temporary one")
    parser.add_argument("--small", type=int, default=1000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--jobs", type=int, default=300, help="of a round")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        figures = await compare(
            folder, arguments.small, arguments.large, arguments.jobs, arguments.rounds
        )
    print("rows of jobs   ms a job: median    least     most   CPU ms a job: median")
    for rows, each in figures.items():
        print(
            f"{rows:>12,} {statistics.median(each.wall):>19.2f} {min(each.wall):>8.2f} "
            f"{max(each.wall):>8.2f} {statistics.median(each.processor):>22.2f}"
        )
    small, large = figures[arguments.small], figures[arguments.large]
    print(
        f"ratio of the medians: {ratio(small.wall, large.wall):.2f} in time, "
        f"{ratio(small.processor, large.processor):.2f} in processor time"
    )


def ratio(one: list[float], other: list[float]) -> float:
    return statistics.median(other) / statistics.median(one)


async def compare(
    folder: Path, small: int, large: int, jobs: int, rounds: int
) -> dict[int, Figures]:
    """Figures by the number of rows."""
    figures: dict[int, Figures] = {}
    async with contextlib.AsyncExitStack() as stack:
        checkpoints: dict[int, Checkpoint] = {}
        for rows in (small, large):
            path = folder / f"{uuid.uuid4().hex}.db"
            checkpoints[rows] = await filled(path, rows)
            stack.push_async_callback(checkpoints[rows].aclose)
            figures[rows] = Figures()
            print(f"{rows:,} jobs: {path.stat().st_size / 2**20:,.0f} MiB", flush=True)
        for _ in range(rounds):
            for rows, checkpoint in checkpoints.items():
                begun, worked = time.perf_counter(), time.process_time()
                await take(checkpoint, jobs)
                figures[rows].wall.append((time.perf_counter() - begun) / jobs * 1e3)
                figures[rows].processor.append((time.process_time() - worked) / jobs * 1e3)
    return figures


async def filled(path: Path, rows: int) -> Checkpoint:
    """A checkpoint with a number of jobs: copies of one that was written as the flow writes it."""
    checkpoint = await open_sqlite_checkpoint(path, TARGET)
    await sync_one(checkpoint, _MODEL)
    await checkpoint.aclose()
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -2000000")
        for table in ("jobs", "stories"):
            connection.execute(f"CREATE TEMP TABLE model_{table} AS SELECT * FROM {table}")  # noqa: S608 - two names of ours
        for first in range(1, rows, BATCH):
            numbers = (first, min(rows, first + BATCH))
            connection.execute("BEGIN")
            for table in ("jobs", "stories"):
                connection.execute(_copies(connection, table), numbers)
            connection.execute("COMMIT")
    finally:
        connection.close()
    return await open_sqlite_checkpoint(path, TARGET)


def _copies(connection: sqlite3.Connection, table: str) -> str:
    """The statement that copies the model's row, with other names in no order, for a range of
    numbers.
    """
    name = "printf('job-%08x', (n * 2654435761) % 4294967296)"
    other = {
        "job_arn": f"replace(job_arn, '{_MODEL}', {name})",
        "job_name": name,
        "project": f"'project-' || (n % {PROJECTS})",
        "updated_at": "updated_at - n / 10.0",
    }
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    names, values = ", ".join(columns), ", ".join(other.get(each, each) for each in columns)
    return f"{_NUMBERS} INSERT INTO {table} ({names}) SELECT {values} FROM model_{table}, numbers"  # noqa: S608 - names of the schema


async def take(checkpoint: Checkpoint, jobs: int, at_once: int = 16) -> None:
    """New jobs with names in no order, several at once, as in the daemon."""
    names = [f"job-{uuid.uuid4().hex}" for _ in range(jobs)]

    async def some() -> None:
        while names:
            await sync_one(checkpoint, names.pop())

    await asyncio.gather(*(some() for _ in range(at_once)))


async def sync_one(checkpoint: Checkpoint, name: str) -> None:
    """The calls of the flow for a new job."""
    arn = f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{name}"
    mark = JobMark(arn, CREATED)
    now = time.time()
    claim = await checkpoint.claim(arn, 60, at_once=False)
    assert isinstance(claim, Claim)
    assert await checkpoint.job(mark) is None
    begun = [
        StoryEntry(now, StoryEvent.RECEIVED, "m" * 36, "receive 1, sent 2026-11-28 11:02:07Z"),
        StoryEntry(now, StoryEvent.CLAIMED, owner=claim.owner),
        StoryEntry(now, StoryEvent.DESCRIBED, detail="Completed"),
        StoryEntry(now, StoryEvent.TAGS_READ, detail="in the event: complete"),
    ]
    project = f"project-{hash(name) % PROJECTS}"
    await checkpoint.begin_write(
        claim,
        mark,
        name,
        lock_name=f"modeldb-v2/run/experiment/{name}",
        project=project,
        story=begun,
    )
    await checkpoint.record_synced(
        claim,
        mark,
        name,
        reason=Reason.CREATED,
        detail="",
        target_ids={"run_id": uuid.uuid4().hex, "run": name},
        message_id="m" * 36,
        project=project,
        story=[StoryEntry(now, StoryEvent.OUTCOME, "m" * 36, "synced (created)")],
    )


if __name__ == "__main__":
    asyncio.run(main())
