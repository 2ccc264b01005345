"""Reconcile's watch list in SQL. Every function is part of a transaction."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING

from daemon.checkpoint.ports import WatchedJob

if TYPE_CHECKING:
    import sqlite3

    from daemon.targets.place import TargetPlace

_MEMBERS = "job_arn, creation_time, job_name, first_seen_at, look_again_at"


def find(
    connection: sqlite3.Connection, target: TargetPlace, job_arn: str, creation_time: str
) -> WatchedJob | None:
    row = connection.execute(
        f"SELECT {_MEMBERS} FROM watched_jobs "  # noqa: S608 - SQL of our own
        "WHERE (job_arn, creation_time, target, place) = (?, ?, ?, ?)",
        (job_arn, creation_time, target.kind, target.place),
    ).fetchone()
    return None if row is None else WatchedJob(*row)


def put(connection: sqlite3.Connection, target: TargetPlace, job: WatchedJob) -> None:
    connection.execute(
        f"INSERT OR REPLACE INTO watched_jobs ({_MEMBERS}, target, place) "  # noqa: S608 - SQL of our own
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*astuple(job), target.kind, target.place),
    )


def delete(connection: sqlite3.Connection, target: TargetPlace, job_arn: str) -> None:
    connection.execute(
        "DELETE FROM watched_jobs WHERE (job_arn, target, place) = (?, ?, ?)",
        (job_arn, target.kind, target.place),
    )


def due(
    connection: sqlite3.Connection, target: TargetPlace, limit: int, not_after: float
) -> list[WatchedJob]:
    """The most overdue first."""
    rows = connection.execute(
        f"SELECT {_MEMBERS} FROM watched_jobs "  # noqa: S608 - SQL of our own
        "WHERE target = ? AND place = ? AND look_again_at <= ? "
        "ORDER BY look_again_at, job_arn, creation_time LIMIT ?",
        (target.kind, target.place, not_after, limit),
    )
    return [WatchedJob(*row) for row in rows]


def of_arn(connection: sqlite3.Connection, target: TargetPlace, job_arn: str) -> list[WatchedJob]:
    rows = connection.execute(
        f"SELECT {_MEMBERS} FROM watched_jobs WHERE (job_arn, target, place) = (?, ?, ?)",  # noqa: S608 - SQL of our own
        (job_arn, target.kind, target.place),
    )
    return [WatchedJob(*row) for row in rows]
