"""Claims and name locks in SQL. Every function is part of a write transaction and either changes
all it names or raises first.

A claim is a row with a fence (a number never given twice), an owner and a lease. It is *held* as
long as its row is there; its lease says until when nobody else may take it. A name lock belongs to
a claim and ends with it at the latest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.checkpoint.ports import Claim, ClaimedElsewhere, LeaseLost, NameLocked

if TYPE_CHECKING:
    import sqlite3

    from daemon.checkpoint.sqlite.process_locks import ProcessLocks


def take(
    connection: sqlite3.Connection,
    owners: ProcessLocks,
    job_arn: str,
    *,
    now: float,
    lease_seconds: float,
) -> Claim | ClaimedElsewhere:
    """Claims a job for this process, unless another living one holds it with a lease that has not
    run out.

    A claim of our own is prolonged and keeps its fence while its lease lasts; after that it is a
    new claim.
    """
    held = connection.execute(
        "SELECT fence, owner, lease_until FROM claims WHERE job_arn = ?", (job_arn,)
    ).fetchone()
    if held is not None and held["lease_until"] > now:
        if held["owner"] == owners.me:
            claim = Claim(job_arn, owners.me, held["fence"])
            extend(connection, claim, lease_until=now + lease_seconds)
            return claim
        if not owners.forget_if_gone(connection, held["owner"]):
            return ClaimedElsewhere(held["owner"], held["lease_until"] - now)
    connection.execute("DELETE FROM claims WHERE job_arn = ?", (job_arn,))
    fence = connection.execute(
        "INSERT INTO claims (job_arn, owner, lease_until) VALUES (?, ?, ?)",
        (job_arn, owners.me, now + lease_seconds),
    ).lastrowid
    return Claim(job_arn, owners.me, int(fence or 0))


def lease_of(connection: sqlite3.Connection, claim: Claim) -> float | None:
    """Until when the claim's lease lasts (epoch seconds); None when the claim is no longer held."""
    held = connection.execute(
        "SELECT lease_until FROM claims WHERE fence = ? AND job_arn = ? AND owner = ?",
        (claim.fence, claim.job_arn, claim.owner),
    ).fetchone()
    return None if held is None else float(held["lease_until"])


def require_lease(connection: sqlite3.Connection, claim: Claim, *, now: float) -> float:
    """The end of the claim's lease.

    Raises:
        LeaseLost: the claim is not held any more, or its lease has run out, so that anyone may take
            it at any moment.
    """
    lease_until = lease_of(connection, claim)
    if lease_until is None or lease_until <= now:
        raise LeaseLost(claim.job_arn)
    return lease_until


def extend(connection: sqlite3.Connection, claim: Claim, *, lease_until: float) -> bool:
    """Prolongs a claim and its name locks, also when its lease has run out but nobody took it.
    False: it is not held.
    """
    if lease_of(connection, claim) is None:
        return False
    connection.execute(
        "UPDATE claims SET lease_until = ? WHERE fence = ?", (lease_until, claim.fence)
    )
    connection.execute(
        "UPDATE name_locks SET lease_until = ? WHERE fence = ?", (lease_until, claim.fence)
    )
    return True


def end(connection: sqlite3.Connection, claim: Claim) -> None:
    """Ends a claim and, by the schema, its name locks."""
    connection.execute(
        "DELETE FROM claims WHERE fence = ? AND job_arn = ? AND owner = ?",
        (claim.fence, claim.job_arn, claim.owner),
    )


def take_lock(
    connection: sqlite3.Connection,
    owners: ProcessLocks,
    claim: Claim,
    name: str,
    *,
    now: float,
    lease_until: float,
) -> None:
    """Takes the lock of a name for a claim that is held, or prolongs it.

    Raises:
        NameLocked: a living owner's other claim has it, and its lease has not run out.
    """
    held = connection.execute(
        "SELECT fence, owner, name_locks.lease_until FROM name_locks JOIN claims USING (fence) "
        "WHERE name = ?",
        (name,),
    ).fetchone()
    if (
        held is not None
        and held["fence"] != claim.fence
        and held["lease_until"] > now
        and (held["owner"] == owners.me or not owners.forget_if_gone(connection, held["owner"]))
    ):
        raise NameLocked(name, held["lease_until"] - now)
    connection.execute(
        "INSERT OR REPLACE INTO name_locks (name, fence, lease_until) VALUES (?, ?, ?)",
        (name, claim.fence, lease_until),
    )


def unlock(connection: sqlite3.Connection, claim: Claim, name: str) -> None:
    connection.execute("DELETE FROM name_locks WHERE name = ? AND fence = ?", (name, claim.fence))
