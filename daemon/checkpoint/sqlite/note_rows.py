"""Notes of operations in SQL. Every function is part of a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

    from daemon.targets.place import TargetPlace


def find(connection: sqlite3.Connection, target: TargetPlace, name: str) -> str | None:
    row = connection.execute(
        "SELECT value FROM notes WHERE (name, target, place) = (?, ?, ?)",
        (name, target.kind, target.place),
    ).fetchone()
    return None if row is None else str(row["value"])


def beginning_with(
    connection: sqlite3.Connection, target: TargetPlace, prefix: str
) -> dict[str, str]:
    rows = connection.execute(
        "SELECT name, value FROM notes WHERE (target, place) = (?, ?) "
        "AND substr(name, 1, length(?)) = ? ORDER BY name",
        (target.kind, target.place, prefix, prefix),
    )
    return {row["name"]: row["value"] for row in rows}


def put(
    connection: sqlite3.Connection, target: TargetPlace, name: str, value: str, *, now: float
) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO notes (name, target, place, value, updated_at) "
        "VALUES (?, ?, ?, ?, ?)",
        (name, target.kind, target.place, value, now),
    )


def delete(connection: sqlite3.Connection, target: TargetPlace, name: str) -> None:
    connection.execute(
        "DELETE FROM notes WHERE (name, target, place) = (?, ?, ?)",
        (name, target.kind, target.place),
    )
