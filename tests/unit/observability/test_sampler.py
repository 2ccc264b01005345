"""The sampler: updates the gauges of queue and checkpoint, and survives a fault of either."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from daemon.intake.queue_monitor import QueueMonitor
from daemon.observability import sampler
from daemon.observability.metrics import Metrics
from daemon.reasons import Edge
from tests.support.flow_scene import CountingPulse, edge_fault, flow_scene, until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest


async def test_queue_and_checkpoint_are_sampled_also_after_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "SAMPLE_SECONDS", 0.0)
    metrics, pulse = Metrics(version="1", target="modeldb-v2"), CountingPulse()
    async with flow_scene(tmp_path / "checkpoint.db") as scene:
        await scene.process()
        scene.queue.faults["state"] = deque([edge_fault(Edge.QUEUE)])
        monitor = QueueMonitor(scene.queue, None)
        loop = asyncio.create_task(
            sampler.run_sampler(monitor, scene.checkpoint, metrics, scene.faults.append, pulse)
        )
        await until(lambda: pulse.rounds > 2)
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
    assert [fault.edge for fault in scene.faults] == [Edge.QUEUE]
    assert monitor.visibility_seconds() == 30
    value = metrics.registry.get_sample_value
    assert value("modeldb_sync_queue_messages", {"state": "visible"}) == 0
    assert value("modeldb_sync_checkpoint_rows", {"state": "synced"}) == 1


async def test_the_rows_of_a_table_are_counted_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "SAMPLE_SECONDS", 0.0)
    metrics, pulse, counted = Metrics(version="1", target="modeldb-v2"), CountingPulse(), 0
    async with flow_scene(tmp_path / "checkpoint.db") as scene:
        count = scene.checkpoint.row_counts

        async def counting() -> Mapping[str, int]:
            nonlocal counted
            counted += 1
            return await count()

        monkeypatch.setattr(scene.checkpoint, "row_counts", counting)
        loop = asyncio.create_task(
            sampler.run_sampler(
                QueueMonitor(scene.queue, None),
                scene.checkpoint,
                metrics,
                scene.faults.append,
                pulse,
                count_every_seconds=3600.0,
            )
        )
        await until(lambda: pulse.rounds > 3)
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
    assert counted == 1
