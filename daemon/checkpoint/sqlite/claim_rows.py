"""Claims and name locks in SQL. Every function is part of a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.checkpoint.ports import Claim
from daemon.checkpoint.rules import ClaimRow, NameLockRow

if TYPE_CHECKING:
    import sqlite3


def find(connection: sqlite3.Connection, job_arn: str) -> ClaimRow | None:
    row = connection.execute("SELECT * FROM claims WHERE job_arn = ?", (job_arn,)).fetchone()
    return None if row is None else ClaimRow(_claim(row), row["lease_until"])


def new_fence(connection: sqlite3.Connection) -> int:
    """A fence above all that were ever given out: the schema's AUTOINCREMENT remembers them."""
    (newest,) = connection.execute(
        "SELECT max(seq) FROM sqlite_sequence WHERE name = 'claims'"
    ).fetchone()
    return (newest or 0) + 1


def put(connection: sqlite3.Connection, row: ClaimRow) -> None:
    """Writes a new claim in place of any other on its ARN, or renews one with its name locks."""
    claim, lease_until = row.claim, row.lease_until
    connection.execute(
        "DELETE FROM claims WHERE job_arn = ? AND fence <> ?", (claim.job_arn, claim.fence)
    )
    connection.execute(
        "INSERT INTO claims (fence, job_arn, owner, lease_until) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (fence) DO UPDATE SET lease_until = excluded.lease_until",
        (claim.fence, claim.job_arn, claim.owner, lease_until),
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


def find_lock(connection: sqlite3.Connection, name: str) -> NameLockRow | None:
    row = connection.execute(
        "SELECT job_arn, owner, fence, name_locks.lease_until FROM name_locks "
        "JOIN claims USING (fence) WHERE name = ?",
        (name,),
    ).fetchone()
    return None if row is None else NameLockRow(name, _claim(row), row["lease_until"])


def put_lock(connection: sqlite3.Connection, row: NameLockRow) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO name_locks (name, fence, lease_until) VALUES (?, ?, ?)",
        (row.name, row.claim.fence, row.lease_until),
    )


def delete_lock(connection: sqlite3.Connection, claim: Claim, name: str) -> None:
    """Deletes the lock of a name, if it belongs to the claim."""
    connection.execute("DELETE FROM name_locks WHERE name = ? AND fence = ?", (name, claim.fence))


def _claim(row: sqlite3.Row) -> Claim:
    return Claim(row["job_arn"], row["owner"], row["fence"])
