"""One file with several targets, and files from before a row said of which target it is."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.ports import Claim, ClaimedElsewhere, HistoryFilter, JobState, NameLocked
from daemon.checkpoint.sqlite.schema import MIGRATIONS, migrate
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.errors import EdgeFault
from daemon.targets.place import ANY_TARGET, TargetPlace
from tests.support.checkpoint_calls import (
    ARN,
    LEASE,
    MARK,
    NAME,
    TARGET,
    FakeClock,
    begin,
    claimed,
    deferred,
    locked_by_another_program,
    mark_of,
    rejected,
    row,
    synced,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from daemon.checkpoint.sqlite.store import SqliteCheckpoint

MOVED = TargetPlace(TARGET.kind, "http://other:8080/v1")
V1 = TargetPlace("modeldb-v1", "modeldb:6543")


@pytest.fixture(params=[MOVED, V1], ids=["moved", "of another kind"])
async def pair(
    request: pytest.FixtureRequest, path: Path, clock: FakeClock
) -> AsyncIterator[tuple[SqliteCheckpoint, SqliteCheckpoint]]:
    """Two owners of one file, which work for different targets."""
    ours = await open_sqlite_checkpoint(path, TARGET)
    clock.now += 100
    theirs = await open_sqlite_checkpoint(path, request.param)
    yield ours, theirs
    await ours.aclose()
    await theirs.aclose()


Pair = tuple["SqliteCheckpoint", "SqliteCheckpoint"]


async def test_what_is_done_in_one_target_is_unknown_in_another(pair: Pair) -> None:
    ours, theirs = pair
    await synced(ours, await claimed(ours))
    assert await theirs.job(MARK) is None
    assert await theirs.described(ARN) == []

    await begin(theirs, await claimed(theirs))
    await deferred(theirs, await claimed(theirs))
    assert (await row(theirs)).state is JobState.WRITING
    assert (await row(ours)).done
    assert await ours.job_counts() == {TARGET: 1, theirs.target: 1}
    assert {(job.target, job.place) for job in await ours.history(HistoryFilter())} == {
        (TARGET.kind, TARGET.place),
        (theirs.target.kind, theirs.target.place),
    }


async def test_a_write_without_an_answer_may_reach_the_server_under_another_name(
    path: Path,
) -> None:
    ours, moved, v1 = [await open_sqlite_checkpoint(path, target) for target in (TARGET, MOVED, V1)]
    await begin(ours, await claimed(ours))
    assert (await row(moved)).unanswered_writes == 1
    assert [each.unanswered_writes for each in await moved.described(ARN)] == [1]
    assert await v1.job(MARK) is None
    claim = await claimed(moved)
    assert (await begin(moved, claim)).unanswered_writes == 2
    await synced(moved, claim)
    assert (await row(moved)).done
    assert (await row(ours)).unanswered_writes == 1
    for checkpoint in (ours, moved, v1):
        await checkpoint.aclose()


async def test_claims_and_name_locks_of_two_targets_do_not_meet(pair: Pair) -> None:
    ours, theirs = pair
    claims = [await claimed(ours), await claimed(theirs)]
    await ours.lock_name(claims[0], "project/churn", LEASE)
    await theirs.lock_name(claims[1], "project/churn", LEASE)
    assert await ours.renew(claims[:1], LEASE) == []
    await ours.release(claims[0])
    assert await theirs.renew(claims[1:], LEASE) == []
    again = await open_sqlite_checkpoint(ours._database.path, theirs.target)
    assert isinstance(await again.claim(ARN, LEASE), ClaimedElsewhere)
    other = await again.claim(mark_of(2).arn, LEASE)
    assert isinstance(other, Claim)
    with pytest.raises(NameLocked):
        await again.lock_name(other, "project/churn", LEASE)
    await again.aclose()


async def test_a_message_is_rejected_once_whatever_the_target(pair: Pair) -> None:
    ours, theirs = pair
    await rejected(ours, None, None)
    await ours.keep_body("m-3", "the body")
    await rejected(theirs, None, None)
    (message,) = await theirs.rejected_messages()
    assert message.body == "the body"


async def test_a_target_is_as_old_as_its_first_use(
    pair: Pair, path: Path, clock: FakeClock
) -> None:
    ours, theirs = pair
    assert (ours.created_at, theirs.created_at) == (clock.now - 100, clock.now)
    clock.now += 50
    again = await open_sqlite_checkpoint(path, TARGET)
    assert again.created_at == ours.created_at
    await again.aclose()


async def test_a_clock_that_was_wrong_when_the_file_was_made_makes_it_no_older(
    path: Path, clock: FakeClock
) -> None:
    right, clock.now = clock.now, 3.0
    checkpoint = await open_sqlite_checkpoint(path, TARGET)
    await checkpoint.aclose()
    clock.now = right
    checkpoint = await open_sqlite_checkpoint(path, TARGET)
    assert checkpoint.created_at == right
    await checkpoint.aclose()


async def test_a_clock_that_is_set_while_the_checkpoint_is_open_makes_it_no_older(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = await open_sqlite_checkpoint(path, TARGET, busy_seconds=0.1)
    clock.now += 40 * 86400
    monkeypatch.setattr("daemon.checkpoint.sqlite.database.clock_ahead", lambda: 40 * 86400.0)
    # not durable, so it is found again
    with locked_by_another_program(path), pytest.raises(EdgeFault):
        await checkpoint.probe()
    await claimed(checkpoint)
    assert checkpoint.created_at == clock.now
    await checkpoint.aclose()
    clock.now += 60
    again = await open_sqlite_checkpoint(path, TARGET)
    assert again.created_at == clock.now - 60
    await again.aclose()


async def test_a_file_that_was_put_back_after_long_is_as_good_as_new(
    path: Path, clock: FakeClock
) -> None:
    backup = await open_sqlite_checkpoint(path, TARGET)
    await synced(backup, await claimed(backup))
    await backup.aclose()
    clock.now += 2 * 86400
    checkpoint = await open_sqlite_checkpoint(path, TARGET)
    assert checkpoint.created_at == clock.now
    assert (await row(checkpoint)).done
    await checkpoint.aclose()


async def test_looking_at_a_file_does_not_make_it_a_targets(path: Path, clock: FakeClock) -> None:
    looking = await open_sqlite_checkpoint(path, ANY_TARGET)
    await looking.probe()
    await looking.aclose()
    clock.now += 1000
    ours = await open_sqlite_checkpoint(path, TARGET)
    assert ours.created_at == clock.now
    await ours.aclose()


def version_2(path: Path, *, kind: str = TARGET.kind) -> None:
    """A file as the version before wrote it: one job in each state that says something, the claim
    on one of them held by a process that left no trace, and a fence that was given out and ended.
    """
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, 100.0, MIGRATIONS[:2])
        for number, state, unanswered, target, ids, steps in [
            (1, "synced", 0, kind, '{"run_id": "r-1"}', "{}"),
            (2, "writing", 2, kind, "{}", '{"run_id": "7"}'),
            (3, "released", 0, "", "{}", "{}"),
            (4, "rejected", 1, kind, "{}", "{}"),
            (5, "skipped", 0, "", "{}", "{}"),
        ]:
            connection.execute(
                "INSERT INTO jobs VALUES (?, ?, ?, ?, '', '', 3, ?, ?, ?, 'm-1', 100, 100, ?)",
                (
                    mark_of(number).arn,
                    mark_of(number).creation_time,
                    NAME,
                    state,
                    unanswered,
                    target,
                    ids,
                    steps,
                ),
            )
        connection.execute(
            "INSERT INTO claims (fence, job_arn, owner, lease_until) VALUES (41, ?, 'gone', ?)",
            (mark_of(2).arn, FakeClock().now + LEASE),
        )
        connection.execute(
            "INSERT INTO name_locks VALUES ('run/x', 41, ?)", (FakeClock().now + 60,)
        )
        connection.execute("UPDATE sqlite_sequence SET seq = 77 WHERE name = 'claims'")


async def test_a_file_of_version_2_goes_on(path: Path, clock: FakeClock) -> None:
    version_2(path)
    checkpoint = await open_sqlite_checkpoint(path, TARGET)
    rows = {number: await row(checkpoint, mark_of(number)) for number in range(1, 6)}
    assert {number: (each.state, each.unanswered_writes) for number, each in rows.items()} == {
        1: (JobState.SYNCED, 0),
        2: (JobState.WRITING, 2),
        3: (JobState.RELEASED, 0),
        4: (JobState.REJECTED, 1),
        5: (JobState.SKIPPED, 0),
    }
    assert (rows[2].steps, rows[2].attempts) == ({"run_id": "7"}, 3)
    assert not rows[1].done

    # claims, locks and fences are as they were
    assert isinstance(await checkpoint.claim(mark_of(2).arn, LEASE), ClaimedElsewhere)
    claim = await claimed(checkpoint, mark_of(3).arn)
    assert claim.fence == 78
    with pytest.raises(NameLocked):
        await checkpoint.lock_name(claim, "run/x", LEASE)
    clock.now += LEASE + 1
    claim = await claimed(checkpoint, mark_of(2).arn)
    record = await begin(checkpoint, claim, mark_of(2), lock_name="run/x")
    assert (record.unanswered_writes, record.steps, record.place) == (
        3,
        {"run_id": "7"},
        TARGET.place,
    )
    await checkpoint.note_steps(claim, mark_of(2), {"model": "1"})
    assert (await checkpoint.job_counts())[TARGET] == 1
    assert len(await checkpoint.history(HistoryFilter())) == 5
    await checkpoint.aclose()


async def test_what_is_under_way_in_a_file_of_version_2_goes_to_one_target(path: Path) -> None:
    version_2(path)
    ours = await open_sqlite_checkpoint(path, TARGET)
    await deferred(ours, await claimed(ours, mark_of(4).arn), mark_of(4))
    moved = await open_sqlite_checkpoint(path, MOVED)
    v1 = await open_sqlite_checkpoint(path, V1)
    assert ((await row(ours, mark_of(4))).attempts, (await row(moved, mark_of(4))).attempts) == (
        4,
        0,
    )
    assert await v1.job(mark_of(1)) is None
    assert await v1.job(mark_of(2)) is None
    assert await v1.described(mark_of(3).arn) != []
    for checkpoint in (ours, moved, v1):
        await checkpoint.aclose()


@pytest.mark.parametrize("run_id", ["r-1", "r-9"])
async def test_a_job_that_version_2_synced_is_recorded_once_more_when_found(
    path: Path, run_id: str
) -> None:
    version_2(path)
    checkpoint = await open_sqlite_checkpoint(path, TARGET)
    claim = await claimed(checkpoint, mark_of(1).arn)
    await synced(checkpoint, claim, mark_of(1), run_id=run_id)
    assert (await row(checkpoint, mark_of(1))).done
    rows = [
        job for job in await checkpoint.history(HistoryFilter()) if job.job_arn == mark_of(1).arn
    ]
    # the old row is of another ModelDB, unless it tells of the run that was found
    assert len(rows) == (1 if run_id == "r-1" else 2)
    await checkpoint.aclose()
