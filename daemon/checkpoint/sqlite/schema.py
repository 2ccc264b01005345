"""The schema of the SQLite checkpoint, as the migrations from an empty file to the newest version.

A released step is never changed: a new version is a new step at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.errors import SetupFault

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path

APPLICATION_ID = 0x6D64_7379
"""Marks the file as ours ("mdsy"): SQLite files of other programs also start at version 0."""

_VERSION_1 = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    # created_at, probed_at: epoch seconds
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID",
    "INSERT INTO meta (name, value) VALUES ('created_at', :now)",
    # AUTOINCREMENT never reuses a number, even after the newest claim was deleted: hence the fence.
    """
    CREATE TABLE claims (
        fence INTEGER PRIMARY KEY AUTOINCREMENT,
        job_arn TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        lease_until REAL NOT NULL
    )
    """,
    # A lock ends with its claim, however that ends.
    """
    CREATE TABLE name_locks (
        name TEXT PRIMARY KEY,
        fence INTEGER NOT NULL REFERENCES claims (fence) ON DELETE CASCADE,
        lease_until REAL NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX name_locks_by_fence ON name_locks (fence)",
    """
    CREATE TABLE jobs (
        job_arn TEXT NOT NULL,
        creation_time TEXT NOT NULL,
        job_name TEXT NOT NULL,
        state TEXT NOT NULL,
        reason TEXT NOT NULL,
        detail TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        unanswered_writes INTEGER NOT NULL,
        target TEXT NOT NULL,
        target_ids TEXT NOT NULL,
        message_id TEXT NOT NULL,
        first_seen_at REAL NOT NULL,
        updated_at REAL NOT NULL,
        PRIMARY KEY (job_arn, creation_time)
    )
    """,
    "CREATE INDEX jobs_by_state ON jobs (state, updated_at)",
    "CREATE INDEX jobs_by_update ON jobs (updated_at)",
    """
    CREATE TABLE rejected_messages (
        message_id TEXT PRIMARY KEY,
        job_arn TEXT NOT NULL,
        reason TEXT NOT NULL,
        detail TEXT NOT NULL,
        body TEXT,
        rejected_at REAL NOT NULL
    )
    """,
    "CREATE INDEX rejected_messages_by_time ON rejected_messages (rejected_at)",
)

_VERSION_2 = (
    "ALTER TABLE jobs ADD COLUMN steps TEXT NOT NULL DEFAULT '{}'",
    # A row is never deleted, so its term never goes back. lease_until 0: released.
    """
    CREATE TABLE writer_leases (
        server_id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        term INTEGER NOT NULL,
        lease_until REAL NOT NULL
    ) WITHOUT ROWID
    """,
)

# Jobs, claims and name locks get their target. place '': written before, and not known.
_VERSION_3 = (
    """
    CREATE TABLE targets (
        target TEXT NOT NULL,
        place TEXT NOT NULL,
        created_at REAL NOT NULL,
        PRIMARY KEY (target, place)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE new_jobs (
        job_arn TEXT NOT NULL,
        creation_time TEXT NOT NULL,
        target TEXT NOT NULL,
        place TEXT NOT NULL,
        job_name TEXT NOT NULL,
        state TEXT NOT NULL,
        reason TEXT NOT NULL,
        detail TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        unanswered_writes INTEGER NOT NULL,
        target_ids TEXT NOT NULL,
        message_id TEXT NOT NULL,
        first_seen_at REAL NOT NULL,
        updated_at REAL NOT NULL,
        steps TEXT NOT NULL,
        PRIMARY KEY (job_arn, creation_time, target, place)
    )
    """,
    """
    INSERT INTO new_jobs
    SELECT job_arn, creation_time, target, '', job_name, state, reason, detail, attempts,
        unanswered_writes, target_ids, message_id, first_seen_at, updated_at, steps
    FROM jobs
    """,
    "DROP TABLE jobs",
    "ALTER TABLE new_jobs RENAME TO jobs",
    "CREATE INDEX jobs_by_state ON jobs (state, updated_at)",
    "CREATE INDEX jobs_by_update ON jobs (updated_at)",
    "CREATE INDEX jobs_by_target ON jobs (target, place)",
    """
    CREATE TABLE new_claims (
        fence INTEGER PRIMARY KEY AUTOINCREMENT,
        job_arn TEXT NOT NULL,
        target TEXT NOT NULL,
        place TEXT NOT NULL,
        owner TEXT NOT NULL,
        lease_until REAL NOT NULL,
        UNIQUE (job_arn, target, place)
    )
    """,
    """
    INSERT INTO new_claims (fence, job_arn, target, place, owner, lease_until)
    SELECT fence, job_arn, '', '', owner, lease_until FROM claims
    """,
    # the fences go on where they were, also when there is no claim to copy
    "DELETE FROM sqlite_sequence WHERE name = 'new_claims'",
    """
    INSERT INTO sqlite_sequence (name, seq)
    SELECT 'new_claims', seq FROM sqlite_sequence WHERE name = 'claims'
    """,
    """
    CREATE TABLE new_name_locks (
        name TEXT NOT NULL,
        target TEXT NOT NULL,
        place TEXT NOT NULL,
        fence INTEGER NOT NULL REFERENCES new_claims (fence) ON DELETE CASCADE,
        lease_until REAL NOT NULL,
        PRIMARY KEY (name, target, place)
    ) WITHOUT ROWID
    """,
    "INSERT INTO new_name_locks SELECT name, '', '', fence, lease_until FROM name_locks",
    "DROP TABLE name_locks",
    "DROP TABLE claims",
    # the locks' REFERENCES follows
    "ALTER TABLE new_claims RENAME TO claims",
    "ALTER TABLE new_name_locks RENAME TO name_locks",
    "CREATE INDEX name_locks_by_fence ON name_locks (fence)",
)

# What the operator's verbs and the status page need. The indexes are for each filter of `history`
# and for looking up a name among a million jobs.
_VERSION_4 = (
    "ALTER TABLE jobs ADD COLUMN project TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX jobs_by_reason ON jobs (reason, updated_at)",
    "CREATE INDEX jobs_by_project ON jobs (project COLLATE NOCASE, updated_at)",
    "CREATE INDEX jobs_by_name ON jobs (job_name COLLATE NOCASE)",
    "CREATE INDEX rejected_messages_by_job ON rejected_messages (job_arn, rejected_at)",
    # entries: a JSON array of [at, what, message id, detail, owner], oldest first
    """
    CREATE TABLE stories (
        job_arn TEXT NOT NULL,
        target TEXT NOT NULL,
        place TEXT NOT NULL,
        entries TEXT NOT NULL,
        updated_at REAL NOT NULL,
        PRIMARY KEY (job_arn, target, place)
    )
    """,
    "CREATE INDEX stories_by_update ON stories (updated_at)",
    """
    CREATE TABLE notes (
        name TEXT NOT NULL,
        target TEXT NOT NULL,
        place TEXT NOT NULL,
        value TEXT NOT NULL,
        updated_at REAL NOT NULL,
        PRIMARY KEY (name, target, place)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE watched_jobs (
        job_arn TEXT NOT NULL,
        creation_time TEXT NOT NULL,
        target TEXT NOT NULL,
        place TEXT NOT NULL,
        job_name TEXT NOT NULL,
        first_seen_at REAL NOT NULL,
        look_again_at REAL NOT NULL,
        PRIMARY KEY (job_arn, creation_time, target, place)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX watched_jobs_by_time ON watched_jobs (target, place, look_again_at)",
    # lease_until 0: never taken
    """
    CREATE TABLE sync_requests (
        request_id TEXT PRIMARY KEY,
        target TEXT NOT NULL,
        place TEXT NOT NULL,
        job TEXT NOT NULL,
        force INTEGER NOT NULL,
        asked_at REAL NOT NULL,
        taken_by TEXT NOT NULL,
        lease_until REAL NOT NULL,
        begun INTEGER NOT NULL,
        progress TEXT NOT NULL,
        answer TEXT
    )
    """,
    "CREATE INDEX sync_requests_by_time ON sync_requests (target, place, asked_at)",
)

MIGRATIONS: Sequence[Sequence[str]] = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4)
"""Step n leads from version n to n + 1. A statement may use ``:now`` (epoch seconds)."""


def migrate(
    connection: sqlite3.Connection,
    path: Path,
    now: float,
    steps: Sequence[Sequence[str]] = MIGRATIONS,
) -> None:
    """Migrates a file to the newest version, all steps in one transaction.

    Args:
        connection: in autocommit mode (``isolation_level=None``).
        path: for the error's text.
        now: epoch seconds.
        steps: as `MIGRATIONS`.

    Raises:
        SetupFault: a file of another program, or of a newer version of this one; it is unchanged.
        sqlite3.Error: the storage failed; the file is unchanged.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection, path, newest=len(steps))
        for step in steps[version:]:
            for statement in step:
                connection.execute(statement, {"now": now})
        if version < len(steps):
            connection.execute(f"PRAGMA user_version = {len(steps)}")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection, path: Path, *, newest: int) -> int:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if (tables or version) and application_id != APPLICATION_ID:
        raise SetupFault(
            f"checkpoint {path}: this SQLite database belongs to another program; set "
            "checkpoint.path to a file of its own"
        )
    if version > newest:
        raise SetupFault(
            f"checkpoint {path}: written by a newer version of this program (its schema is version "
            f"{version}, this program knows {newest}); start that newer version, or set "
            "checkpoint.path to a new file"
        )
    return int(version)


def require_version(connection: sqlite3.Connection, path: Path, *, newest: int) -> None:
    """For those who only read.

    Raises:
        SetupFault: a file of another program, or of another version of this one.
    """
    version = _version(connection, path, newest=newest)
    if version < newest:
        raise SetupFault(
            f"checkpoint {path}: written by an older version of this program (its schema is "
            f"version {version}, this program reads {newest}); the daemon brings it up to date "
            "when it starts"
        )
