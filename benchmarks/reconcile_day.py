"""A day of 5,000 training jobs of which 2 % lose their event: reconcile alone must find every one.

The real daemon in the simulation (`tests.simulation`): virtual time, SageMaker with 2 list requests
a second for the whole account, of which somebody else uses most, all day long.

    python -m benchmarks.reconcile_day [JOBS]
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from daemon.config.settings import ReconcileSettings
from tests.simulation import world as simulated_world
from tests.simulation.aws_calls import Refusal
from tests.simulation.history import drain, lives_of, stop_all, world_of
from tests.simulation.invariants import verify
from tests.simulation.loop import START
from tests.simulation.plans import Plan, PlannedJob, Shape, plain_job

if TYPE_CHECKING:
    from tests.simulation.world import World

DAY = 86_400.0
LOST = 0.02
FOUND_SECONDS = 3 * 3600.0
_PAUSES_OF_THE_OTHER = (0.2, 0.9)


def planned_day(count: int, chance: random.Random) -> Plan:
    lost = set(chance.sample(range(count), round(count * LOST)))
    jobs: list[PlannedJob] = []
    for number in range(count):
        at = chance.uniform(0.01, DAY)
        planned = plain_job(chance, number, at)
        seconds = chance.choice([chance.uniform(60, 1800), chance.uniform(1800, 30_000)])
        created = START + at - chance.uniform(0.1, 2) - seconds
        job = replace(planned.job, seconds=seconds, created=created)
        runs_from = max(-1.0, at - seconds)
        jobs.append(replace(planned, job=job, runs_from=runs_from, told=number not in lost))
    return Plan(1, "modeldb-v2", "lost events", 1, jobs, (), DAY, shape=Shape(reconcile=True))


async def use_up_lists(world: World, chance: random.Random) -> None:
    """Somebody else who lists jobs, about 1.8 times a second."""
    while True:
        await asyncio.sleep(chance.uniform(*_PAUSES_OF_THE_OTHER))
        with contextlib.suppress(Refusal):
            world.sagemaker.count_list()


async def live(world: World, plan: Plan, chance: random.Random) -> None:
    other = world.loop.spawn(use_up_lists(world, chance))
    happenings = [each for planned in plan.jobs for each in lives_of(world, planned)]
    happenings.sort(key=lambda each: each[0])
    begin = world.loop.time()
    while happenings[0][0] < 0:
        happenings.pop(0)[1]()
    replica = world.start_replica("daemon-1")
    for at, happen in happenings:
        await asyncio.sleep(max(0.0, begin + at - world.loop.time()))
        happen()
    lost = [planned for planned in plan.jobs if not planned.told]
    runs = [planned.job.run for planned in lost]
    place = world.places[0]
    deadline = world.loop.time() + FOUND_SECONDS
    while not all(run and place.has(run) for run in runs):
        if world.loop.time() > deadline:
            break
        await asyncio.sleep(10)
    found_after = world.loop.time() - begin - DAY
    found = sum(run is not None and place.has(run) for run in runs)
    await drain(world)
    late = [place.queue.send(planned.job.event, None).message_id for planned in lost]
    await drain(world)
    assert replica.daemon is not None
    sample = replica.daemon.metrics.registry.get_sample_value

    def requests(operation: str, result: str) -> int:
        labels = {"service": "sagemaker", "operation": operation, "result": result}
        return round(sample("modeldb_sync_aws_requests_total", labels) or 0)

    def seen(verdict: str) -> int:
        return round(sample("modeldb_sync_reconcile_jobs_total", {"result": verdict}) or 0)

    passes = sum("reconcile gave a pass up" in line for line in world.lines)
    ends = [world.outcomes[message][-1] for message in late]
    other.cancel()
    await stop_all(world)
    verify(world, plan)
    print(f"jobs {len(plan.jobs)}, events lost {len(lost)}, found {found}")
    print(f"the last one found {max(0.0, found_after) / 60:.0f} min after the end of the day")
    print(
        f"ListTrainingJobs: {requests('ListTrainingJobs', 'ok')} ok, "
        f"{requests('ListTrainingJobs', 'throttled')} throttled; passes given up: {passes}"
    )
    print(f"seen: {', '.join(f'{name} {seen(name)}' for name in VERDICTS)}")
    print(f"late events: {sum(end == ('duplicate', 'already_synced') for end in ends)} duplicate")
    print(f"wrong: {world.wrongs or 'nothing'}")


VERDICTS = ("enqueued", "known", "watching", "too_young")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    chance = random.Random(14)  # noqa: S311 - the same day each time
    plan = planned_day(count, chance)
    simulated_world.RECONCILE = ReconcileSettings()
    with world_of(1, plan.target, plan.shape) as world:
        world.loop.most_turns = 10**9
        world.loop.run_until_complete(live(world, plan, chance))
        print(f"virtual time {world.loop.time() / 3600:.1f} h")


if __name__ == "__main__":
    main()
