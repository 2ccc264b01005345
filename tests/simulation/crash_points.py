"""A short history that is ended at each possible point: killed, stopped or cancelled. Another
process then continues. With several hosts, there is a second process from the start, and the first
one may also be paused until the other has taken over, and woken.

The points are the steps of the daemon's process: each turn of one of its tasks, callbacks or disk
writes. A history has two jobs of one project, one of them with two events, and one fault of the
target (`TROUBLES`).
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from tests.simulation.history import (
    QUIET_SECONDS,
    Result,
    drain,
    lives_of,
    result_of,
    stop_all,
    until_done,
    world_of,
)
from tests.simulation.invariants import verify
from tests.simulation.jobs import SimulatedJob, full_tags
from tests.simulation.loop import START
from tests.simulation.plans import Plan, PlannedJob, Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.world import Replica, World

TROUBLES = {
    "modeldb-v2": (
        "",
        "createExperimentRun answer lost",
        "createExperimentRun stalls",
        "createProject answer lost",
    ),
    "mlflow": (
        "",
        "runs/create answer lost",
        "runs/create slow",
        "model-versions/create answer lost",
        "model-versions/create slow",
        "runs/update answer lost",
        "experiments/create answer lost",
    ),
    "modeldb-v1": (
        "",
        "storeExperimentRunEvent answer lost",
        "storeFitEvent answer lost",
        "storeMetricEvent answer lost",
    ),
}
ENDS = ("kill", "sigterm", "cancel")
PAUSE = "pause"
ENDS_OF_HOSTS = (*ENDS, PAUSE)
SQLITE, DYNAMODB = "sqlite", "dynamodb"
CHECKPOINTS = (SQLITE, DYNAMODB)
SEED = 1
_PAUSE_SECONDS = 110.0
"""More than a lease and what the clocks of two hosts may differ."""
_SECOND_STARTS = 3.0
_SHORT_QUIET_SECONDS = 30.0
"""As `history.QUIET_SECONDS`, which a daemon that was paused has: it may have to wait for another
one and then to settle what it left in doubt.
"""


def steps_of(target: str, trouble: str, checkpoint: str = SQLITE) -> int:
    """The number of points: the steps of a daemon that is not stopped early."""
    with world_of(SEED, target, _shape(checkpoint)) as world:
        plan = _plan(target)
        until_done(world, _play(world, plan, trouble, None, ""))
        assert not world.wrongs, world.wrongs
        return world.replicas[0].process.steps


def run_to(target: str, trouble: str, step: int, end: str, checkpoint: str = SQLITE) -> Result:
    """The history in which the first process ends, or is paused, before a step."""
    with world_of(SEED, target, _shape(checkpoint)) as world:
        plan = _plan(target)
        until_done(world, _play(world, plan, trouble, step, end))
        return result_of(world, plan)


def _shape(checkpoint: str) -> Shape:
    return Shape(hosts=checkpoint == DYNAMODB)


def _plan(target: str) -> Plan:
    tags = full_tags("churn", "xgb")
    jobs = [
        PlannedJob(SimulatedJob("job-a", START - 600.0, "Completed", tags, tags), (0.01, 0.3)),
        PlannedJob(SimulatedJob("job-b", START - 500.5, "Completed", tags, tags), (0.02,)),
    ]
    return Plan(SEED, target, "crash", 1, jobs, (), 60.0)


async def _play(world: World, plan: Plan, trouble: str, step: int | None, end: str) -> None:
    method, _, fate = trouble.partition(" ")
    if trouble and world.target == "modeldb-v1":
        world.v1.lose_next_answer(method)
    elif trouble:
        world.http.fate_of_next(method, fate)
    happenings = [each for planned in plan.jobs for each in lives_of(world, planned)]
    for at, happen in happenings:
        world.loop.call_later(at, happen)
    first = world.start_replica(world.new_name())
    if step is not None:
        first.process.before_step = step, lambda: _end(world, first, end)
    await asyncio.sleep(1.0)
    if world.hosts is not None:
        await asyncio.sleep(_SECOND_STARTS)
        world.start_replica(world.new_name())
    await drain(world, QUIET_SECONDS if end == PAUSE else _SHORT_QUIET_SECONDS)
    world.calm()
    await stop_all(world)
    verify(world, plan)


def _end(world: World, replica: Replica, end: str) -> None:
    match end:
        case "kill":
            replica.crash()
        case "sigterm":
            world.loop.outside(replica.stop)
        case "pause":
            replica.pause()
            world.loop.outside(world.loop.call_later, _PAUSE_SECONDS, replica.wake)
        case _:
            world.loop.outside(replica.cancel)


def some_points(steps: int, count: int) -> Sequence[int]:
    """A fixed selection of the points, spread over all of them."""
    return sorted(random.Random(SEED).sample(range(1, steps + 1), min(count, steps)))
