"""Short calls of a checkpoint with values that do not matter, and a clock that a test moves."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest import mock

from daemon.checkpoint.ports import Claim
from daemon.checkpoint.sqlite.store import SqliteCheckpoint, open_sqlite_checkpoint
from daemon.reasons import Reason
from daemon.targets.place import TargetPlace
from daemon.training_job.identity import JobMark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from daemon.checkpoint.ports import Checkpoint, JobRecord

    Start = Callable[[], Awaitable[SqliteCheckpoint]]

ARN = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/churn-2025-11-20"
MARK = JobMark(ARN, "2025-11-20T08:40:00.050Z")
NAME = "churn-2025-11-20"
TARGET = TargetPlace("modeldb-v2", "http://modeldb:8080/v1")
LEASE = 60.0


@dataclass
class FakeClock:
    now: float = 1_763_628_000.0

    def __call__(self) -> float:
        return self.now


@contextlib.contextmanager
def checkpoints_at(clock: Callable[[], float]) -> Iterator[None]:
    """The wall clock of every checkpoint as long as the context lasts."""
    with (
        mock.patch("daemon.checkpoint.sqlite.store.wall", clock),
        mock.patch("daemon.checkpoint.sqlite.database.wall", clock),
        # time passes, nobody sets the clock
        mock.patch("daemon.checkpoint.sqlite.database.clock_ahead", return_value=0.0),
        mock.patch("daemon.checkpoint.sqlite.process_locks.wall", clock),
    ):
        yield


@contextlib.asynccontextmanager
async def several_owners(path: Path) -> AsyncIterator[Start]:
    """A function that opens one more checkpoint, that is one more owner, on the same file."""
    opened: list[SqliteCheckpoint] = []

    async def start() -> SqliteCheckpoint:
        opened.append(await open_sqlite_checkpoint(path, TARGET, busy_seconds=0.2))
        return opened[-1]

    yield start
    for checkpoint in opened:
        await checkpoint.aclose()


@contextlib.contextmanager
def locked_by_another_program(path: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def arn_of(number: int) -> str:
    return f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/job-{number}"


def mark_of(number: int) -> JobMark:
    return JobMark(arn_of(number), "2025-11-20T08:40:00.050Z")


async def claimed(checkpoint: Checkpoint, arn: str = ARN) -> Claim:
    claim = await checkpoint.claim(arn, LEASE)
    assert isinstance(claim, Claim)
    return claim


async def begin(
    checkpoint: Checkpoint, claim: Claim, mark: JobMark = MARK, lock_name: str = "run/churn"
) -> JobRecord:
    return await checkpoint.begin_write(claim, mark, NAME, lock_name=lock_name)


async def synced(
    checkpoint: Checkpoint, claim: Claim, mark: JobMark = MARK, *, run_id: str = "r-1"
) -> None:
    await checkpoint.record_synced(
        claim,
        mark,
        NAME,
        reason=Reason.CREATED,
        detail="",
        target_ids={"run_id": run_id},
        message_id="m-1",
    )


async def deferred(
    checkpoint: Checkpoint,
    claim: Claim,
    mark: JobMark | None = MARK,
    *,
    unanswered_writes: int | None = None,
    detail: str = "503",
) -> None:
    await checkpoint.record_deferred(
        claim,
        mark,
        NAME,
        reason=Reason.TARGET_FAULT,
        detail=detail,
        unanswered_writes=unanswered_writes,
        message_id="m-2",
    )


async def rejected(
    checkpoint: Checkpoint,
    claim: Claim | None,
    mark: JobMark | None = MARK,
    *,
    job_arn: str = ARN,
    message_id: str = "m-3",
    unanswered_writes: int | None = None,
) -> None:
    await checkpoint.record_rejected(
        claim,
        mark,
        NAME,
        job_arn=job_arn,
        reason=Reason.TAGS_INCOMPLETE,
        detail="no MODEL_DB_MODEL_NAME",
        message_id=message_id,
        unanswered_writes=unanswered_writes,
    )


async def skipped(checkpoint: Checkpoint, claim: Claim, mark: JobMark = MARK) -> None:
    await checkpoint.record_skipped(claim, mark, NAME, reason=Reason.NOT_TAGGED, message_id="m-4")


async def row(checkpoint: Checkpoint, mark: JobMark = MARK) -> JobRecord:
    record = await checkpoint.job(mark)
    assert record is not None
    return record
