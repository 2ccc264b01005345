"""Plans of queries, and stories in files of older versions, in SQLite."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.ports import Claim, HistoryFilter, JobState
from daemon.checkpoint.sqlite import job_rows, story_rows, watched_rows
from daemon.checkpoint.sqlite.schema import MIGRATIONS, migrate
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.story import StoryEntry, StoryEvent
from daemon.targets.place import ANY_TARGET
from tests.support.checkpoint_calls import (
    ARN,
    LEASE,
    MARK,
    NAME,
    TARGET,
    FakeClock,
    arn_of,
    claimed,
    mark_of,
    synced,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from daemon.checkpoint.sqlite.store import SqliteCheckpoint


def entry(at: float, what: StoryEvent = StoryEvent.CLAIMED, detail: str = "") -> StoryEntry:
    return StoryEntry(at, what, "m-1", detail, "process-1")


async def test_jobs_are_found_by_the_name_of_their_rows(checkpoint: SqliteCheckpoint) -> None:
    await synced(checkpoint, await claimed(checkpoint))
    await synced(checkpoint, await claimed(checkpoint, arn_of(2)), mark_of(2))
    named = await checkpoint.jobs_named(NAME.upper())
    assert {each.job_arn for each in named} == {ARN, arn_of(2)}  # the helpers name all alike


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (lambda database: job_rows.named(database, TARGET, NAME), "jobs_by_name (job_name=?)"),
        (lambda database: job_rows.named(database, TARGET, ARN), "(job_arn=?"),
        (lambda database: job_rows.named(database, ANY_TARGET, ARN), "(job_arn=?"),
        (lambda database: story_rows.find(database, TARGET, ARN), "(job_arn=?"),
        (lambda database: watched_rows.due(database, TARGET, 10, 1.0), "look_again_at<?"),
        (lambda database: job_rows.messages_about(database, ARN), "(job_arn=?"),
        (lambda database: job_rows.history(database, HistoryFilter()), "jobs_by_update"),
        (
            lambda database: job_rows.history(database, HistoryFilter(states=[JobState.SYNCED])),
            "(state=?",
        ),
        (
            lambda database: job_rows.history(database, HistoryFilter(reasons=["created"])),
            "(reason=?",
        ),
        (
            lambda database: job_rows.history(database, HistoryFilter(project="a", since=1.0)),
            "(project=? AND updated_at>?",
        ),
        (
            lambda database: job_rows.history(database, HistoryFilter(since=1.0, until=2.0)),
            "(updated_at>? AND updated_at<?",
        ),
    ],
)
def test_no_question_reads_a_whole_table(
    path: Path, query: Callable[[sqlite3.Connection], object], index: str
) -> None:
    asked: list[str] = []
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        migrate(connection, path, 100.0)
        connection.set_trace_callback(asked.append)
        query(connection)
        connection.set_trace_callback(None)
        plans = [
            step["detail"]
            for statement in asked
            for step in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
        ]
    assert [plan for plan in plans if index in plan], plans
    assert [plan for plan in plans if plan.startswith("SCAN") and "INDEX" not in plan] == []


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_a_file_of_an_older_version_keeps_its_rows(
    path: Path, clock: FakeClock, version: int
) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, 100.0, MIGRATIONS[:version])
        columns = {
            "job_arn": ARN,
            "creation_time": MARK.creation_time,
            "job_name": NAME,
            "state": "synced",
            "reason": "created",
            "detail": "",
            "attempts": 1,
            "unanswered_writes": 0,
            "target": TARGET.kind,
            "target_ids": '{"run_id": "r-1"}',
            "message_id": "m-1",
            "first_seen_at": 90.0,
            "updated_at": 100.0,
            **({"steps": "{}"} if version >= 2 else {}),
            **({"place": TARGET.place} if version >= 3 else {}),
        }
        connection.execute(
            f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            list(columns.values()),
        )
        connection.execute(
            "INSERT INTO rejected_messages VALUES ('m-7', ?, 'job_gone', '', 'body', 95)", (ARN,)
        )
    checkpoint = await open_sqlite_checkpoint(path, TARGET)
    assert [each.project for each in await checkpoint.history(HistoryFilter())] == [""]
    (found,) = await checkpoint.jobs_named(NAME)
    assert (found.state, found.target_ids) == (JobState.SYNCED, {"run_id": "r-1"})
    assert found.done is (version >= 3)
    assert await checkpoint.story(ARN) == []
    (message,) = await checkpoint.rejected_about(ARN)
    assert message.body == "body"
    claim = await checkpoint.claim(ARN, LEASE)
    assert isinstance(claim, Claim)
    await checkpoint.release(claim, story=[entry(101.0)])
    assert len(await checkpoint.story(ARN)) == 1
    await checkpoint.aclose()
