"""Writer leases in SQL. Every function is part of a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.checkpoint.ports import WriterLease
from daemon.checkpoint.rules import WriterLeaseRow

if TYPE_CHECKING:
    import sqlite3


def find(connection: sqlite3.Connection, server_id: str) -> WriterLeaseRow | None:
    row = connection.execute(
        "SELECT owner, term, lease_until FROM writer_leases WHERE server_id = ?", (server_id,)
    ).fetchone()
    if row is None:
        return None
    return WriterLeaseRow(WriterLease(server_id, row["owner"], row["term"]), row["lease_until"])


def put(connection: sqlite3.Connection, row: WriterLeaseRow) -> None:
    lease = row.lease
    connection.execute(
        "INSERT OR REPLACE INTO writer_leases (server_id, owner, term, lease_until) "
        "VALUES (?, ?, ?, ?)",
        (lease.server_id, lease.owner, lease.term, row.lease_until),
    )
