"""Histories with a backfill: jobs whose event never came, and a backfill that is killed, throttled
and refused, and begun again until it ends. Its rules, each broken on purpose.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

from daemon.aws.errors import unobserved
from daemon.aws.ports import Sent
from daemon.aws.queue import SqsQueue
from daemon.checkpoint.ports import JobState
from daemon.errors import DaemonError
from daemon.operations import backfill
from daemon.operations.backfill import Backfill, Finding, Position, finding_of
from daemon.operations.pacing import Pace
from daemon.operations.when import Period
from tests.simulation.loop import START, Process
from tests.simulation.plans import Form, PlannedJob, half_tagged, plain_jobs
from tests.simulation.world import SimulatedParts

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from tests.simulation.plans import Plan
    from tests.simulation.world import SimulatedDatabase, World

KIND = "backfill"
MOST_KILLS = 10
MOST_RUNS = 60
BEGINS_AT = 30.0
EARLIEST = START - 100_000
_LAST_STEP = 90
"""Of a run, before which it is killed."""


def plan(draft: Plan, chance: random.Random) -> Plan:
    """Jobs of which most have lost their event, many created in the same moment."""
    jobs = [
        _life(planned, chance) for planned in plain_jobs(chance, chance.randint(4, 16), (0, 20))
    ]
    faults = ["aws_weather", "queue_habits", "sagemaker_down", "queue_down", "kill"]
    chaos = [(BEGINS_AT, KIND)]
    chaos += [
        (BEGINS_AT + chance.uniform(-2, 40), chance.choice(faults))
        for _ in range(chance.randint(1, 4))
    ]
    return replace(
        draft, replicas=chance.choice([1, 1, 2]), jobs=jobs, chaos=sorted(chaos), horizon=150.0
    )


def _life(planned: PlannedJob, chance: random.Random) -> PlannedJob:
    job = planned.job
    if chance.random() < 0.6:
        created = START - 1000 + chance.choice([0.0, 0.0, 0.25, 30.0])
        job = replace(job, created=created, seconds=planned.events[0] + 990)
    drawn = chance.random()
    if drawn < 0.6:
        late = ((chance.uniform(40, 140), Form.EVENT),) if chance.random() < 0.3 else ()
        return replace(planned, job=job, backfilled=True, later=late)
    if drawn < 0.8:
        half = half_tagged(job.tags, chance)
        job = replace(job, event_tags=half)
        return replace(planned, job=job, tagged_at=25.0)
    return replace(planned, job=job)


class BackfillProcess:
    """One run of the verb as a process of its own."""

    def __init__(self, world: World, name: str, period: Period) -> None:
        self.name = name
        self.place = world.places[0]
        self.database: SimulatedDatabase | None = None
        self.process = Process(name, self._crashed)
        self.finished = False
        self.gone: asyncio.Future[None] = world.loop.create_future()
        self._world = world
        self._period = period
        world.record(f"{name} starts")
        self._task = world.loop.start(self.process, self._run(), name=name)

    async def _run(self) -> None:
        edges: Any = SimulatedParts(self._world, self)  # type: ignore[arg-type] # what it reads of a replica
        try:
            checkpoint = await edges.checkpoint(unobserved)
            try:
                async with edges.aws(unobserved) as (queue, jobs):
                    self.finished = await Backfill(
                        jobs,
                        queue,
                        checkpoint,
                        name=KIND,
                        statuses=frozenset({"Completed"}),
                        pace=Pace(),
                        stop=asyncio.Event(),
                    ).run(self._period)
            finally:
                await checkpoint.aclose()
        except DaemonError as fault:
            self._world.record(f"{self.name} ended: {fault}")
        except Exception as error:  # noqa: BLE001 - nothing else may end it
            self._world.wrong(f"{self.name} failed: {error!r}")
        self._end()

    def _crashed(self) -> None:
        self._world.record(f"{self.name}: KILLED after {self.process.steps - 1} steps")
        if self.database is not None:
            self.database.vanish()
        self._end()

    def _end(self) -> None:
        if not self.gone.done():
            self.gone.set_result(None)


async def act(world: World, chance: random.Random) -> None:
    """A backfill runs, is killed now and then, and begun again until it has ended."""
    world.sagemaker.most_listed = chance.randint(1, 7)
    period = Period(EARLIEST, world.loop.wall())
    kills = chance.randint(0, MOST_KILLS)
    for number in range(MOST_RUNS):
        process = BackfillProcess(world, f"backfill-{number + 1}", period)
        if number < kills:
            process.process.before_step = (chance.randint(2, _LAST_STEP), process.process.crash)
        await process.gone
        if process.finished:
            return
        await asyncio.sleep(chance.uniform(0.1, 5))
    world.wrong(f"the backfill has not ended within {MOST_RUNS} runs")


def position_before_send() -> AbstractContextManager[object]:
    real = Backfill._deal_with

    async def deal_with(self: Backfill, page: Sequence[Any]) -> None:
        progress = self._saved()
        for job in page:
            progress = progress.after(job, Finding.SYNCED)
        await self._save(progress)
        await real(self, page)

    return mock.patch.object(Backfill, "_deal_with", deal_with)


def failed_entries_are_sent() -> AbstractContextManager[object]:
    real = SqsQueue.send

    async def send(self: SqsQueue, entries: Any) -> Any:
        return [
            answer if isinstance(answer, Sent) else Sent("failed")
            for answer in await real(self, entries)
        ]

    return mock.patch.object(SqsQueue, "send", send)


def rejected_is_left_out() -> AbstractContextManager[object]:
    def found(job: Any, known: Any, statuses: Any) -> Finding:
        if known is not None and known.state is JobState.REJECTED:
            return Finding.SYNCED
        return finding_of(job, known, statuses)

    return mock.patch.object(backfill, "finding_of", found)


def one_job_a_moment() -> AbstractContextManager[object]:
    def includes(self: Position, job: Any) -> bool:
        return bool(round(job.creation_time.timestamp() * 1000) <= self.milliseconds)

    return mock.patch.object(Position, "includes", includes)
