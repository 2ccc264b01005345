"""The loops that inject faults. They run until cancelled, each with its own random generator, so
that a seed determines the whole schedule.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from random import Random

    from tests.soak.soak_scene import SoakScene
    from tests.support.tcp_fault_proxy import Fault, FaultProxy

SAGEMAKER_ERRORS = (
    ("DescribeTrainingJob", "describe-throttled.json"),
    ("DescribeTrainingJob", "describe-internal.json"),
    ("DescribeTrainingJob", "describe-unavailable.json"),
    ("ListTags", "list-tags-throttled.json"),
)
CLOCK_STEPS = (-120.0, -20.0, -3.0, 3.0, 20.0, 120.0)


@dataclass(frozen=True)
class Pace:
    """Seconds between two faults of a kind."""

    process: tuple[float, float] = (20, 60)
    """SIGKILL, SIGTERM, a deleted checkpoint."""
    line: tuple[float, float] = (10, 30)
    """Faults of the proxy and of the disk."""
    sagemaker: tuple[float, float] = (20, 60)
    clock: tuple[float, float] = (30, 90)
    server: tuple[float, float] = (150, 300)

    def times(self, factor: float) -> Pace:
        """The same faults, this many times as often."""
        return Pace(
            **{
                each.name: tuple(seconds / factor for seconds in getattr(self, each.name))
                for each in fields(self)
            }
        )


async def processes(scene: SoakScene, luck: Random, pace: Pace) -> None:
    deeds: Mapping[Callable[[], Awaitable[None]], int] = {
        scene.kill: 5,
        scene.restart: 4,
        scene.lose_checkpoint: 1,
    }
    while True:
        await asyncio.sleep(luck.uniform(*pace.process))
        (deed,) = luck.choices(list(deeds), list(deeds.values()))
        await deed()


async def line(
    scene: SoakScene, proxy: FaultProxy, luck: Random, pace: Pace, faults: Sequence[Fault]
) -> None:
    """Faults of the connection to ModelDB, and of the disk of the checkpoint where it can be
    filled.
    """
    while True:
        await asyncio.sleep(luck.uniform(*pace.line))
        seconds = luck.uniform(2, 12)
        fault = luck.choice([*faults, None]) if scene.disk.mounted else luck.choice(faults)
        async with scene.calm:
            if fault is None:
                async with scene.disk_full():
                    await asyncio.sleep(seconds)
            else:
                scene.happened.counts[f"proxy: {fault}"] += 1
                async with proxy.failing(fault):
                    await asyncio.sleep(seconds)


async def sagemaker(scene: SoakScene, luck: Random, pace: Pace) -> None:
    while True:
        await asyncio.sleep(luck.uniform(*pace.sagemaker))
        operation, file = luck.choice(SAGEMAKER_ERRORS)
        scene.happened.counts[f"SageMaker: {file.removesuffix('.json')}"] += 1
        with scene.base.sagemaker.failing(operation, file):
            await asyncio.sleep(luck.uniform(1, 10))


async def clock(scene: SoakScene, luck: Random, pace: Pace) -> None:
    while True:
        await asyncio.sleep(luck.uniform(*pace.clock))
        async with scene.clock_stepped(luck.choice(CLOCK_STEPS)):
            await asyncio.sleep(luck.uniform(10, 40))


async def server(
    scene: SoakScene,
    restart: Callable[[], Awaitable[None]],
    luck: Random,
    pace: Pace,
    allowed: asyncio.Event,
) -> None:
    """Restarts of the server."""
    while True:
        await asyncio.sleep(luck.uniform(*pace.server))
        await allowed.wait()
        async with scene.calm:
            scene.happened.counts["server restarts"] += 1
            # a restart that is cut off at the end of the chaos would leave the server down
            await asyncio.shield(asyncio.ensure_future(restart()))
