"""Files from before a row said of which target it is, and a clock that is set."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.ports import ClaimedElsewhere, HistoryFilter, JobState, NameLocked
from daemon.checkpoint.sqlite.schema import MIGRATIONS, migrate
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.errors import EdgeFault
from daemon.targets.place import TargetPlace
from tests.support.checkpoint_calls import (
    LEASE,
    NAME,
    TARGET,
    FakeClock,
    begin,
    claimed,
    deferred,
    locked_by_another_program,
    mark_of,
    row,
    synced,
)

if TYPE_CHECKING:
    from pathlib import Path


MOVED = TargetPlace(TARGET.kind, "http://other:8080/v1")
V1 = TargetPlace("modeldb-v1", "modeldb:6543")


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
