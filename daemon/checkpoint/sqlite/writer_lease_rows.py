"""Writer leases in SQL. Every function is part of a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.checkpoint.ports import WriterLease
from daemon.checkpoint.rules import WriterLeaseRow

if TYPE_CHECKING:
    import sqlite3


def find(connection: sqlite3.Connection, server_id: str) -> WriterLeaseRow | None:
    row = connection.execute(
        "SELECT * FROM writer_leases WHERE server_id = ?", (server_id,)
    ).fetchone()
    return None if row is None else _row(row)


def of_owner(connection: sqlite3.Connection, owner: str) -> list[WriterLeaseRow]:
    found = connection.execute("SELECT * FROM writer_leases WHERE owner = ?", (owner,))
    return [_row(row) for row in found]


def put(connection: sqlite3.Connection, row: WriterLeaseRow) -> None:
    lease = row.lease
    connection.execute(
        "INSERT OR REPLACE INTO writer_leases (server_id, owner, term, lease_until) "
        "VALUES (?, ?, ?, ?)",
        (lease.server_id, lease.owner, lease.term, row.lease_until),
    )


def _row(row: sqlite3.Row) -> WriterLeaseRow:
    lease = WriterLease(row["server_id"], row["owner"], row["term"])
    return WriterLeaseRow(lease, row["lease_until"])
