"""Histories in which dead letters go back to the queue: by an operator whose process is killed
again and again, from a dead-letter queue that refuses single entries, beside running daemons.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from daemon.aws.dead_letter_queue import SqsDeadLetterQueue
from daemon.aws.queue import SqsQueue
from daemon.errors import EdgeFault
from daemon.operations.dead_letters import Choice
from daemon.operations.letter_office import LetterOffice, Method
from daemon.training_job.identity import Home
from daemon.wiring import flow_rules
from tests.simulation.jobs import ACCOUNT, REGION, full_tags
from tests.simulation.loop import Process
from tests.simulation.plans import Form, Shape, half_tagged, plain_jobs
from tests.simulation.sqs import SimulatedSqsClient
from tests.simulation.sqs_queue import Chances

if TYPE_CHECKING:
    import random

    from tests.simulation.plans import Plan, PlannedJob
    from tests.simulation.world import Place, World

_BEGINS = 60.0
_MOST_STEPS = 250
"""Of an operator's process that is killed."""
_CHANCE_OF_KILL = 0.7
_MOST_SENT = 60
"""By one process. There are fewer letters, even if some are stored twice."""
_PAUSES = (0.1, 45.0)
_PATIENCE = 200
"""Times that everything works and something is left, before that is wrong."""


def plan(draft: Plan, chance: random.Random) -> Plan:
    """Jobs that are rejected for their tags, which are completed later, and jobs whose letters have
    tags that are no longer theirs.
    """
    jobs = [
        _refused(planned, chance) if chance.random() < 0.5 else _half(planned, chance)
        for planned in plain_jobs(chance, chance.randint(2, 14), (3, 40))
    ]
    faults = [(chance.uniform(_BEGINS, 200), "kill") for _ in range(chance.choice([0, 0, 1]))]
    return replace(
        draft,
        replicas=chance.choice([1, 1, 2]),
        jobs=jobs,
        chaos=sorted([(_BEGINS, "operator_redrives"), *faults]),
        horizon=240.0,
        shape=Shape(dead_letters=True),
    )


def _half(planned: PlannedJob, chance: random.Random) -> PlannedJob:
    half = half_tagged(planned.job.tags, chance)
    return replace(
        planned,
        job=replace(planned.job, event_tags=half),
        tagged_at=chance.uniform(_BEGINS - 15, _BEGINS + 60),
    )


def _refused(planned: PlannedJob, chance: random.Random) -> PlannedJob:
    """The target has refused a job, whose project somebody has corrected since."""
    before = full_tags(f"refused-{chance.randrange(2)}", planned.job.tags["MODEL_DB_MODEL_NAME"])
    return replace(planned, job=replace(planned.job, event_tags=before), form=Form.LETTER)


async def operator_redrives(world: World, chance: random.Random) -> None:
    """An operator sends all dead letters back, is often killed while at it, and does not give up
    until none is left.
    """
    place = world.serving
    assert place.dead_letters is not None
    number = left = 0
    while left < _PATIENCE:
        number += 1
        _misbehave(world, place, chance)
        sent = await _one_run(world, place, chance, f"operator-{number}")
        if world.is_calm:
            if sent == 0 and not place.dead_letters.contents() and not place.queue.contents():
                return
            left += 1
        await asyncio.sleep(chance.uniform(*_PAUSES))
    world.wrong(f"dead letters are left: {len(place.dead_letters.contents())}")


async def _one_run(world: World, place: Place, chance: random.Random, name: str) -> int | None:
    """How many letters one process has sent; None: it was killed, or SQS failed it."""
    gone: asyncio.Future[None] = world.loop.create_future()

    def end(*_task: object) -> None:
        if not gone.done():
            gone.set_result(None)

    process = Process(name, end)
    if not world.is_calm and chance.random() < _CHANCE_OF_KILL:
        process.before_step = (chance.randint(5, _MOST_STEPS), process.crash)
    world.record(f"{name} redrives all")
    task = world.loop.start(process, _redrive(world, place, name), name=name)
    task.add_done_callback(end)
    await gone
    if process.dead:
        world.record(f"{name}: KILLED after {process.steps - 1} steps")
        return None
    return task.result()


async def _redrive(world: World, place: Place, name: str) -> int | None:
    client: Any = SimulatedSqsClient(world.sqs, world.network, world.loop.spawn, name=name)
    polling: Any = SimulatedSqsClient(
        world.sqs, world.network, world.loop.spawn, name=name, attempts=1, read_seconds=15.0
    )
    assert place.dead_letters is not None
    office = LetterOffice(
        SqsQueue(polling, client, place.queue.url),
        place.queue.arn,
        SqsDeadLetterQueue(polling, client, place.dead_letters.url),
        found_by_policy=True,
        checkpoint=None,
        home=Home(ACCOUNT, REGION, "aws"),
        jobs=None,
        rules=flow_rules(place.settings),
    )
    try:
        back = await office.redrive(Choice(), Method.COPY)
    except EdgeFault as fault:
        world.record(f"{name}: {fault}")
        return None
    copied = back.copied
    world.record(
        f"{name}: sent {len(copied.sent)}, not deleted {len(copied.undeleted)}, "
        f"refused {len(copied.refused)}"
    )
    if len(copied.sent) > _MOST_SENT:
        world.wrong(f"a redrive goes on and on: {name} sent {len(copied.sent)} letters")
    return len(copied.sent)


def _misbehave(world: World, place: Place, chance: random.Random) -> None:
    """What SQS may do and need not, in both queues, until everything works."""
    assert place.dead_letters is not None
    if world.is_calm:
        place.dead_letters.chances = Chances()
        return
    place.dead_letters.chances = Chances(
        stored_twice=chance.choice([0.0, 0.1]),
        delivered_in_flight=chance.choice([0.0, 0.1]),
        fewer_than_asked=chance.choice([0.0, 0.5]),
        deleted_comes_back=chance.choice([0.0, 0.05]),
        entry_fails=chance.choice([0.0, 0.2]),
        entry_fails_after=chance.choice([0.0, 0.1]),
    )
    place.queue.chances.entry_fails = chance.choice([0.0, 0.3])
