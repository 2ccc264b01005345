"""Histories: everything in them follows from a seed, and invariants hold at their end.

A history has jobs whose events arrive over some minutes, replicas of the daemon, and faults
(`chaos`). Then all faults end, the queue is drained, the replicas are stopped, and `verify` checks
ModelDB and the queues.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.reasons import Reason
from tests.simulation.chaos import CHAOS, OUTAGES
from tests.simulation.jobs import SimulatedJob, full_tags
from tests.simulation.loop import START, StuckError, VirtualLoop, virtual
from tests.simulation.sqs_message import CopyState, SimulatedMessage
from tests.simulation.world import World, logs_into

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from typing import Any

DRAIN_SECONDS = 8 * 3600.0
PROJECT_TAG = "MODEL_DB_PROJECT_NAME"
ANOTHER_PROJECT = "another project"
QUIET_SECONDS = 50.0
"""For so long nothing may be left before a history is over: what SQS or ModelDB does late must have
happened."""


KINDS = (
    "",
    "",
    "",
    "",
    "untagged",
    "incomplete",
    "failed",
    "late",
    "deleted",
    "again",
    "tags by list",
)
"""Of jobs; the plain ones have all their tags in the event."""


@dataclass(frozen=True)
class PlannedJob:
    """A job, and when its events arrive (seconds)."""

    job: SimulatedJob
    events: tuple[float, ...]
    deleted_at: float | None = None
    """When SageMaker forgets the job."""
    completes_late: float = 0.0
    """Seconds after the first event during which DescribeTrainingJob still says InProgress."""
    moved_at: float | None = None
    """When its project tag changes: the run may be in either project."""


@dataclass(frozen=True)
class Plan:
    """A history before it runs."""

    seed: int
    target: str
    flavour: str
    """One of `FLAVOURS`."""
    replicas: int
    jobs: Sequence[PlannedJob]
    poison: tuple[float, ...]
    """When unreadable messages are sent."""
    chaos: Sequence[tuple[float, str]]
    horizon: float
    """When all faults end."""


@dataclass
class Result:
    """The result of a history."""

    plan: Plan
    wrongs: list[str]
    lines: list[str]
    seconds: float
    """Virtual."""
    steps: int
    """Of all replicas together: points at which one could have crashed."""
    suffered: dict[str, int] = field(default_factory=dict)


FLAVOURS = {
    "mixed": 40,
    "outages": 15,
    "lost creates": 25,
    "amnesia": 10,
    "crowd": 10,
}
"""What a history is mostly about, and how many of a hundred are."""
_LEAVES_NAMES_ALONE = ("queue_habits", "aws_weather", "queue_down", "sagemaker_down")


def plan_of(seed: int, target: str) -> Plan:
    """The plan of a long history."""
    chance = random.Random(f"plan {target} {seed}")
    flavour = chance.choices(list(FLAVOURS), list(FLAVOURS.values()))[0]
    horizon = chance.uniform(40, 250)
    replicas = chance.choice([1, 1, 2, 3])
    kinds = chance.sample(list(CHAOS), chance.randint(1, 6))
    happenings = chance.randint(1, 8)
    match flavour:
        case "outages":
            kinds = list(OUTAGES)
        case "lost creates":
            kinds = [
                "lost_create",
                "lost_create",
                *chance.sample(["kill", "sigterm", "cancel", "clock_jump", "modeldb_weather"], 2),
            ]
            horizon /= 3
        case "amnesia":
            kinds = ["checkpoint_deleted", chance.choice(list(CHAOS))]
            happenings = min(happenings, 3)
        case "crowd":
            kinds = [chance.choice(_LEAVES_NAMES_ALONE)]
            replicas = chance.choice([2, 3])
    jobs = _jobs(chance, horizon, flavour)
    if flavour == "amnesia":
        jobs = [
            _moved(planned, random.Random(f"moves {target} {seed} {planned.job.name}"))
            for planned in jobs
        ]
    chaos = sorted((chance.uniform(0, horizon), chance.choice(kinds)) for _ in range(happenings))
    poison = tuple(chance.uniform(0, horizon) for _ in range(chance.choice([0, 0, 1])))
    return Plan(seed, target, flavour, replicas, jobs, poison, chaos, horizon)


def _jobs(chance: random.Random, horizon: float, flavour: str) -> list[PlannedJob]:
    planned: list[PlannedJob] = []
    plain = flavour == "outages"
    together = chance.random() < (1.0 if flavour == "crowd" else 0.5)
    burst = chance.uniform(0, horizon / 2)
    for number in range(chance.randint(1, 9)):
        name = f"job-{number}"
        tags = full_tags(f"project-{chance.randrange(3)}", f"model-{chance.randrange(2)}")
        created = START - 3600 + number + chance.random()
        at = burst + chance.random() if together else chance.uniform(0, horizon)
        again = chance.choice([0, 0, 1, 2]) if not plain else 0
        longest = {"amnesia": horizon - at, "lost creates": 25}.get(flavour, 120)
        events = tuple(
            sorted(
                [
                    at,
                    *(
                        at + chance.choice([0.0, 0.05, chance.uniform(0, longest)])
                        for _ in range(again)
                    ),
                ]
            )
        )
        kind = chance.choice(KINDS) if not plain else ""
        match kind:
            case "untagged":
                tags.pop("MODEL_DB_SYNC")
            case "incomplete":
                tags["MODEL_DB_MODEL_NAME"] = "  "
        event_tags = None if kind == "tags by list" else tags
        job = SimulatedJob(
            name, created, "Failed" if kind == "failed" else "Completed", tags, event_tags
        )
        deleted = at + chance.uniform(0, 60) if kind == "deleted" else None
        if kind == "again":
            deleted = at + chance.uniform(0, 60)
            newer = SimulatedJob(name, created + 1800, "Completed", tags, event_tags)
            planned.append(PlannedJob(newer, (deleted + 0.002 + chance.uniform(0, 60),)))
        planned.append(
            PlannedJob(job, events, deleted, chance.uniform(0, 30) if kind == "late" else 0.0)
        )
    return planned


def _moved(planned: PlannedJob, chance: random.Random) -> PlannedJob:
    if (
        planned.job.run is None
        or planned.deleted_at is not None
        or len(planned.events) == 1
        or chance.random() < 0.4
    ):
        return planned
    return replace(planned, moved_at=chance.uniform(planned.events[0], planned.events[-1]))


@contextlib.contextmanager
def world_of(seed: int, target: str) -> Iterator[World]:
    """A new world on an event loop of its own with virtual time."""
    chance = random.Random(f"world {target} {seed}")
    random.seed(chance.random())  # the libraries' own jitter
    # a disk without a disk: what is durable there is for the simulation to say
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=shared if shared.is_dir() else None))
    loop = VirtualLoop()
    try:
        with virtual(loop, random.Random(f"ids {target} {seed}")):
            world = World(loop, chance, target, folder)
            with logs_into(world):
                yield world
                world.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(seed: int, target: str) -> Result:
    """Runs the long history of a seed."""
    plan = plan_of(seed, target)
    with world_of(seed, target) as world:
        until_done(world, play(world, plan))
        return result_of(world, plan)


def until_done(world: World, script: Coroutine[Any, Any, None]) -> None:
    """Runs a script in a world."""
    try:
        world.loop.run_until_complete(script)
    except StuckError as error:
        world.wrong(str(error))


def result_of(world: World, plan: Plan) -> Result:
    """The result of a world at its end."""
    steps = sum(replica.process.steps for replica in world.replicas)
    suffered = {**world.v2.suffered, **world.network.suffered, **world.v1.counts}
    return Result(plan, world.wrongs, world.lines, world.loop.time(), steps, suffered)


async def play(world: World, plan: Plan) -> None:
    """The whole of a history."""
    chance = random.Random(f"chaos {plan.target} {plan.seed}")
    begin = world.loop.time()
    happenings: list[tuple[float, Callable[[], object]]] = []
    for planned in plan.jobs:
        happenings += lives_of(world, planned)
    happenings += [(at, lambda: world.queue.send("{this is no event")) for at in plan.poison]
    actions: set[asyncio.Task[None]] = set()

    def act(name: str) -> None:
        world.record(f"CHAOS {name}")
        actions.add(world.loop.spawn(CHAOS[name](world, chance)))

    happenings += [(at, partial(act, name)) for at, name in plan.chaos]
    for _ in range(plan.replicas):
        world.start_replica(world.new_name())
        await asyncio.sleep(chance.uniform(0, 2))
    for at, happen in sorted(happenings, key=lambda each: each[0]):
        await asyncio.sleep(max(0.0, begin + at - world.loop.time()))
        happen()
    await asyncio.sleep(max(0.0, begin + plan.horizon - world.loop.time()))
    world.calm()
    if actions:
        await asyncio.wait(actions)
        for task in actions:
            task.result()
    world.calm()  # what ended late may have begun late
    await drain(world)
    await stop_all(world)
    verify(world, plan)


def lives_of(world: World, planned: PlannedJob) -> list[tuple[float, Callable[[], object]]]:
    """What happens to a job and when (seconds from the beginning)."""
    job = planned.job
    first = planned.events[0]

    def appear() -> None:
        world.record(f"SageMaker: {job.name} is {job.status} (created {job.created - START:+.2f})")
        world.sagemaker.create(job.description, job.tags, running=bool(planned.completes_late))
        if planned.completes_late:
            world.loop.call_later(planned.completes_late, world.sagemaker.end, job.name)

    def tell(given: SimulatedJob) -> None:
        message = world.queue.send(given.event)
        world.record(f"EventBridge: {job.name} in message {message.message_id}")

    def move() -> None:
        world.record(f"SageMaker: {job.name} has the project tag {ANOTHER_PROJECT}")
        world.sagemaker.tag(job.name, {PROJECT_TAG: ANOTHER_PROJECT})

    def vanish() -> None:
        world.record(f"SageMaker: {job.name} is deleted (created {job.created - START:+.2f})")
        world.sagemaker.delete(job.name)

    lives: list[tuple[float, Callable[[], object]]] = [(max(0.0, first - 0.001), appear)]
    moved_at = float("inf") if planned.moved_at is None else planned.moved_at
    moved = replace(job, tags={**job.tags, PROJECT_TAG: ANOTHER_PROJECT}, event_tags=None)
    lives += [(at, partial(tell, job if at <= moved_at else moved)) for at in planned.events]
    if planned.moved_at is not None:
        lives.append((planned.moved_at, move))
    if planned.deleted_at is not None:
        lives.append((planned.deleted_at, vanish))
    return lives


async def drain(world: World, quiet_seconds: float = QUIET_SECONDS) -> None:
    """Waits until the queue has been empty for a while, with at least one replica running."""
    deadline = world.loop.time() + DRAIN_SECONDS
    quiet_since = world.loop.time()
    while world.loop.time() - quiet_since < quiet_seconds:
        if not world.living:
            world.start_replica(world.new_name())
        await asyncio.sleep(10)
        if _left(world):
            quiet_since = world.loop.time()
        if world.loop.time() > deadline:
            world.wrong(
                f"{_left(world)} messages are still in the queue {DRAIN_SECONDS / 3600:.0f} h "
                "after everything works again"
            )
            return


def _left(world: World) -> int:
    return sum(
        world.queue.count(state)
        for state in (CopyState.VISIBLE, CopyState.HIDDEN, CopyState.DELAYED)
    )


async def stop_all(world: World) -> None:
    """Stops all replicas and waits for their end."""
    living = world.living
    for replica in living:
        if replica.daemon is not None and len(replica.daemon._in_flight):
            world.wrong(
                f"{replica.name} has {len(replica.daemon._in_flight)} messages in its ledger, and "
                "the queue is empty"
            )
        replica.stop()
    if living:
        await asyncio.wait([replica.gone for replica in living], timeout=60)
    for replica in living:
        if not replica.task.done() and not replica.process.dead:
            world.wrong(f"{replica.name} has not ended within 60 s")


def verify(world: World, plan: Plan) -> None:
    """Checks the invariants at the end of a history."""
    expected = [planned.job.run for planned in plan.jobs if planned.deleted_at is None]
    optional = [planned.job.run for planned in plan.jobs if planned.deleted_at is not None]
    wrong = world.v1.wrong if plan.target == "modeldb-v1" else world.v2.wrong
    there = [run for run in optional if run is not None and world.has(run)]
    excused = _nobody_knew(world, plan)
    excused += tuple(
        f"{planned.job.name}: project " for planned in plan.jobs if planned.moved_at is not None
    )
    for problem in wrong([run for run in expected if run is not None] + there):
        if not problem.startswith(excused):
            world.wrong(problem)
    for violation in world.v1.violations:
        world.wrong(violation)
    _verify_rejections(world, plan)
    if plan.flavour == "crowd":
        for duplicate in world.v2.duplicate_names():
            world.wrong(duplicate)
    # nothing goes wrong but ModelDB as a whole: no message may be received twice
    if plan.flavour == "outages":
        for message in world.queue.messages:
            if message.receives > 1:
                world.wrong(
                    f"{message.message_id} was received {message.receives} times, and nothing but "
                    "ModelDB was out of order"
                )


def _nobody_knew(world: World, plan: Plan) -> tuple[str, ...]:
    """How problems begin that a dead letter tells of: with jobs that vanished from SageMaker while
    their write was half-way.

    With ModelDB V1 their run stays incomplete when the process that had read them was killed, and
    the letter names it. When the checkpoint was deleted, too, nobody can know that there was a
    write (docs/failure-modes.md, "What is not covered").
    """
    letters = world.dead_letters.contents()
    names = [
        _job_of(letter)
        for letter in letters
        if "may be incomplete" in letter.texts.get("detail", "")
    ]
    if any(name == "checkpoint_deleted" for _, name in plan.chaos):
        given = {letter.body for letter in letters}
        names += [
            planned.job.name
            for planned in plan.jobs
            if planned.deleted_at is not None and planned.job.event in given
        ]
    return tuple(f"{name}: " for name in names)


def _job_of(letter: SimulatedMessage) -> str:
    name: str = json.loads(letter.body)["detail"]["TrainingJobName"]
    return name


def _verify_rejections(world: World, plan: Plan) -> None:
    """Only what is itself at fault is rejected; what has vanished before it could be synced is in
    the dead-letter queue.
    """
    reasons = {reason.value for reason in Reason}
    for letter in world.dead_letters.contents():
        reason = letter.texts.get("reason")
        if reason not in reasons:
            world.wrong(
                f"{letter.message_id} is in the dead-letter queue without a reason of ours "
                f"({reason})"
            )
    bodies = [letter.body for letter in world.dead_letters.contents()]
    for planned in plan.jobs:
        job = planned.job
        good = job.run is not None and planned.deleted_at is None
        again = sum(other.job.name == job.name for other in plan.jobs) > 1
        dead = sum(body == job.event for body in bodies)
        if good and dead and not again:
            world.wrong(f"{job.name} is in the dead-letter queue, and nothing is wrong with it")
        if (
            job.run is not None
            and planned.deleted_at is not None
            and not world.has(job.run)
            and not dead
        ):
            world.wrong(f"{job.name} is neither in ModelDB nor in the dead-letter queue")
