"""What goes wrong in practice: events that come twice, a target that is down, poison, a stop under
load. Shown by the account of jobs against runs, not by speed.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.bench.drain import QUIET_SECONDS
from benchmarks.bench.figures import Account
from benchmarks.bench.stand_ins.sagemaker import poison
from benchmarks.bench.world import open_round

if TYPE_CHECKING:
    from benchmarks.bench.contestants import Contestant
    from benchmarks.bench.world import Round, World

VISIBILITY_SECONDS = 10
"""Short, so that what a participant leaves is delivered again within the round."""
SETTLE_SECONDS = 2.0


@dataclass(frozen=True)
class Trouble:
    """One round.

    Attributes:
        account: jobs against runs.
        dead_letters: messages in the dead-letter queue at the end.
        left: messages in the queue at the end.
        seconds: that the round says something about; see each.
    """

    account: Account
    dead_letters: int
    left: int
    seconds: float


async def twice(world: World, contestant: Contestant, jobs: int) -> Trouble:
    """Every event is in the queue twice, the second right after the first. `seconds`: until the
    queue was empty.
    """
    async with open_round(world, contestant) as scene:
        await scene.send([event for event in scene.events(jobs) for _ in range(2)])
        await scene.start()
        begun = time.time()
        await scene.until_runs(1, QUIET_SECONDS)
        await scene.until_empty(QUIET_SECONDS)
        return await _end(scene, time.time() - begun)


async def with_poison(world: World, contestant: Contestant, jobs: int) -> Trouble:
    """One message in a hundred is an event cut off. Three receives, then the dead-letter queue.
    `seconds`: until the queue was empty.
    """
    async with open_round(
        world, contestant, visibility_seconds=VISIBILITY_SECONDS, max_receive_count=3
    ) as scene:
        bodies = scene.events(jobs)
        for number in range(poisoned(jobs)):
            bodies.insert(number * 101 + 50, poison(scene.assignment.project, number))
        await scene.send(bodies)
        await scene.start()
        begun = time.time()
        await scene.until_empty(QUIET_SECONDS)
        return await _end(scene, time.time() - begun)


def poisoned(jobs: int) -> int:
    """How many messages in addition to the jobs' are poison: 1 %, at least one."""
    return max(1, round(jobs / 100))


async def stopped_under_load(world: World, contestant: Contestant, jobs: int) -> Trouble:
    """SIGTERM after a quarter of the runs, then a new start. `seconds`: how long the stop took."""
    async with open_round(world, contestant, visibility_seconds=VISIBILITY_SECONDS) as scene:
        await scene.send(scene.events(jobs))
        await scene.start()
        await scene.until_runs(jobs // 4, QUIET_SECONDS)
        begun = time.time()
        await scene.stop()
        took = time.time() - begun
        await scene.start()
        await scene.until_empty(QUIET_SECONDS)
        return await _end(scene, took)


class Outage:
    """The target is down for a while, for all participants at once, as they share it.

    Args:
        world: where.
        seconds: how long it is down.
        rate: events a second for each participant, before, while and after.
        participants: how many live through it.
    """

    def __init__(self, world: World, seconds: float, rate: float, participants: int) -> None:
        self._world = world
        self._seconds = seconds
        self._rate = rate
        self._up_at = 0.0
        self._at_work = asyncio.Barrier(participants + 1)

    async def happen(self) -> None:
        """Takes the target down and up again, once all are at work."""
        await self._at_work.wait()
        await asyncio.sleep(5)
        await self._world.ask("down")
        await asyncio.sleep(self._seconds)
        await self._world.ask("up")
        self._up_at = time.time()

    async def live_through(self, contestant: Contestant) -> Trouble:
        """One participant. `seconds`: from the target's return to the last run."""
        async with open_round(
            self._world, contestant, visibility_seconds=VISIBILITY_SECONDS
        ) as scene:
            try:
                await scene.send(scene.events(5))
                await scene.start()
                await scene.until_runs(5, QUIET_SECONDS)
            finally:
                await self._at_work.wait()
            count = round((self._seconds + 10) * self._rate)
            for number, event in enumerate(scene.events(count, 5)):
                await scene.send([event])
                if number < count - 1:
                    await asyncio.sleep(1 / self._rate)
            await scene.until_empty(QUIET_SECONDS)
            found = await _end(scene, 0.0)
            runs = await scene.runs()
            last = max(created for _, created in runs)
            return Trouble(found.account, found.dead_letters, found.left, last - self._up_at)


async def _end(scene: Round, seconds: float) -> Trouble:
    await asyncio.sleep(SETTLE_SECONDS)
    left = await scene.depth()
    dead = await scene.depth(scene.dead_letter_url)
    await scene.stop()
    runs = await scene.runs()
    return Trouble(Account.of(scene.jobs, (job for job, _ in runs)), dead, left, seconds)
