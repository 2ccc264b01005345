"""A full queue is emptied: jobs per second, processor time per job, memory."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.bench.figures import Account
from benchmarks.bench.stand_ins.clock import SETTLED_SECONDS
from benchmarks.bench.world import POLLERS, open_round

if TYPE_CHECKING:
    from benchmarks.bench.contestants import Contestant
    from benchmarks.bench.targets import Target
    from benchmarks.bench.world import World

WARM_UP = 20
QUIET_SECONDS = 90.0
"""A participant that has created no run for so long is stuck."""


@dataclass(frozen=True)
class Drained:
    """One round.

    Attributes:
        jobs_per_second: from the first run to the last, as the target notes it, or as the harness
            sees it where the target does not.
        cpu_ms: processor time for each job, until the queue was empty: from when it was filled, or
            from the first run if it was full at the start.
        rss_mb: resident memory at its most.
        account: jobs against runs.
    """

    jobs_per_second: float
    cpu_ms: float
    rss_mb: float
    account: Account


async def drain(
    world: World,
    contestant: Contestant,
    jobs: int,
    target: Target | None = None,
    *,
    at_start: bool = False,
    pollers: int = POLLERS,
) -> Drained:
    """Fills a queue and waits until the participant has emptied it.

    Args:
        world: where.
        contestant: who.
        jobs: how many.
        target: where runs go; None: a stand-in.
        at_start: the queue is full before the participant starts; otherwise it runs already and has
            done a few jobs.
        pollers: long polls at once.
    """
    async with open_round(world, contestant, target=target, pollers=pollers) as scene:
        warm_up = 0 if at_start else WARM_UP
        if warm_up:
            await scene.send(scene.events(warm_up))
            running = await scene.start()
            await scene.until_runs(warm_up, QUIET_SECONDS)
            await asyncio.sleep(SETTLED_SECONDS)
            first, before = warm_up, running.usage()
            await scene.send(scene.events(jobs, warm_up))
        else:
            await scene.send(scene.events(jobs))
            running = await scene.start()
            first = await scene.until_runs(1, QUIET_SECONDS)
            before = running.usage()
        last = await scene.until_runs(warm_up + jobs, QUIET_SECONDS)
        looked = time.time() - before.at
        await scene.until_empty(QUIET_SECONDS)
        used = running.usage().cpu_seconds - before.cpu_seconds
        most = running.rss_mb(most=True)
        await scene.stop()
        runs = await scene.runs()
    times = sorted(created for _, created in runs if created)[warm_up:]
    return Drained(
        jobs_per_second=(
            (len(times) - 1) / (times[-1] - times[0]) if times else (last - first) / looked
        ),
        cpu_ms=used / max(last - first, 1) * 1000,  # 0: all were there at the first look
        rss_mb=most,
        account=Account.of(scene.jobs, (job for job, _ in runs)),
    )
