"""The faults that histories of several hosts can contain, beside those of `tests.simulation.chaos`:
processes that are paused, clocks that are set, and a table that is slow, throttles or is away.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.simulation import network

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine
    from typing import Any

    from tests.simulation.hosts import Hosts
    from tests.simulation.world import Replica, World

    Action = Callable[[World, random.Random], Coroutine[Any, Any, None]]

LEASE_SECONDS = 60.0
SKEW_SECONDS = 30.0
"""So long after its lease has ended, others take a claim over."""


async def pause(world: World, chance: random.Random) -> None:
    """A replica is paused, and woken after a while that may exceed its leases."""
    if running := _running(world):
        await _pause(world, chance, chance.choice(running))


async def pause_at_work(world: World, chance: random.Random) -> None:
    """A replica is paused while it works on a job, often in the middle of writing it, until another
    one has taken that over.
    """
    watch, is_writing = _hosts(world).watch, chance.random() < 0.7
    for _ in range(1500):
        for replica in _running(world):
            ledger = () if replica.daemon is None else replica.daemon._in_flight
            if (
                watch.has_any(replica.process)
                if is_writing
                else any(delivery.job.claim is not None for delivery in ledger)
            ):
                steps = replica.process.steps + chance.randint(1, 12 if is_writing else 30)
                replica.process.before_step = steps, replica.pause
                await _until_paused(world, replica)
                await asyncio.sleep(LEASE_SECONDS + SKEW_SECONDS + chance.uniform(-20, 120))
                replica.process.before_step = None
                replica.wake()
                return
        await asyncio.sleep(0.02)


async def clock_set(world: World, chance: random.Random) -> None:
    """The clock of a host is set, within the bound of all of them."""
    if running := _running(world):
        clock = chance.choice(running).process.clock
        assert clock is not None
        ahead = chance.uniform(-clock.bound, clock.bound)
        world.record(f"a clock is set to {ahead:+.1f} s")
        clock.step_to(ahead, world.loop.time())


async def table_down(world: World, chance: random.Random) -> None:
    """DynamoDB is unreachable, or refuses the credentials."""
    faults, seconds = _hosts(world).dynamodb.faults, chance.uniform(1, 100)
    expired = chance.random() < 0.3
    world.record(f"DynamoDB is {'closed to us' if expired else 'down'} for {seconds:.1f} s")
    faults.down, faults.credentials_expired = not expired, expired
    await asyncio.sleep(seconds)
    faults.down = faults.credentials_expired = False


async def table_throttles(world: World, chance: random.Random) -> None:
    """DynamoDB throttles, or answers with 500, half of the time after it has done the work."""
    faults, seconds = _hosts(world).dynamodb.faults, chance.uniform(1, 100)
    what = chance.choice(["throttled", "failing"])
    world.record(f"DynamoDB: {what} for {seconds:.1f} s")
    setattr(faults, what, chance.uniform(0.2, 0.9))
    await asyncio.sleep(seconds)
    faults.throttled = faults.failing = 0.0


async def table_weather(world: World, chance: random.Random) -> None:
    """Requests to DynamoDB and their answers are lost or late."""
    hosts, seconds = _hosts(world), chance.uniform(5, 120)
    chosen = [fate for fate in network.FATES if chance.random() < 0.6]
    total = chance.uniform(0.05, 0.5)
    hosts.network.chances = {fate: total / len(chosen) for fate in chosen}
    world.record(f"DynamoDB's network for {seconds:.1f} s: {', '.join(chosen)}")
    await asyncio.sleep(seconds)
    hosts.network.chances = {}


async def answers_lost(world: World, chance: random.Random) -> None:
    """Some answers of DynamoDB are lost, as long as there are faults."""
    _hosts(world).network.chances = {"answer lost": chance.uniform(0.03, 0.12)}


async def writer_pauses(world: World, chance: random.Random) -> None:
    """The writer of a ModelDB V1 is paused until another one has taken over."""
    writer = world.writer
    if writer is None or writer.process.is_paused:
        return
    writer.process.before_step = writer.process.steps + chance.randint(1, 40), writer.pause
    await _until_paused(world, writer)
    await asyncio.sleep(chance.uniform(100, 260))
    writer.process.before_step = None
    writer.wake()


async def writer_ends_while_stalled(world: World, chance: random.Random) -> None:
    """What the writer of a ModelDB V1 sends is stuck in the network while it ends."""
    writer = world.writer
    if writer is None or writer.process.is_paused:
        return
    world.v1.stall(writer.process, chance.uniform(15, 28))
    await asyncio.sleep(chance.uniform(1, 4))
    if chance.random() < 0.5:
        writer.crash()
    else:
        writer.stop()
    await asyncio.wait([writer.gone], timeout=60)
    await asyncio.sleep(chance.uniform(0, 30))
    world.start_replica(world.new_name())


async def table_slow(world: World, chance: random.Random) -> None:
    """Some partitions take seconds, and the indexes are minutes behind."""
    faults, seconds = _hosts(world).dynamodb.table_faults, chance.uniform(10, 120)
    faults.slow, faults.slow_seconds = chance.choice([0.2, 0.5, 1.0]), chance.uniform(1, 8)
    faults.longest_lag = chance.choice([2.0, 120.0])
    world.record(f"partitions take up to {faults.slow_seconds:.1f} s for {seconds:.1f} s")
    await asyncio.sleep(seconds)
    faults.slow = 0.0


def _hosts(world: World) -> Hosts:
    assert world.hosts is not None
    return world.hosts


def _running(world: World) -> list[Replica]:
    return [replica for replica in world.living if not replica.process.is_paused]


async def _pause(world: World, chance: random.Random, replica: Replica) -> None:
    seconds = chance.choice(
        [
            chance.uniform(1, LEASE_SECONDS),
            chance.uniform(LEASE_SECONDS, LEASE_SECONDS + SKEW_SECONDS),
            chance.uniform(LEASE_SECONDS + SKEW_SECONDS, 300),
        ]
    )
    replica.pause()
    await asyncio.sleep(seconds)
    replica.wake()


async def _until_paused(world: World, replica: Replica) -> None:
    for _ in range(600):
        if replica.process.is_paused or replica.process.dead or world.is_calm:
            return
        await asyncio.sleep(0.05)


HOSTS_CHAOS: dict[str, Action] = {
    "pause": pause,
    "pause_at_work": pause_at_work,
    "clock_set": clock_set,
    "table_down": table_down,
    "table_throttles": table_throttles,
    "table_weather": table_weather,
    "table_slow": table_slow,
}
HOSTS_SCRIPTED: dict[str, Action] = {
    "answers_lost": answers_lost,
    "writer_pauses": writer_pauses,
    "writer_ends_while_stalled": writer_ends_while_stalled,
}
