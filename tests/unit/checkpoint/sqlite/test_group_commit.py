from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from daemon.checkpoint.ports import (
    Claim,
    ClaimedElsewhere,
    HistoryFilter,
    LeaseLost,
)
from daemon.checkpoint.sqlite.database import Database
from daemon.checkpoint.sqlite.group_commit import GroupCommit
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.errors import EdgeFault, SetupFault
from daemon.reasons import Edge, Reason
from tests.support.checkpoint_calls import (
    ARN,
    LEASE,
    TARGET,
    arn_of,
    begin,
    claimed,
    locked_by_another_program,
    mark_of,
    synced,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path

    from daemon.checkpoint.sqlite.database import Answer, Operation
    from daemon.checkpoint.sqlite.store import SqliteCheckpoint
    from tests.support.checkpoint_calls import Start


async def test_500_jobs_at_once_need_few_transactions(checkpoint: SqliteCheckpoint) -> None:
    statements: list[str] = []
    await checkpoint._write(lambda connection: connection.set_trace_callback(statements.append))

    async def work(number: int) -> None:
        claim = await claimed(checkpoint, arn_of(number))
        await begin(checkpoint, claim, mark_of(number), lock_name=f"run/{number}")
        await synced(checkpoint, claim, mark_of(number))

    await asyncio.gather(*(work(number) for number in range(500)))

    assert (await checkpoint.row_counts())["synced"] == 500
    assert statements.count("COMMIT") <= 10  # for 1500 operations


async def test_busy_callers_that_come_apart_share_transactions(
    checkpoint: SqliteCheckpoint,
) -> None:
    statements: list[str] = []
    await checkpoint._write(lambda connection: connection.set_trace_callback(statements.append))

    async def work(number: int) -> None:
        for turn in range(20):
            await claimed(checkpoint, arn_of(100 * number + turn))
            await asyncio.sleep(0.0005 * number)  # a call of its own, of another length

    await asyncio.gather(*(work(number) for number in range(4)))

    assert statements.count("COMMIT") <= 35  # for 80 operations; 48 without a wait, 21 with it


async def test_the_failure_of_one_does_not_undo_the_others(checkpoint: SqliteCheckpoint) -> None:
    lost = await claimed(checkpoint, arn_of(0))
    await checkpoint.release(lost)
    claims = [lost, *[await claimed(checkpoint, arn_of(number)) for number in (1, 2)]]
    statements: list[str] = []
    await checkpoint._write(lambda connection: connection.set_trace_callback(statements.append))

    results = await asyncio.gather(
        *(
            begin(checkpoint, claim, mark_of(number), lock_name=f"run/{number}")
            for number, claim in enumerate(claims)
        ),
        checkpoint.job(mark_of(2)),
        return_exceptions=True,
    )

    assert isinstance(results[0], LeaseLost)
    assert await checkpoint.job(mark_of(0)) is None
    assert results[1] == await checkpoint.job(mark_of(1))
    assert results[2] == results[3], "a read sees what was asked for before it"
    assert statements.count("BEGIN IMMEDIATE") == 1


async def test_whatever_one_raises_is_its_own(checkpoint: SqliteCheckpoint) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM meta")
        raise ZeroDivisionError

    failed, claim = await asyncio.gather(
        checkpoint._write(fail), checkpoint.claim(ARN, LEASE), return_exceptions=True
    )

    assert isinstance(failed, ZeroDivisionError)
    assert isinstance(claim, Claim)
    assert (
        await checkpoint._read(
            lambda connection: connection.execute("SELECT count(*) FROM meta").fetchone()[0]
        )
        > 0
    )


async def test_a_cancelled_caller_loses_nothing_for_itself_or_others(
    checkpoint: SqliteCheckpoint, path: Path, start: Start
) -> None:
    with locked_by_another_program(path):
        under_way = asyncio.create_task(checkpoint.claim(arn_of(0), LEASE))
        await asyncio.sleep(0)
        waiting = [
            asyncio.create_task(checkpoint.claim(arn_of(number), LEASE)) for number in (1, 2)
        ]
        await asyncio.sleep(0)
        under_way.cancel()
        waiting[0].cancel()
    results = await asyncio.gather(under_way, *waiting, return_exceptions=True)

    assert [type(result) for result in results] == [
        asyncio.CancelledError,
        asyncio.CancelledError,
        Claim,
    ]
    other = await start()
    for number in range(3):
        assert isinstance(await other.claim(arn_of(number), LEASE), ClaimedElsewhere)


async def test_a_cancelled_caller_does_not_hide_a_fault_from_the_others(
    checkpoint: SqliteCheckpoint, path: Path
) -> None:
    with locked_by_another_program(path):
        both = [asyncio.create_task(checkpoint.probe()) for _ in range(2)]
        await asyncio.sleep(0)
        both[0].cancel()
        results = await asyncio.gather(*both, return_exceptions=True)

    assert [type(result) for result in results] == [asyncio.CancelledError, EdgeFault]
    await checkpoint.probe()


async def test_reading_does_not_wait_for_a_writer(checkpoint: SqliteCheckpoint, path: Path) -> None:
    with locked_by_another_program(path):
        assert await checkpoint.history(HistoryFilter()) == []


async def test_a_flusher_that_is_cancelled_leaves_nobody_waiting(
    checkpoint: SqliteCheckpoint, path: Path
) -> None:
    with locked_by_another_program(path):
        under_way = asyncio.create_task(checkpoint.probe())
        await asyncio.sleep(0)
        waiting = asyncio.create_task(checkpoint.probe())
        await asyncio.sleep(0)
        assert checkpoint._commits._flusher is not None
        checkpoint._commits._flusher.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way
    await checkpoint.aclose()
    await waiting


async def test_a_bug_in_the_storage_reaches_the_caller(
    checkpoint: SqliteCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(operations: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint._database, "apply", broken)
        with pytest.raises(ZeroDivisionError):
            await checkpoint.probe()
    await checkpoint.probe()


class HangingDisk:
    """A disk on which transactions hang until `go_on` is set."""

    def __init__(self, checkpoint: SqliteCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on = threading.Event()
        self.hit = threading.Event()
        apply = checkpoint._database.apply

        def hanging(operations: Sequence[Operation[Any]]) -> list[Answer]:
            self.hit.set()
            self.go_on.wait(30)
            return apply(operations)

        monkeypatch.setattr(checkpoint._database, "apply", hanging)
        monkeypatch.setattr(checkpoint._commits, "_call_seconds", 0.05)


async def test_a_call_that_outlasts_its_time_is_a_fault_of_the_storage(
    checkpoint: SqliteCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = HangingDisk(checkpoint, monkeypatch)
    with pytest.raises(EdgeFault, match="has not answered within") as caught:
        await checkpoint.probe()
    assert (caught.value.edge, caught.value.reason) == (Edge.CHECKPOINT, Reason.STORAGE)
    assert caught.value.curable
    with pytest.raises(EdgeFault):
        await checkpoint.claim(ARN, LEASE)
    disk.go_on.set()
    assert isinstance(await checkpoint.claim(ARN, LEASE), Claim)  # it works as before


async def test_what_had_not_begun_when_its_time_was_up_is_not_carried_out_later(
    checkpoint: SqliteCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = HangingDisk(checkpoint, monkeypatch)
    begun = asyncio.create_task(checkpoint.claim(arn_of(1), LEASE))
    await asyncio.to_thread(disk.hit.wait, 5)
    with pytest.raises(EdgeFault):
        await checkpoint.claim(arn_of(2), LEASE)
    with pytest.raises(EdgeFault):
        await begun
    disk.go_on.set()
    claims = "SELECT job_arn FROM claims"
    found = await checkpoint._read(lambda connection: connection.execute(claims).fetchall())
    assert [row["job_arn"] for row in found] == [arn_of(1)]


async def test_a_hanging_disk_keeps_neither_the_close_nor_the_process(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = await open_sqlite_checkpoint(path, TARGET)
    disk = HangingDisk(checkpoint, monkeypatch)
    with pytest.raises(EdgeFault):
        await checkpoint.probe()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await checkpoint.aclose()
    # the interpreter waits for every other thread
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "checkpoint")
    disk.go_on.set()
    await checkpoint.aclose()


async def test_a_disk_that_hangs_at_the_start_ends_the_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    database = Database(path, TARGET, busy_seconds=1)
    monkeypatch.setattr(database, "open", lambda: go_on.wait(30))
    commits = GroupCommit(database, open_seconds=0.05)
    with pytest.raises(SetupFault, match="has not answered within"):
        await commits.open()
    go_on.set()
    await commits.aclose()
