"""A disk that hangs under the checkpoint: the daemon holds its messages, and goes on when it is
back.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon_process import daemon_scene, jobs_named, mark_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

VISIBILITY_SECONDS = 10
HANGS_SECONDS = 2.5 * VISIBILITY_SECONDS


# the disk hangs for longer than two visibility timeouts of a real queue
@pytest.mark.slow
async def test_a_disk_that_hangs_uses_up_no_receive(
    moto_endpoint: str,
    modeldb: ModelDbV2StandIn,
    tmp_path: Path,
    free_port: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk_hangs = tmp_path / "disk.hangs"
    monkeypatch.setenv("DISK_HANGS_WHILE", str(disk_hangs))
    async with daemon_scene(moto_endpoint, modeldb.url, tmp_path) as scene:
        scene.program = "tests.support.daemon_with_hanging_disk"
        await scene.make_queues(f"q-{uuid.uuid4().hex[:8]}", visibility=VISIBILITY_SECONDS)
        jobs = jobs_named("hang", 20)
        scene.finish_jobs(jobs)
        scene.sagemaker.latency_seconds = 1.0
        daemon = scene.daemon(free_port())
        await daemon.start()
        await daemon.ready()
        await scene.send([job.event for job in jobs])
        await daemon.outcomes(1)
        disk_hangs.touch()
        async with asyncio.timeout(20):
            while not disk_hangs.with_suffix(".hit").exists():
                await asyncio.sleep(0.02)
        await daemon.logged(
            lambda line: line["event"] == "breaker opened" and line["edge"] == "checkpoint"
        )
        assert (await daemon.get("/healthz"))[0] == 200
        assert (await daemon.get("/readyz"))[0] == 503
        await asyncio.sleep(HANGS_SECONDS)  # of the real queue's clock
        assert (await scene.depth())["visible"] == 0
        disk_hangs.unlink()
        lines = await daemon.outcomes(len(jobs))
        await scene.drained()
        assert {line["receive_count"] for line in lines} == {1}
        assert sorted(mark_of(run)[0] for run in modeldb.runs()) == sorted(job.arn for job in jobs)
        assert await daemon.stop() == 0
