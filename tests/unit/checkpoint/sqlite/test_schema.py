from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.ports import (
    JobState,
    WriterLease,
)
from daemon.checkpoint.sqlite.schema import APPLICATION_ID, MIGRATIONS, migrate
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.errors import SetupFault
from tests.support.checkpoint_calls import (
    MARK,
    TARGET,
    FakeClock,
    claimed,
    row,
    synced,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.checkpoint_calls import Start


STEPS = (
    (f"PRAGMA application_id = {APPLICATION_ID}", "CREATE TABLE seen (at REAL)"),
    ("ALTER TABLE seen ADD COLUMN step INTEGER", "INSERT INTO seen VALUES (:now, 2)"),
    ("UPDATE seen SET step = step * 10 + 3",),
)


@pytest.mark.parametrize("from_version", [0, 1, 2])
def test_steps_are_applied_in_order_from_where_the_file_stands(
    path: Path, from_version: int
) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, 100.0, STEPS[:from_version])

        migrate(connection, path, 200.0, STEPS)
        migrate(connection, path, 300.0, STEPS)

        assert connection.execute("SELECT * FROM seen").fetchall() == [
            (100.0 if from_version == 2 else 200.0, 23)
        ]
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)


async def test_a_file_of_the_first_version_keeps_its_jobs(path: Path, clock: FakeClock) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, 100.0, MIGRATIONS[:1])
        connection.execute(
            "INSERT INTO jobs VALUES (?, ?, 'churn', 'writing', '', '', 0, 1, 'modeldb-v2', "
            "'{}', 'm-1', 100, 100)",
            (MARK.arn, MARK.creation_time),
        )
    checkpoint = await open_sqlite_checkpoint(path, TARGET)
    record = await row(checkpoint)
    assert (record.state, record.unanswered_writes, record.steps) == (JobState.WRITING, 1, {})
    assert isinstance(
        await checkpoint.take_writer_lease("modeldb", 60, grace_seconds=0), WriterLease
    )
    await checkpoint.aclose()


def test_a_step_that_fails_leaves_the_file_at_its_version(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, 0.0, STEPS[:1])

        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            migrate(connection, path, 0.0, (*STEPS[:2], ("DELETE FROM no_such_table",)))

        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("SELECT * FROM seen").fetchall() == []


def test_a_step_that_ends_the_transaction_leaves_the_file_at_its_version(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, 0.0, STEPS[:2])
        steps = (
            *STEPS[:2],
            (
                "CREATE TABLE only (one PRIMARY KEY)",
                *["INSERT OR ROLLBACK INTO only VALUES (1)"] * 2,
            ),
        )

        with pytest.raises(sqlite3.IntegrityError):
            migrate(connection, path, 0.0, steps)

        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


async def test_rows_of_an_older_version_are_still_there_after_a_step(
    start: Start, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = await start()
    await synced(older, await claimed(older))
    await older.aclose()
    steps = (*MIGRATIONS, ("ALTER TABLE jobs ADD COLUMN note TEXT NOT NULL DEFAULT 'none'",))
    with monkeypatch.context() as patched:
        patched.setattr("daemon.checkpoint.sqlite.database.MIGRATIONS", steps)
        newer = await start()
        await newer.aclose()

    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT state, note FROM jobs").fetchall() == [("synced", "none")]
    with pytest.raises(SetupFault, match="written by a newer version"):
        await start()
