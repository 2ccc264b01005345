"""The rows of jobs and of rejected messages in SQL. Every function is part of a transaction."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from daemon.checkpoint import rules
from daemon.checkpoint.ports import JobRecord, JobState, RejectedMessage
from daemon.targets.place import TargetPlace

if TYPE_CHECKING:
    import sqlite3

    from daemon.checkpoint.ports import HistoryFilter


PRUNED_AT_ONCE = 2000
"""In one transaction, which all other calls wait for."""


def _upsert(table: str, row: type) -> str:
    """The statement that writes a row whose columns are named as the members of its class."""
    names = [member.name for member in fields(row)]
    return (
        f"INSERT OR REPLACE INTO {table} ({', '.join(names)}) "  # noqa: S608 - names of our own
        f"VALUES ({', '.join(f':{name}' for name in names)})"
    )


_PUT_JOB = _upsert("jobs", JobRecord)
_PUT_MESSAGE = _upsert("rejected_messages", RejectedMessage)


_OF_TARGET = """
    (
        (target, place) = (:kind, :place)
        OR (place = '' AND target IN (:kind, ''))
        OR (target = :kind AND unanswered_writes > 0)
    )
    ORDER BY creation_time DESC, (target, place) = (:kind, :place) DESC, place = '' DESC,
        target = '', updated_at DESC
"""
"""This target's row, or else one of an unknown place, or else what `rules.seen_from` sees."""


def find(
    connection: sqlite3.Connection, target: TargetPlace, job_arn: str, creation_time: str
) -> JobRecord | None:
    row = connection.execute(
        f"SELECT * FROM jobs WHERE job_arn = :arn AND creation_time = :created AND {_OF_TARGET}",  # noqa: S608 - SQL of our own
        {
            "arn": job_arn,
            "created": creation_time,
            "kind": target.kind,
            "place": target.place,
        },
    ).fetchone()
    return None if row is None else rules.seen_from(target, _record(row))


def described(connection: sqlite3.Connection, target: TargetPlace, job_arn: str) -> list[JobRecord]:
    """The rows of an ARN whose creation time is known, one per job, the newest job first."""
    rows = connection.execute(
        f"SELECT * FROM jobs WHERE job_arn = :arn AND creation_time <> '' AND {_OF_TARGET}",  # noqa: S608 - SQL of our own
        {"arn": job_arn, "kind": target.kind, "place": target.place},
    )
    first: dict[str, JobRecord] = {}
    for row in rows:
        first.setdefault(row["creation_time"], rules.seen_from(target, _record(row)))
    return list(first.values())


def put(connection: sqlite3.Connection, record: JobRecord) -> None:
    connection.execute(
        _PUT_JOB,
        {
            **{member.name: getattr(record, member.name) for member in fields(record)},
            "target_ids": json.dumps(dict(record.target_ids)),
            "steps": json.dumps(dict(record.steps)),
        },
    )


def delete(connection: sqlite3.Connection, record: JobRecord) -> None:
    connection.execute(
        "DELETE FROM jobs WHERE (job_arn, creation_time, target, place) = (?, ?, ?, ?)",
        (record.job_arn, record.creation_time, record.target, record.place),
    )


def history(connection: sqlite3.Connection, wanted: HistoryFilter) -> list[JobRecord]:
    """Newest change first."""
    rows = connection.execute(
        """
        SELECT * FROM jobs
        WHERE (:states = '[]' OR state IN (SELECT value FROM json_each(:states)))
            AND (:job = '' OR instr(job_arn, :job) OR instr(lower(job_name), :job))
        ORDER BY updated_at DESC, job_arn, creation_time, target, place
        LIMIT :limit
        """,
        {
            "states": json.dumps(list(wanted.states)),
            "job": wanted.job.lower(),
            "limit": wanted.limit,
        },
    )
    return [_record(row) for row in rows]


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Rows per state, every state named."""
    found = connection.execute("SELECT state, count(*) AS jobs FROM jobs GROUP BY state")
    return {**dict.fromkeys(map(str, JobState), 0), **{row["state"]: row["jobs"] for row in found}}


def counts_by_target(connection: sqlite3.Connection) -> dict[TargetPlace, int]:
    found = connection.execute(
        "SELECT target, place, count(*) AS jobs FROM jobs GROUP BY target, place ORDER BY 1, 2"
    )
    return {TargetPlace(row["target"], row["place"]): row["jobs"] for row in found}


def prune(connection: sqlite3.Connection, older_than: float) -> int:
    """Deletes jobs and messages last changed before a moment (epoch seconds), at most
    `PRUNED_AT_ONCE` of each. Returns how many.
    """
    jobs = connection.execute(
        """
        DELETE FROM jobs WHERE rowid IN (
            SELECT rowid FROM jobs
            WHERE updated_at < ? AND state NOT IN (SELECT value FROM json_each(?)) LIMIT ?
        )
        """,
        (older_than, json.dumps(list(rules.NEVER_PRUNED)), PRUNED_AT_ONCE),
    )
    messages = connection.execute(
        """
        DELETE FROM rejected_messages WHERE rowid IN (
            SELECT rowid FROM rejected_messages WHERE rejected_at < ? LIMIT ?
        )
        """,
        (older_than, PRUNED_AT_ONCE),
    )
    return jobs.rowcount + messages.rowcount


def find_message(connection: sqlite3.Connection, message_id: str) -> RejectedMessage | None:
    row = connection.execute(
        "SELECT * FROM rejected_messages WHERE message_id = ?", (message_id,)
    ).fetchone()
    return None if row is None else RejectedMessage(**dict(row))


def put_message(connection: sqlite3.Connection, message: RejectedMessage) -> None:
    connection.execute(_PUT_MESSAGE, asdict(message))


def messages(connection: sqlite3.Connection, limit: int) -> list[RejectedMessage]:
    """Newest first."""
    rows = connection.execute(
        "SELECT * FROM rejected_messages ORDER BY rejected_at DESC, message_id LIMIT ?", (limit,)
    )
    return [RejectedMessage(**dict(row)) for row in rows]


def _record(row: sqlite3.Row) -> JobRecord:
    columns = dict(row)
    columns["state"] = JobState(columns["state"])
    columns["target_ids"] = json.loads(columns["target_ids"])
    columns["steps"] = json.loads(columns["steps"])
    return JobRecord(**columns)
