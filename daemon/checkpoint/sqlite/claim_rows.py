"""Claims and name locks in SQL. Every function is part of a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.checkpoint.ports import Claim
from daemon.checkpoint.rules import ClaimRow, NameLockRow

if TYPE_CHECKING:
    import sqlite3

    from daemon.targets.place import TargetPlace


def find(connection: sqlite3.Connection, target: TargetPlace, job_arn: str) -> ClaimRow | None:
    """The claim on a job of this target. One of an older version, which has no place, keeps every
    target out.
    """
    row = connection.execute(
        "SELECT * FROM claims WHERE job_arn = ? AND (place = '' OR (target, place) = (?, ?)) "
        "ORDER BY lease_until DESC LIMIT 1",
        (job_arn, target.kind, target.place),
    ).fetchone()
    return None if row is None else ClaimRow(_claim(row), row["lease_until"])


def new_fence(connection: sqlite3.Connection) -> int:
    """A fence above all that were ever given out: the schema's AUTOINCREMENT remembers them."""
    (newest,) = connection.execute(
        "SELECT max(seq) FROM sqlite_sequence WHERE name = 'claims'"
    ).fetchone()
    return (newest or 0) + 1


def put(connection: sqlite3.Connection, target: TargetPlace, row: ClaimRow) -> None:
    """Writes a new claim instead of any other on this job of this target, or renews one with its
    name locks.
    """
    claim, lease_until = row.claim, row.lease_until
    connection.execute(
        "DELETE FROM claims WHERE job_arn = ? AND fence <> ? "
        "AND (place = '' OR (target, place) = (?, ?))",
        (claim.job_arn, claim.fence, target.kind, target.place),
    )
    connection.execute(
        "INSERT INTO claims (fence, job_arn, target, place, owner, lease_until) "
        "VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (fence) DO UPDATE SET lease_until = excluded.lease_until",
        (claim.fence, claim.job_arn, target.kind, target.place, claim.owner, lease_until),
    )
    connection.execute(
        "UPDATE name_locks SET lease_until = ? WHERE fence = ?", (lease_until, claim.fence)
    )


def delete(connection: sqlite3.Connection, claim: Claim) -> None:
    """Deletes a claim, if it is not lost, and by the schema its name locks."""
    connection.execute(
        "DELETE FROM claims WHERE fence = ? AND job_arn = ? AND owner = ?",
        (claim.fence, claim.job_arn, claim.owner),
    )


def find_lock(connection: sqlite3.Connection, target: TargetPlace, name: str) -> NameLockRow | None:
    """As `find`."""
    row = connection.execute(
        "SELECT job_arn, owner, fence, name_locks.lease_until FROM name_locks "
        "JOIN claims USING (fence) WHERE name = ? "
        "AND (name_locks.place = '' OR (name_locks.target, name_locks.place) = (?, ?)) "
        "ORDER BY name_locks.lease_until DESC LIMIT 1",
        (name, target.kind, target.place),
    ).fetchone()
    return None if row is None else NameLockRow(name, _claim(row), row["lease_until"])


def put_lock(connection: sqlite3.Connection, target: TargetPlace, row: NameLockRow) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO name_locks (name, target, place, fence, lease_until) "
        "VALUES (?, ?, ?, ?, ?)",
        (row.name, target.kind, target.place, row.claim.fence, row.lease_until),
    )


def delete_lock(connection: sqlite3.Connection, claim: Claim, name: str) -> None:
    """Deletes the lock of a name, if it belongs to the claim."""
    connection.execute("DELETE FROM name_locks WHERE name = ? AND fence = ?", (name, claim.fence))


def _claim(row: sqlite3.Row) -> Claim:
    return Claim(row["job_arn"], row["owner"], row["fence"])
