"""Requests to the running daemon in SQL. Every function is part of a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.checkpoint.ports import SyncRequest
from daemon.checkpoint.rules import RequestRow

if TYPE_CHECKING:
    import sqlite3

    from daemon.targets.place import TargetPlace


def find(connection: sqlite3.Connection, target: TargetPlace, request_id: str) -> RequestRow | None:
    row = connection.execute(
        "SELECT * FROM sync_requests WHERE request_id = ? AND (target, place) = (?, ?)",
        (request_id, target.kind, target.place),
    ).fetchone()
    return None if row is None else _row(row)


def unanswered(connection: sqlite3.Connection, target: TargetPlace) -> list[RequestRow]:
    """The oldest first."""
    rows = connection.execute(
        "SELECT * FROM sync_requests WHERE target = ? AND place = ? AND answer IS NULL "
        "ORDER BY asked_at, request_id",
        (target.kind, target.place),
    )
    return [_row(row) for row in rows]


def about(connection: sqlite3.Connection, target: TargetPlace, job: str) -> list[RequestRow]:
    """The newest first."""
    rows = connection.execute(
        "SELECT * FROM sync_requests WHERE target = ? AND place = ? AND job = ? COLLATE NOCASE "
        "ORDER BY asked_at DESC, request_id",
        (target.kind, target.place, job),
    )
    return [_row(row) for row in rows]


def put(connection: sqlite3.Connection, target: TargetPlace, row: RequestRow) -> None:
    request = row.request
    connection.execute(
        "INSERT OR REPLACE INTO sync_requests (request_id, target, place, job, force, asked_at, "
        "taken_by, lease_until, begun, progress, answer) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            request.request_id,
            target.kind,
            target.place,
            request.job,
            request.force,
            request.asked_at,
            request.taken_by,
            row.lease_until,
            request.begun,
            request.progress,
            request.answer,
        ),
    )


def end_leases_of(connection: sqlite3.Connection, owner: str, *, now: float) -> None:
    """Lets others take what an owner that is gone has not answered."""
    connection.execute(
        "UPDATE sync_requests SET lease_until = min(lease_until, ?) "
        "WHERE taken_by = ? AND answer IS NULL",
        (now, owner),
    )


def delete(connection: sqlite3.Connection, request_id: str) -> None:
    connection.execute("DELETE FROM sync_requests WHERE request_id = ?", (request_id,))


def _row(row: sqlite3.Row) -> RequestRow:
    request = SyncRequest(
        request_id=row["request_id"],
        job=row["job"],
        force=bool(row["force"]),
        asked_at=row["asked_at"],
        taken_by=row["taken_by"],
        begun=bool(row["begun"]),
        progress=row["progress"],
        answer=row["answer"],
    )
    return RequestRow(request, row["lease_until"])
