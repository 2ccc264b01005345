from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from daemon.checkpoint.pruner import run_pruner
from daemon.errors import EdgeFault
from daemon.outcome import Edge, Reason
from tests.support.checkpoint_calls import arn_of, claimed, mark_of, synced

if TYPE_CHECKING:
    import pytest

    from daemon.checkpoint.sqlite.store import SqliteCheckpoint
    from tests.support.checkpoint_calls import FakeClock

DAY = 86400.0


async def test_old_rows_are_deleted_again_and_again_also_after_a_fault(
    checkpoint: SqliteCheckpoint, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.checkpoint.pruner.PRUNE_SECONDS", 0.0)
    monkeypatch.setattr("daemon.checkpoint.pruner.wall", clock)
    real = checkpoint.prune
    fault = EdgeFault(Edge.CHECKPOINT, Reason.STORAGE, "disk full")
    faults: list[EdgeFault] = []
    pruned: asyncio.Queue[int] = asyncio.Queue()

    async def prune(older_than: float) -> int:
        if not faults:
            raise fault
        pruned.put_nowait(await real(older_than))
        return 0

    monkeypatch.setattr(checkpoint, "prune", prune)
    for number in range(2):
        await synced(checkpoint, await claimed(checkpoint, arn_of(number)), mark_of(number))
        clock.now += 3 * DAY
    pruner = asyncio.create_task(run_pruner(checkpoint, 4, faults.append))
    assert await pruned.get() == 1
    clock.now += 3 * DAY
    while not await pruned.get():
        pass
    pruner.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await pruner
    assert faults == [fault]
