"""Beginning and doing nothing: from the start to the first run, and what an idle hour costs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.bench.drain import QUIET_SECONDS
from benchmarks.bench.world import open_round

if TYPE_CHECKING:
    from benchmarks.bench.contestants import Contestant
    from benchmarks.bench.world import Round, World

DOLLARS_A_REQUEST = 0.40 / 1_000_000
"""Of SQS; empty receives count."""
HOURS_A_MONTH = 730
LONG_POLL_SECONDS = 20


@dataclass(frozen=True)
class ColdStart:
    """One round.

    Attributes:
        seconds: from the start of the process to the run of the job that waits.
        cpu_seconds: processor time until then.
    """

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Idle:
    """One round.

    Attributes:
        cpu_percent: of a core.
        rss_mb: resident memory.
        requests_an_hour: to AWS.
        dollars_a_month: what these cost.
    """

    cpu_percent: float
    rss_mb: float
    requests_an_hour: float
    dollars_a_month: float


async def cold_start(world: World, contestant: Contestant) -> ColdStart:
    """One message waits."""
    async with open_round(world, contestant) as scene:
        await scene.send(scene.events(1))
        running = await scene.start()
        await scene.until_runs(1, QUIET_SECONDS)
        used = running.usage().cpu_seconds
        ((_, created),) = await scene.runs()
    return ColdStart(created - running.started, used)


async def idle(world: World, contestant: Contestant, seconds: float) -> Idle:
    """After one job, the queue stays empty."""
    async with open_round(world, contestant, wait_seconds=LONG_POLL_SECONDS) as scene:
        await scene.send(scene.events(1))
        running = await scene.start()
        await scene.until_runs(1, QUIET_SECONDS)
        await scene.until_empty(QUIET_SECONDS)
        await asyncio.sleep(3)  # what follows a job is not idle
        before, asked = running.usage(), await _requests(scene)
        begun = time.monotonic()
        await asyncio.sleep(seconds)
        took = time.monotonic() - begun
        after = running.usage()
        requests = (await _requests(scene) - asked) / took * 3600
        memory = running.rss_mb()
    return Idle(
        cpu_percent=(after.cpu_seconds - before.cpu_seconds) / took * 100,
        rss_mb=memory,
        requests_an_hour=requests,
        dollars_a_month=requests * HOURS_A_MONTH * DOLLARS_A_REQUEST,
    )


async def _requests(scene: Round) -> int:
    """To SQS and SageMaker so far, also those about the dead-letter queue."""
    total = 0
    for url in (scene.assignment.queue_url, scene.dead_letter_url):
        asked: dict[str, dict[str, int]] = await scene.world.ask(
            "requests", queue_url=url, project=scene.assignment.project
        )
        total += sum(asked["sqs"].values())
    return total + sum(asked["sagemaker"].values())
