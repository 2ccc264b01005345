"""What the lock file of an owner says. Real processes that are killed:
tests/integration/test_checkpoint_processes.py.
"""

from __future__ import annotations

import contextlib
import sqlite3
from functools import partial
from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.ports import ClaimedElsewhere, WriterElsewhere, WriterLease
from daemon.errors import EdgeFault
from tests.support.checkpoint_calls import (
    ARN,
    LEASE,
    TARGET,
    FakeClock,
    arn_of,
    claimed,
)

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.checkpoint.sqlite.store import SqliteCheckpoint
    from tests.support.checkpoint_calls import Start


def lock_files(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir() if ".owner-" in file.name}


def forge_claim(path: Path, owner: str, arn: str = ARN) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA foreign_keys = ON")
        other.execute(
            "INSERT INTO claims (job_arn, target, place, owner, lease_until) "
            "VALUES (?, ?, ?, ?, 9e9)",
            (arn, TARGET.kind, TARGET.place, owner),
        )
        other.execute(
            "INSERT INTO name_locks "
            "SELECT 'project/' || job_arn, target, place, fence, 9e9 FROM claims "
            "WHERE owner = ?",
            (owner,),
        )


async def test_each_has_one_lock_file_for_this_user_alone_until_it_closes(
    start: Start, path: Path
) -> None:
    ours, theirs = await start(), await start()
    owners = {
        f"checkpoint.db.owner-{(await claimed(each, arn_of(n))).owner}"
        for n, each in enumerate((ours, theirs))
    }

    assert lock_files(path) == owners
    assert {(path.parent / name).stat().st_mode & 0o777 for name in owners} == {0o600}
    await ours.aclose()
    await theirs.aclose()
    assert lock_files(path) == set()


async def test_a_start_takes_over_the_claims_of_an_owner_that_is_gone(
    start: Start, path: Path
) -> None:
    first = await start()
    forge_claim(path, "gone")
    (path.parent / "checkpoint.db.owner-gone").touch()
    (path.parent / "checkpoint.db.owner-idle").touch()
    living = {f"checkpoint.db.owner-{(await claimed(first, arn_of(1))).owner}"}

    second = await start()

    assert len(lock_files(path)) == 2
    assert lock_files(path) > living
    claim = await claimed(second)
    await second.lock_name(claim, f"project/{ARN}", LEASE)
    assert isinstance(await second.claim(arn_of(1), LEASE), ClaimedElsewhere)


async def test_a_claim_takes_over_from_an_owner_that_is_gone(
    checkpoint: SqliteCheckpoint, path: Path
) -> None:
    forge_claim(path, "gone")
    lock_file = path.parent / "checkpoint.db.owner-gone"
    lock_file.touch()

    await claimed(checkpoint)

    assert not lock_file.exists()


async def test_a_name_lock_is_taken_over_from_an_owner_that_is_gone(
    checkpoint: SqliteCheckpoint, path: Path
) -> None:
    forge_claim(path, "gone", arn_of(1))
    (path.parent / "checkpoint.db.owner-gone").touch()

    await checkpoint.lock_name(await claimed(checkpoint), f"project/{arn_of(1)}", LEASE)

    await claimed(checkpoint, arn_of(1))


async def test_the_writer_lease_of_an_owner_that_is_found_gone_ends_then_and_the_grace_follows(
    start: Start, path: Path, clock: FakeClock
) -> None:
    # It was free at once: with MongoDB away, a thread of the server carried out the next call of
    # the dead connection 28 s later, together with the next writer's.
    checkpoint = await start()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("INSERT INTO writer_leases VALUES ('modeldb', 'gone', 3, 9e9)")
    take = partial(checkpoint.take_writer_lease, "modeldb", LEASE, grace_seconds=50.0)
    assert await take() == WriterElsewhere("gone", 9e9 - clock.now + 50)
    lock_file = path.parent / "checkpoint.db.owner-gone"
    lock_file.touch()

    assert await take() == WriterElsewhere("gone", 50, ended=True)
    assert not lock_file.exists()
    clock.now += 49
    assert await take() == WriterElsewhere("gone", 1, ended=True)
    await start()  # one more start does not begin it anew
    clock.now += 1
    lease = await take()
    assert isinstance(lease, WriterLease)
    assert lease.term == 4


async def test_a_writer_lease_that_ran_out_long_before_its_owner_is_found_gone_is_free(
    checkpoint: SqliteCheckpoint, path: Path, clock: FakeClock
) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(
            "INSERT INTO writer_leases VALUES ('modeldb', 'gone', 3, ?)", (clock.now - 50,)
        )
    (path.parent / "checkpoint.db.owner-gone").touch()

    lease = await checkpoint.take_writer_lease("modeldb", LEASE, grace_seconds=50.0)

    assert isinstance(lease, WriterLease)


async def test_an_owner_without_a_lock_file_is_not_known_to_be_gone(
    start: Start, path: Path
) -> None:
    checkpoint = await start()
    forge_claim(path, "unknown")
    await start()

    assert isinstance(await checkpoint.claim(ARN, LEASE), ClaimedElsewhere)


async def test_a_take_over_that_did_not_become_durable_leaves_the_lock_file(
    checkpoint: SqliteCheckpoint, path: Path
) -> None:
    forge_claim(path, "gone")
    (path.parent / "checkpoint.db.owner-gone").touch()

    def take_over_and_fail(connection: sqlite3.Connection) -> None:
        assert checkpoint._owners.release_if_gone(connection, "gone")
        raise LookupError

    def take_over_and_break(connection: sqlite3.Connection) -> None:
        assert checkpoint._owners.release_if_gone(connection, "gone")
        connection.execute("SELECT * FROM no_such_table")

    with pytest.raises(LookupError):
        await checkpoint._write(take_over_and_fail)
    with pytest.raises(EdgeFault):
        await checkpoint._write(take_over_and_break)
    assert "checkpoint.db.owner-gone" in lock_files(path)

    await claimed(checkpoint)
    assert "checkpoint.db.owner-gone" not in lock_files(path)
