"""The rows of jobs and of rejected messages in SQL. Every function is part of a transaction."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from daemon.checkpoint.ports import JobRecord, JobState, RejectedMessage

if TYPE_CHECKING:
    import sqlite3

    from daemon.checkpoint.ports import HistoryFilter
    from daemon.outcome import Reason


def find(connection: sqlite3.Connection, job_arn: str, creation_time: str) -> JobRecord | None:
    row = connection.execute(
        "SELECT * FROM jobs WHERE job_arn = ? AND creation_time = ?", (job_arn, creation_time)
    ).fetchone()
    return None if row is None else _record(row)


def described(connection: sqlite3.Connection, job_arn: str) -> list[JobRecord]:
    """The rows of an ARN whose creation time is known, the newest job first."""
    rows = connection.execute(
        "SELECT * FROM jobs WHERE job_arn = ? AND creation_time <> '' ORDER BY creation_time DESC",
        (job_arn,),
    )
    return [_record(row) for row in rows]


def begin(
    connection: sqlite3.Connection, job_arn: str, creation_time: str, job_name: str, *, now: float
) -> JobRecord:
    """The job's row as it is, or as a new one begins; to be changed and given to `put`.

    A row of deferrals from before the creation time was known ends here: its attempts and its age
    go over.
    """
    known = find(connection, job_arn, creation_time)
    record = known or JobRecord(
        job_arn=job_arn,
        creation_time=creation_time,
        job_name=storable(job_name),
        state=JobState.RELEASED,
        reason="",
        detail="",
        attempts=0,
        unanswered_writes=0,
        target="",
        target_ids={},
        message_id="",
        first_seen_at=now,
        updated_at=now,
    )
    early = find(connection, job_arn, "") if creation_time else None
    # A job that was rejected undescribed may be another one that had this name before: its row
    # stays as it is.
    if early is None or early.state is not JobState.RELEASED:
        return record
    connection.execute("DELETE FROM jobs WHERE job_arn = ? AND creation_time = ''", (job_arn,))
    return replace(
        record,
        attempts=record.attempts + early.attempts,
        first_seen_at=min(record.first_seen_at, early.first_seen_at),
    )


def put(connection: sqlite3.Connection, record: JobRecord) -> None:
    connection.execute(
        """
        INSERT OR REPLACE INTO jobs (job_arn, creation_time, job_name, state, reason, detail, attempts, unanswered_writes,
            target, target_ids, message_id, first_seen_at, updated_at, steps)
        VALUES (:job_arn, :creation_time, :job_name, :state, :reason, :detail, :attempts, :unanswered_writes,
            :target, :target_ids, :message_id, :first_seen_at, :updated_at, :steps)
        """,  # noqa: E501
        {
            **{member.name: getattr(record, member.name) for member in fields(record)},
            "detail": storable(record.detail),
            "target_ids": json.dumps(dict(record.target_ids)),
            "steps": json.dumps(dict(record.steps)),
        },
    )


def history(connection: sqlite3.Connection, wanted: HistoryFilter) -> list[JobRecord]:
    """Newest change first."""
    rows = connection.execute(
        """
        SELECT * FROM jobs
        WHERE (:states = '[]' OR state IN (SELECT value FROM json_each(:states)))
            AND (:job = '' OR instr(job_arn, :job) OR instr(lower(job_name), :job))
        ORDER BY updated_at DESC, job_arn, creation_time
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


def prune(connection: sqlite3.Connection, older_than: float) -> int:
    """Deletes rows of jobs and messages last changed before a moment, never what is being written.
    Returns how many.
    """
    jobs = connection.execute(
        "DELETE FROM jobs WHERE updated_at < ? AND state <> ?", (older_than, JobState.WRITING)
    )
    messages = connection.execute(
        "DELETE FROM rejected_messages WHERE rejected_at < ?", (older_than,)
    )
    return jobs.rowcount + messages.rowcount


def put_message(
    connection: sqlite3.Connection,
    message_id: str,
    *,
    job_arn: str,
    reason: Reason,
    detail: str,
    now: float,
) -> None:
    """Writes a message's rejection; a body that was kept stays."""
    connection.execute(
        """
        INSERT INTO rejected_messages (message_id, job_arn, reason, detail, rejected_at)
        VALUES (:message_id, :job_arn, :reason, :detail, :now)
        ON CONFLICT (message_id) DO UPDATE
        SET job_arn = excluded.job_arn, reason = excluded.reason, detail = excluded.detail, rejected_at = excluded.rejected_at
        """,  # noqa: E501
        {
            "message_id": message_id,
            "job_arn": job_arn,
            "reason": reason,
            "detail": storable(detail),
            "now": now,
        },
    )


def put_body(connection: sqlite3.Connection, message_id: str, body: str, *, now: float) -> None:
    """Keeps a message's body, even if its rejection was not recorded or has been pruned."""
    connection.execute(
        """
        INSERT INTO rejected_messages (message_id, job_arn, reason, detail, body, rejected_at)
        VALUES (:message_id, '', '', '', :body, :now)
        ON CONFLICT (message_id) DO UPDATE SET body = excluded.body
        """,
        {"message_id": message_id, "body": storable(body), "now": now},
    )


def messages(connection: sqlite3.Connection, limit: int) -> list[RejectedMessage]:
    """Newest first."""
    rows = connection.execute(
        "SELECT * FROM rejected_messages ORDER BY rejected_at DESC, message_id LIMIT ?", (limit,)
    )
    return [RejectedMessage(**dict(row)) for row in rows]


def storable(text: str) -> str:
    r"""Text as UTF-8 can hold it: half a surrogate pair, which JSON may bring, becomes its escape,
    for example ``\ud800``.
    """
    return text.encode("utf-8", "backslashreplace").decode()


def _record(row: sqlite3.Row) -> JobRecord:
    columns = dict(row)
    columns["state"] = JobState(columns["state"])
    columns["target_ids"] = json.loads(columns["target_ids"])
    columns["steps"] = json.loads(columns["steps"])
    return JobRecord(**columns)
