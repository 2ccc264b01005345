"""Jobs that other processes hand over to the daemon: the plan of such a history, the processes, and
what must have come of their requests at the end.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

from daemon.checkpoint import rules
from daemon.checkpoint.sqlite.group_commit import GroupCommit
from daemon.checkpoint.sqlite.store import SqliteCheckpoint
from daemon.errors import DaemonError
from daemon.intake.in_flight import InFlight
from daemon.operations import handed_over
from daemon.operations.hand_over import HandOver
from daemon.operations.handed_over import HandedOver
from daemon.operations.sync_one import SyncResult
from tests.simulation.loop import Process
from tests.simulation.plans import PlannedRequest, Shape, plain_jobs

if TYPE_CHECKING:
    import asyncio
    import random
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from tests.simulation.plans import Plan
    from tests.simulation.world import SimulatedDatabase, World

_FAULTS = ("kill", "kill", "sigterm", "cancel", "target_down", "target_weather", "lost_create")
_DONE = {"synced", "duplicate"}


def handed_over_plan(draft: Plan, chance: random.Random) -> Plan:
    """Jobs that an event announces, or a request, or both at nearly the same time."""
    horizon = chance.uniform(60, 150)
    jobs, requests = [], []
    for planned in plain_jobs(chance, chance.randint(2, 6), (3, horizon - 20)):
        (at,) = planned.events
        how = chance.choice(["event", "request", "request", "both", "both"])
        jobs.append(replace(planned, told=how != "request"))
        for _ in range(0 if how == "event" else chance.choice([1, 1, 2])):
            leaves = chance.uniform(0, 25) if chance.random() < 0.3 else None
            requests.append(
                PlannedRequest(
                    at + chance.choice([0.0, chance.uniform(0, 1), chance.uniform(0, 20)]),
                    planned.job.name,
                    force=chance.random() < 0.3,
                    leaves_after=leaves,
                    is_killed=chance.random() < 0.5,
                )
            )
    faults = [chance.choice(_FAULTS) for _ in range(chance.randint(1, 3))]
    # most of them while something is under way
    times = [each.at + chance.uniform(-1, 4) for each in requests] or [horizon / 2]
    return replace(
        draft,
        replicas=chance.choice([1, 1, 2, 3]),
        jobs=jobs,
        requests=sorted(requests, key=lambda each: each.at),
        chaos=sorted((max(0.1, chance.choice(times)), name) for name in faults),
        horizon=horizon,
        shape=Shape(metadata_store=True if chance.random() < 0.7 else None),
    )


class Asking:
    """The processes that ask, and whether each request is served by one process at a time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tasks: list[asyncio.Task[None]] = []
        self._served: dict[str, Process] = {}
        world.listeners.append(self._heard)

    def ask(self, planned: PlannedRequest) -> None:
        """Starts a process that hands a job over."""
        world, name = self._world, f"sync-{len(self._tasks) + 1}"
        files: list[SimulatedDatabase] = []

        def crashed() -> None:
            for file in files:
                file.vanish()

        process = Process(name, crashed)
        world.record(f"{name}: sync {planned.job} (force: {planned.force})")
        task = world.loop.start(process, self._sync(name, planned, files), name=name)
        self._tasks.append(task)

        def leave() -> None:
            if task.done():
                return
            world.record(f"{name} {'is killed' if planned.is_killed else 'leaves'}")
            if planned.is_killed:
                process.crash()
            else:
                task.cancel()

        if planned.leaves_after is not None:
            world.loop.call_later(planned.leaves_after, leave)

    async def _sync(
        self, name: str, planned: PlannedRequest, files: list[SimulatedDatabase]
    ) -> None:
        world = self._world
        database = world.open_database()
        files.append(database)
        commits = GroupCommit(database)
        try:
            await commits.open()
            checkpoint = SqliteCheckpoint(database, commits)
            try:
                result = await HandOver(checkpoint, say=world.record).sync(
                    planned.job, force=planned.force
                )
            finally:
                await checkpoint.aclose()
        except DaemonError as error:
            world.record(f"{name}: {error}")
            return
        world.record(f"{name}: {result.outcome} {result.reason}")
        if result.outcome in _DONE and not self._has(planned.job):
            world.wrong(
                f"answered before it is durable: {planned.job} is {result.outcome}, and ModelDB "
                "does not have it"
            )

    def _has(self, name: str) -> bool:
        place = self._world.places[0]
        return any(name in str(run["description"]) for run in place.v1.runs)

    def _heard(self, process: Process | None, entry: Mapping[str, Any]) -> None:
        """A line of a daemon's log."""
        request_id = str(entry.get("request_id"))
        match entry.get("event"):
            case "a job was handed over":
                before = self._served.get(request_id)
                if before is not None and not before.dead:
                    self._world.wrong(
                        f"a request is served twice at once: {before.name} has {request_id}"
                    )
                assert process is not None
                self._served[request_id] = process
            case str() as event if event.startswith("a handed-over job is"):
                self._served.pop(request_id, None)

    def is_done(self) -> bool:
        """Every request is answered or withdrawn."""
        return all(answer is not None for _, answer in self._rows())

    def ends(self) -> Mapping[str, bool | None]:
        """Of the jobs that were asked for, those whose run must be there (True), and those whose
        run may be there (None). A request that was withdrawn leaves nothing behind.
        """
        ends: dict[str, bool | None] = {}
        for job, answer in self._rows():
            if answer is None:
                self._world.wrong(f"a request about {job} is neither answered nor withdrawn")
            done = answer is not None and json.loads(answer)["outcome"] in _DONE
            ends[job] = True if done else ends.get(job)
        return ends

    def _rows(self) -> list[tuple[str, str | None]]:
        with contextlib.closing(sqlite3.connect(self._world.checkpoint)) as database:
            return list(database.execute("SELECT job, answer FROM sync_requests"))


# Rules broken on purpose
# ---


def not_in_the_ledger() -> AbstractContextManager[object]:
    """A request about a job works beside a message about it."""
    real = InFlight.lead

    async def lead(self: InFlight, delivery: Any) -> Any:
        if delivery.message.message_id.startswith("sync-"):
            return None
        return await real(self, delivery)

    return mock.patch.object(InFlight, "lead", lead)


def answered_first() -> AbstractContextManager[object]:
    """A request is answered before its outcome is durable."""
    real = HandedOver._begin

    async def begin(self: HandedOver, serving: Any) -> bool:
        begun = await real(self, serving)
        if begun:
            request = serving.request
            answer = SyncResult(request.job, "synced", "created", "")
            text = json.dumps(answer.as_document())
            await self._checkpoint.answer_request(request.request_id, text)
        return begun

    return mock.patch.object(HandedOver, "_begin", begin)


@contextlib.contextmanager
def taken_twice() -> Iterator[None]:
    """Whoever looks takes a request, also one that is being served."""

    def take(held: Any, owner: str, *, lease_until: float, **_more: Any) -> Any:
        request = replace(held.request, taken_by=owner)
        return None if request.answer is not None else rules.RequestRow(request, lease_until)

    async def take_one(self: HandedOver) -> None:
        request = await self._checkpoint.take_request(lease_seconds=20.0)
        if request is not None:
            handed_over.log.info("a job was handed over", request_id=request.request_id)
            serving = self._serving[request.request_id] = handed_over._Serving(request)
            self._start(self._serve(serving))

    with (
        mock.patch.object(rules, "take_request", take),
        mock.patch.object(HandedOver, "_take", take_one),
    ):
        yield


def never_taken_again() -> AbstractContextManager[object]:
    """A request whose taker has ended stays with it."""
    real = rules.take_request

    def take(held: Any, owner: str, **more: Any) -> Any:
        return None if held.request.taken_by else real(held, owner, **more)

    return mock.patch.object(rules, "take_request", take)


def withdrawn_in_the_middle() -> AbstractContextManager[object]:
    """A request is withdrawn although the daemon has begun with it."""
    return mock.patch.object(
        rules, "may_withdraw", lambda held: held is not None and held.request.answer is None
    )
