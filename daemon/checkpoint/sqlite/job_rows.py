"""The rows of jobs and of rejected messages in SQL. Every function is part of a transaction."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from daemon.checkpoint import rules
from daemon.checkpoint.ports import JobRecord, JobState, RejectedMessage
from daemon.targets.place import ANY_TARGET, TargetPlace

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

    from daemon.checkpoint.ports import HistoryFilter


PRUNED_AT_ONCE = 2000
"""In one transaction, which all other calls wait for."""

_PRUNED_TOO = (
    # table, what identifies a row, when it was last changed
    ("rejected_messages", "rowid", "rejected_at"),
    ("stories", "rowid", "updated_at"),
    ("notes", "name, target, place", "updated_at"),
    ("watched_jobs", "job_arn, creation_time, target, place", "look_again_at"),
    ("sync_requests", "rowid", "asked_at"),
)


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


def enqueued(connection: sqlite3.Connection, target: TargetPlace, job_arn: str) -> list[JobRecord]:
    """The enqueued rows of an ARN."""
    # `+`: without statistics, SQLite takes an index of two columns for better than the ARN's
    rows = connection.execute(
        "SELECT * FROM jobs WHERE job_arn = ? AND (+target, +place) = (?, ?) AND +state = ?",
        (job_arn, target.kind, target.place, JobState.ENQUEUED),
    )
    return [_record(row) for row in rows]


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


def named(connection: sqlite3.Connection, target: TargetPlace, name: str) -> list[JobRecord]:
    """The rows of a name or ARN, in any case, the newest job first; of this target one per job."""
    # ARNs are kept in lower case; with another collation their index would not be used
    same = "job_arn = lower(:name)" if is_arn(name) else "job_name = :name COLLATE NOCASE"
    of_target = "TRUE ORDER BY creation_time DESC" if target == ANY_TARGET else _OF_TARGET
    rows = connection.execute(
        f"SELECT * FROM jobs WHERE {same} AND {of_target}",  # noqa: S608 - SQL of our own
        {"name": name, "kind": target.kind, "place": target.place},
    )
    if target == ANY_TARGET:
        return [_record(row) for row in rows]
    first: dict[tuple[str, str], JobRecord] = {}
    for row in rows:
        first.setdefault(
            (row["job_arn"], row["creation_time"]), rules.seen_from(target, _record(row))
        )
    return list(first.values())


def is_arn(name: str) -> bool:
    return name.lower().startswith("arn:")


def history(connection: sqlite3.Connection, wanted: HistoryFilter) -> list[JobRecord]:
    """Newest change first. One filter chooses the index, so that each page costs about as many rows
    as it shows, however many there are; only a part of a name is searched for in all of them.
    """
    if wanted.project:
        found = _newest(
            connection, wanted, "jobs_by_project", "project = :one COLLATE NOCASE", [""]
        )
    elif wanted.reasons:
        found = _newest(connection, wanted, "jobs_by_reason", "reason = :one", wanted.reasons)
    elif wanted.states:
        found = _newest(connection, wanted, "jobs_by_state", "state = :one", wanted.states)
    else:
        found = _newest(connection, wanted, "jobs_by_update", "TRUE", [""])
    found.sort(key=lambda row: (-row.updated_at, row.job_arn, row.creation_time, row.target))
    return found[: wanted.limit]


def _newest(
    connection: sqlite3.Connection,
    wanted: HistoryFilter,
    index: str,
    condition: str,
    values: Collection[str],
) -> list[JobRecord]:
    """The newest wanted rows of each value."""
    given = {
        "states": json.dumps([str(state) for state in wanted.states]),
        "reasons": json.dumps([str(reason) for reason in wanted.reasons]),
        "job": wanted.job.lower(),
        "project": wanted.project,
        "since": wanted.since,
        "until": wanted.until,
        "limit": wanted.limit,
    }
    conditions = [condition]
    if wanted.states:
        conditions.append("+state IN (SELECT value FROM json_each(:states))")
    if wanted.reasons:
        conditions.append("+reason IN (SELECT value FROM json_each(:reasons))")
    if wanted.job:
        conditions.append("instr(job_arn, :job)")  # which ends with the name
    if wanted.since is not None:
        conditions.append("updated_at >= :since")
    if wanted.until is not None:
        conditions.append("updated_at < :until")
    statement = (
        f"SELECT * FROM jobs INDEXED BY {index} WHERE {' AND '.join(conditions)} "  # noqa: S608 - SQL of our own
        "ORDER BY updated_at DESC, job_arn, creation_time, target, place LIMIT :limit"
    )
    return [
        _record(row)
        for value in dict.fromkeys(values)
        for row in connection.execute(statement, {**given, "one": wanted.project or str(value)})
    ]


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
    """Deletes jobs, messages and what the operations keep, last changed before a moment (epoch
    seconds), at most `PRUNED_AT_ONCE` of each. Returns how many.
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
    others = [
        connection.execute(
            f"DELETE FROM {table} WHERE ({key}) IN "  # noqa: S608 - SQL of our own
            f"(SELECT {key} FROM {table} WHERE {changed} < ? LIMIT ?)",
            (older_than, PRUNED_AT_ONCE),
        )
        for table, key, changed in _PRUNED_TOO
    ]
    return sum(deleted.rowcount for deleted in (jobs, *others))


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


def messages_about(connection: sqlite3.Connection, job_arn: str) -> list[RejectedMessage]:
    """Newest first."""
    rows = connection.execute(
        "SELECT * FROM rejected_messages WHERE job_arn = ? ORDER BY rejected_at DESC, message_id",
        (job_arn,),
    )
    return [RejectedMessage(**dict(row)) for row in rows]


def _record(row: sqlite3.Row) -> JobRecord:
    columns = dict(row)
    columns["state"] = JobState(columns["state"])
    columns["target_ids"] = json.loads(columns["target_ids"])
    columns["steps"] = json.loads(columns["steps"])
    return JobRecord(**columns)
