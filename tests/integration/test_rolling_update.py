"""A rolling update: the next daemon starts before the previous one ends, on a checkpoint that they
share.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon_process import DaemonProcess, DaemonScene, Job, mark_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn


@contextlib.asynccontextmanager
async def load_on(scene: DaemonScene) -> AsyncIterator[list[Job]]:
    """Finishes ten jobs a second, and sends each event twice."""
    jobs: list[Job] = []

    async def feed() -> None:
        for number in itertools.count():
            job = Job(f"rolled-{number:04d}")
            scene.finish_jobs([job])
            jobs.append(job)
            await scene.send([job.event, job.event])
            await asyncio.sleep(0.1)

    feeding = asyncio.create_task(feed())
    try:
        yield jobs
    finally:
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding


def outcomes_of(daemons: Sequence[DaemonProcess]) -> int:
    return sum(
        line.get("event") == "job outcome" and line["outcome"] == "synced"
        for daemon in daemons
        for line in daemon.log
    )


async def more_outcomes(daemons: Sequence[DaemonProcess], times: int) -> None:
    """Waits until these daemons have synced so many more jobs."""
    wanted = outcomes_of(daemons) + times
    async with asyncio.timeout(60):
        while outcomes_of(daemons) < wanted:
            await asyncio.sleep(0.02)


# four daemons start, one after the other
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_rolling_update_under_load_has_no_gap_and_loses_and_doubles_nothing(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    modeldb.latency_seconds = 0.05
    old = [scene.daemon(free_port()) for _ in range(2)]
    new = [scene.daemon(free_port()) for _ in range(2)]
    await asyncio.gather(*(daemon.start() for daemon in old))
    await asyncio.gather(*(daemon.ready(90) for daemon in old))
    async with load_on(scene) as jobs:
        await more_outcomes(old, 5)
        for number, (leaving, coming) in enumerate(zip(old, new, strict=True)):
            await coming.start()
            await coming.ready(90)  # what maxUnavailable 0 waits for
            remaining = [*old[number + 1 :], *new[: number + 1]]
            leaving.signal(signal.SIGTERM)
            # the service goes on while the old one drains and before another starts
            _, status = await asyncio.gather(more_outcomes(remaining, 5), leaving.ended())
            assert status == 0
        await more_outcomes(new, 5)
    await scene.drained()
    assert sorted(mark_of(run)[0] for run in modeldb.runs()) == sorted(job.arn for job in jobs)
    assert await scene.dead_letters() == []
    for daemon in new:
        assert outcomes_of([daemon]) > 0
        assert await daemon.stop() == 0
    every = [line for daemon in (*old, *new) for line in daemon.log]
    assert [line for line in every if line["level"] in {"error", "text"}] == []
