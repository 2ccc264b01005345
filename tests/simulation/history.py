"""Histories: everything in them follows from a seed, and invariants hold at their end.

A history has jobs whose events arrive over some minutes, replicas of the daemon, and faults
(`chaos`). Then all faults end, the queue is drained, the replicas are stopped, and `verify` checks
the target and the queues.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from daemon.operations import handed_over
from daemon.operations.handed_over import LOOK_SECONDS
from tests.simulation.chaos import CHAOS, SCRIPTED
from tests.simulation.handing_over import Asking
from tests.simulation.hosts_chaos import HOSTS_CHAOS, HOSTS_SCRIPTED
from tests.simulation.invariants import verify
from tests.simulation.kinds import plan_of
from tests.simulation.loop import START, StuckError, VirtualLoop, virtual
from tests.simulation.plans import Form
from tests.simulation.sqs_message import CopyState
from tests.simulation.world import World, logs_into

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from typing import Any

    from tests.simulation.plans import Plan, PlannedJob, Shape
    from tests.simulation.world import Place

DRAIN_SECONDS = 3600.0
"""After so long with everything in order, nothing may be left in the queue."""
FIND_SECONDS = 10_800.0
"""After so long with everything in order, every job whose event is lost has been found."""
MOST_TURNS = 150_000
"""Of the event loop in one history; that of a history that comes to its end is far below."""
MOST_TURNS_OF_HOSTS = 700_000
"""The same for several hosts: three take 45 turns a second, and the longest history lasts for an
hour and waits for `FIND_SECONDS`."""
PROJECT_TAG = "MODEL_DB_PROJECT_NAME"
ANOTHER_PROJECT = "another project"
SELDOM_SECONDS = 20.0
"""Between two looks for requests in a history without any."""
QUIET_SECONDS = 50.0
"""For so long nothing may be left before a history is over: what SQS or the target does late must
have happened."""
_MOVED_BACK = {
    "reason": {"DataType": "String", "StringValue": "job_gone"},
    "detail": {"DataType": "String", "StringValue": "as it was when it was rejected"},
}

_REFUSED = _MOVED_BACK | {"reason": {"DataType": "String", "StringValue": "target_refused"}}


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
    turns: int = 0
    """Of the event loop."""


@contextlib.contextmanager
def world_of(seed: int, target: str, shape: Shape | None = None) -> Iterator[World]:
    """A new world on an event loop of its own with virtual time."""
    chance = random.Random(f"world {target} {seed}")
    random.seed(chance.random())  # the libraries' own jitter
    # a disk without a disk: what is durable there is for the simulation to say
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=shared if shared.is_dir() else None))
    loop = VirtualLoop()
    try:
        with virtual(loop, random.Random(f"ids {target} {seed}")):
            world = World(loop, chance, target, folder, shape)
            with logs_into(world):
                yield world
                world.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(seed: int, target: str, kind: str = "") -> Result:
    """Runs the long history of a seed.

    Args:
        kind: one of `tests.simulation.kinds.KINDS`; "": as the default mix has it.
    """
    plan = plan_of(seed, target, kind)
    looks = LOOK_SECONDS if plan.requests else SELDOM_SECONDS
    with (
        mock.patch.object(handed_over, "LOOK_SECONDS", looks),
        world_of(seed, target, plan.shape) as world,
    ):
        until_done(world, play(world, plan))
        return result_of(world, plan)


def until_done(world: World, script: Coroutine[Any, Any, None]) -> None:
    """Runs a script in a world; it is wrong if it does not end within a bound of turns."""
    most = MOST_TURNS if world.hosts is None else MOST_TURNS_OF_HOSTS
    world.loop.most_turns = most
    try:
        world.loop.run_until_complete(script)
    except StuckError as error:
        world.loop.most_turns += most  # what is left must end
        waits = world.loop.ask(partial(waits_for, world))
        world.wrong(f"does not converge: {error}; {waits}")


def result_of(world: World, plan: Plan) -> Result:
    """The result of a world at its end."""
    steps = sum(replica.process.steps for replica in world.replicas)
    suffered = {**world.http.suffered, **world.network.suffered, **world.v1.counts}
    suffered[f"kind {plan.kind}"] = 1
    return Result(
        plan,
        world.wrongs,
        world.lines,
        world.loop.time(),
        steps,
        suffered,
        turns=world.loop.turns,
    )


async def play(world: World, plan: Plan) -> None:
    """The whole of a history."""
    chance = random.Random(f"chaos {plan.target} {plan.seed}")
    begin = world.loop.time() + world.quiet_seconds
    happenings: list[tuple[float, Callable[[], object]]] = []
    for planned in plan.jobs:
        happenings += lives_of(world, planned)
    happenings += [(at, partial(world.queue.send, poison.body)) for at, poison in plan.poison]
    asking = Asking(world) if plan.requests else None
    if asking is not None:
        happenings += [(each.at, partial(asking.ask, each)) for each in plan.requests]
    actions: set[asyncio.Task[None]] = set()

    def act(name: str) -> None:
        world.record(f"CHAOS {name}")
        does = (CHAOS | SCRIPTED | HOSTS_CHAOS | HOSTS_SCRIPTED)[name]
        actions.add(world.loop.spawn(does(world, chance)))

    happenings += [(at, partial(act, name)) for at, name in plan.chaos]
    happenings.sort(key=lambda each: each[0])
    while happenings and happenings[0][0] < 0:
        happenings.pop(0)[1]()
        await asyncio.sleep(0)
    for _ in range(plan.replicas):
        for place in world.queue_places:
            world.start_replica(world.new_name(), place)
        await asyncio.sleep(chance.uniform(0, 2))
    for at, happen in happenings:
        await asyncio.sleep(max(0.0, begin + at - world.loop.time()))
        happen()
    await asyncio.sleep(max(0.0, begin + plan.horizon - world.loop.time()))
    world.calm()
    if actions:
        await asyncio.wait(actions)
        for task in actions:
            task.result()
    world.calm()  # what ended late may have begun late
    await found(world, plan)
    await drain(world, is_done=lambda: asking is None or asking.is_done())
    await stop_all(world)
    verify(world, plan, None if asking is None else asking.ends())


def lives_of(world: World, planned: PlannedJob) -> list[tuple[float, Callable[[], object]]]:
    """What happens to a job and when (seconds from the beginning)."""
    job, sagemaker = planned.job, world.sagemaker_of(planned.job.account)
    moved = replace(job, tags={**job.tags, PROJECT_TAG: ANOTHER_PROJECT}, event_tags=None)
    is_moved = False

    def appear() -> None:
        world.record(f"SageMaker: {job.name} is {job.status} (created {job.created - START:+.2f})")
        tags = job.tags if planned.tagged_at is None else job.event_tags or {}
        sagemaker.create(job.description, tags, running=bool(planned.completes_late))
        if planned.completes_late:
            world.loop.call_later(planned.completes_late, sagemaker.end, job.name)

    def tell(form: Form) -> None:
        told = moved if is_moved else job
        body = told.body_by_hand if form is Form.BY_HAND else told.event
        attributes = _MOVED_BACK if form is Form.MOVED_BACK else None
        for place in world.queue_places:
            if form is Form.LETTER:
                assert place.dead_letters is not None
                message = place.dead_letters.send(body, _REFUSED)
            else:
                message = place.queue.send(body, attributes)
            world.record(f"{form.name}: {job.name} in message {message.message_id}")

    def move() -> None:
        nonlocal is_moved
        is_moved = True
        world.record(f"SageMaker: {job.name} has the project tag {ANOTHER_PROJECT}")
        sagemaker.tag(job.name, {PROJECT_TAG: ANOTHER_PROJECT})

    def complete_tags() -> None:
        world.record(f"SageMaker: {job.name} has all its tags")
        sagemaker.tag(job.name, job.tags)

    def vanish() -> None:
        world.record(f"SageMaker: {job.name} is deleted (created {job.created - START:+.2f})")
        sagemaker.delete(job.name)

    def leave() -> None:
        world.record(f"SageMaker: {job.name} is being deleted")
        sagemaker.begin_to_delete(job.name)

    lives = _beginning(world, planned, appear)
    lives += [(at, partial(tell, planned.form)) for at in planned.announced]
    lives += [(at, partial(tell, form)) for at, form in planned.later]
    changes = (
        (planned.moved_at, move),
        (planned.tagged_at, complete_tags),
        (planned.leaves_at, leave),
        (planned.deleted_at, vanish),
    )
    return lives + [(at, change) for at, change in changes if at is not None]


def _beginning(
    world: World, planned: PlannedJob, appear: Callable[[], None]
) -> list[tuple[float, Callable[[], object]]]:
    """From when on SageMaker has a job: as ended, or as running until its first event."""
    job, first = planned.job, planned.events[0] - 0.001
    if planned.runs_from is None:
        return [(max(0.0, first), appear)]

    def begin() -> None:
        world.record(f"SageMaker: {job.name} runs (created {job.created - START:+.2f})")
        world.sagemaker.create(job.description, job.tags, running=True)

    def end() -> None:
        world.record(f"SageMaker: {job.name} is {job.status}")
        world.sagemaker.end(job.name)

    return [(planned.runs_from, begin), (first, end)]


async def found(world: World, plan: Plan) -> None:
    """Waits until the jobs whose events are lost are in the target, however long that may take."""
    if not plan.shape.reconcile:
        return
    runs = [planned.job.run for planned in plan.jobs if not planned.told]
    deadline = world.loop.time() + FIND_SECONDS
    while world.loop.time() < deadline and not all(
        place.has(run) for run in runs if run is not None for place in world.places
    ):
        if not world.living:
            world.start_replica(world.new_name())
        await asyncio.sleep(10)


async def drain(
    world: World,
    quiet_seconds: float = QUIET_SECONDS,
    *,
    is_done: Callable[[], bool] = lambda: True,
) -> None:
    """Waits until the queue has been empty for a while, with at least one replica running and none
    paused.

    Args:
        is_done: whether nothing else is left either.
    """
    deadline = world.loop.time() + DRAIN_SECONDS
    quiet_since = world.loop.time()
    while world.loop.time() - quiet_since < quiet_seconds:
        serving = [replica.place for replica in world.living]
        for place in world.queue_places:
            if all(each.queue is not place.queue for each in serving):
                world.start_replica(world.new_name(), place)
        await asyncio.sleep(10)
        is_asleep = any(replica.process.is_paused for replica in world.living)
        if is_asleep or any(_left(place) for place in world.places) or not is_done():
            quiet_since = world.loop.time()
        if world.loop.time() > deadline:
            world.wrong(
                f"does not converge: {DRAIN_SECONDS / 3600:.0f} h after everything works again, "
                f"{waits_for(world)}"
            )
            return


def _left(place: Place) -> int:
    return sum(
        place.queue.count(state)
        for state in (CopyState.VISIBLE, CopyState.HIDDEN, CopyState.DELAYED)
    )


def waits_for(world: World) -> str:
    """What keeps a history from ending: the messages that are left, and the edges that do not
    work.
    """
    said = []
    for place in world.queue_places:
        for message in place.queue.contents()[:5]:
            had = world.outcomes.get(message.message_id)
            last = " ".join(had[-1]) if had else "without an outcome"
            said.append(f"{message.message_id} ({message.receives} receives, {last})")
        if (left := _left(place)) > 5:
            said.append(f"{left - 5} more messages")
    for replica in world.living:
        if replica.process.is_paused:
            said.append(f"{replica.name}, which is paused")
        breakers = () if replica.daemon is None else replica.daemon._breakers
        said += [
            f"the {breaker.edge} of {replica.name} ({breaker.fault or 'not yet probed'})"
            for breaker in breakers
            if breaker.is_open
        ]
    return "it waits for " + (", ".join(said) or "nothing that is known")


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
        await asyncio.wait([world.loop.spawn(replica.end_in_time()) for replica in living])
