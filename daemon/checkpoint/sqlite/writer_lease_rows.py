"""Writer leases in SQL: which process may write to a server. Every function is part of a write
transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.checkpoint.ports import WriterElsewhere, WriterLease

if TYPE_CHECKING:
    import sqlite3

    from daemon.checkpoint.sqlite.process_locks import ProcessLocks


def take(
    connection: sqlite3.Connection,
    owners: ProcessLocks,
    server_id: str,
    *,
    now: float,
    lease_seconds: float,
    grace_seconds: float,
) -> WriterLease | WriterElsewhere:
    """Takes the lease, unless another process holds it, or held it until less than `grace_seconds`
    ago and may be living.

    A lease of our own that lasts is prolonged and keeps its term; after that it is a new term.
    """
    held = connection.execute(
        "SELECT owner, term, lease_until FROM writer_leases WHERE server_id = ?", (server_id,)
    ).fetchone()
    term = 1
    if held is not None:
        ours, lasts = held["owner"] == owners.me, held["lease_until"] > now
        free_at = held["lease_until"] + grace_seconds
        if not ours and free_at > now and not owners.forget_if_gone(connection, held["owner"]):
            return WriterElsewhere(held["owner"], free_at - now)
        term = held["term"] if ours and lasts else held["term"] + 1
    connection.execute(
        "INSERT OR REPLACE INTO writer_leases (server_id, owner, term, lease_until) VALUES (?, ?, "
        "?, ?)",
        (server_id, owners.me, term, now + lease_seconds),
    )
    return WriterLease(server_id, owners.me, term)


def renew(connection: sqlite3.Connection, lease: WriterLease, *, lease_until: float) -> bool:
    """Prolongs a lease, also when it has run out but nobody took it. False: it is another's."""
    changed = connection.execute(
        "UPDATE writer_leases SET lease_until = ? WHERE server_id = ? AND owner = ? AND term = ?",
        (lease_until, lease.server_id, lease.owner, lease.term),
    )
    return changed.rowcount == 1


def release(connection: sqlite3.Connection, lease: WriterLease) -> None:
    """Frees the lease, unless it is another's."""
    renew(connection, lease, lease_until=0)
