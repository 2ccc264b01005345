"""The pruner: deletes old rows at its start, and survives a fault of the checkpoint."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from daemon.checkpoint import pruner
from daemon.observability.watchdog import Pulse
from tests.support.flow_scene import DAY, edge_fault, event_body, flow_scene, message, until
from tests.support.log_lines import log_lines

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from daemon.errors import EdgeFault


async def test_many_old_rows_are_deleted_some_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.checkpoint.sqlite.job_rows.PRUNED_AT_ONCE", 2)
    async with flow_scene(tmp_path / "checkpoint.db") as scene:
        for number in range(5):
            scene.jobs.put(f"churn-{number}")
            await scene.handle(message(event_body(f"churn-{number}"), message_id=f"m-{number}"))
        scene.clock.now += 31 * DAY
        monkeypatch.setattr(pruner, "wall", scene.clock)
        with capture_logs() as logs:
            loop = asyncio.create_task(pruner.run_pruner(scene.checkpoint, 30, print, Pulse()))
            await until(lambda: len(log_lines(logs, "old checkpoint rows deleted")) == 3)
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)
        assert [line["rows"] for line in log_lines(logs, "old checkpoint rows deleted")] == [
            4,  # two jobs and their stories
            4,
            2,
        ]
        assert await scene.rows() == []


async def test_old_rows_are_deleted_also_after_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: list[EdgeFault] = []
    async with flow_scene(tmp_path / "checkpoint.db") as scene:
        await scene.process()
        scene.clock.now += 31 * DAY
        monkeypatch.setattr(pruner, "wall", scene.clock)
        monkeypatch.setattr(pruner, "PRUNE_SECONDS", 0.0)
        scene.fail_checkpoint("prune", fault := edge_fault())
        with capture_logs() as logs:
            loop = asyncio.create_task(
                pruner.run_pruner(scene.checkpoint, 30, faults.append, Pulse())
            )
            await until(lambda: log_lines(logs, "old checkpoint rows deleted"))
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)
        assert faults == [fault]
        assert await scene.rows() == []
