"""An operator's `sync --force` beside the daemons: a run that people have changed is repaired,
while calls are lost and the command is killed. What people added must stay, and no second run
appear.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from daemon.errors import EdgeFault, SetupFault
from daemon.intake.in_flight import InFlight
from daemon.operations.sync_one import JobName, SyncOne, renew_claims
from daemon.pipeline.flow import Flow
from daemon.targets.ports import NoPermit
from daemon.wiring import flow_rules
from tests.simulation.mlflow_people import PeopleOfMlflow
from tests.simulation.plans import plain_jobs
from tests.simulation.world import Replica, SimulatedParts

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from daemon.demo.modeldb_v2.store import Entity
    from tests.simulation.plans import Plan
    from tests.simulation.world import World

PATIENCE_SECONDS = 60.0
MINE = {"key": "people_s", "value": 7}
FINAL_TRIES = 20


def by_hand(draft: Plan, chance: random.Random) -> Plan:
    """Jobs that are synced, then changed by people and repaired."""
    jobs = plain_jobs(chance, chance.randint(1, 4), (3, 10))
    chaos = [(chance.uniform(20, 40), "people_and_operators") for _ in range(chance.randint(1, 3))]
    chaos += [
        (chance.uniform(15, 60), chance.choice(["target_weather", "kill", "target_down"]))
        for _ in range(chance.randint(0, 2))
    ]
    return replace(
        draft,
        replicas=chance.choice([1, 2]),
        jobs=jobs,
        chaos=tuple(sorted(chaos)),
        horizon=150.0,
    )


class People(Protocol):
    """What people do with runs in one kind of target."""

    def unchanged_runs(self) -> Sequence[Any]:
        """The runs that they have not changed yet."""

    def job_of(self, run: Any) -> str:
        """The name of a run's job."""

    def change(self, run: Any, chance: random.Random) -> None:
        """What this program wrote is damaged, and people add what is theirs."""

    def verify_and_tidy(self, run: Any, job: str) -> None:
        """Says what of theirs is not there any more, and takes it away, so that the run is complete
        for the invariants.
        """


async def people_and_operators(world: World, chance: random.Random) -> None:
    """People change a run; operators repair it until it is right. Some of the commands are
    killed.
    """
    people: People = PeopleOfMlflow(world) if world.target == "mlflow" else _PeopleOfV2(world)
    runs = people.unchanged_runs()
    if not runs:
        return
    run = chance.choice(runs)
    job = people.job_of(run)
    people.change(run, chance)
    world.record(f"people change the run of {job}")
    while not world.is_calm:
        command = Command(world, job)
        if chance.random() < 0.5:
            await asyncio.sleep(chance.uniform(0, 2))
            command.crash()
        await asyncio.wait([command.gone], timeout=600)
        await asyncio.sleep(chance.uniform(0, 10))
    await asyncio.sleep(60)  # what a killed command has sent is over
    for _ in range(FINAL_TRIES):
        command = Command(world, job)
        await asyncio.wait([command.gone], timeout=600)
        if command.outcome == "synced":
            break
        await asyncio.sleep(5)
    else:
        world.wrong(f"{job}: sync --force does not come to an end: {command.outcome}")
    people.verify_and_tidy(run, job)


class _PeopleOfV2:
    def __init__(self, world: World) -> None:
        self._world = world
        self._runs = world.v2.stand_in.store.runs

    def unchanged_runs(self) -> list[Entity]:
        return [each for each in self._runs.all_live() if MINE not in _metrics(each)]

    def job_of(self, run: Entity) -> str:
        return _attribute(run, "sagemaker_training_job_arn").rpartition("/")[2]

    def change(self, run: Entity, chance: random.Random) -> None:
        row = run.row
        for member in ("metrics", "hyperparameters"):
            if row.get(member) and chance.random() < 0.5:
                row[member].pop()
        row["tags"] = [tag for tag in row.get("tags", []) if tag != "sagemaker"]
        row["description"] = "churn: do not use"
        row["name"] = f"{row['name']}-best"
        for member in ("attributes", "metrics"):
            row.setdefault(member, []).append(dict(MINE))
        self._runs.updated(run)

    def verify_and_tidy(self, run: Entity, job: str) -> None:
        wrong = self._world.wrong
        if run.deleted:
            wrong(f"{job}: the run that people changed was deleted")
            return
        for member in ("attributes", "metrics"):
            if run.row[member].count(MINE) != 1:
                wrong(f"{job}: what people added to {member} is gone or doubled")
            run.row[member] = [each for each in run.row[member] if each != MINE]
        if run.row["description"] != "churn: do not use":
            wrong(f"{job}: the description that people wrote is gone")
        if not run.row["name"].endswith("-best"):
            wrong(f"{job}: the name that people gave is gone")


def _metrics(run: Entity) -> list[Any]:
    metrics: list[Any] = run.row.get("metrics", [])
    return metrics


def _attribute(run: Entity, key: str) -> str:
    return str(next(each["value"] for each in run.row["attributes"] if each["key"] == key))


class Command(Replica):
    """One process of `sync JOB --force`."""

    def __init__(self, world: World, job: str) -> None:
        self._job = job
        self.outcome = ""
        super().__init__(world, f"sync {job}", world.serving)

    async def _run(self) -> None:
        world, parts = self._world, SimulatedParts(self._world, self)
        in_flight = InFlight()
        try:
            async with contextlib.AsyncExitStack() as closing:
                checkpoint = await parts.checkpoint(_unobserved)
                closing.push_async_callback(checkpoint.aclose)
                target = parts.target(_unobserved, NoPermit())
                closing.push_async_callback(target.aclose)
                _, jobs = await closing.enter_async_context(parts.aws(_unobserved))
                rules = flow_rules(self.place.settings)
                renewing = asyncio.create_task(
                    renew_claims(checkpoint, in_flight, rules.lease_seconds)
                )
                closing.callback(renewing.cancel)
                one = SyncOne(
                    Flow(jobs, checkpoint, target, in_flight, rules),
                    jobs,
                    checkpoint,
                    in_flight,
                    patience_seconds=PATIENCE_SECONDS,
                )
                result = await one.sync(JobName.parse(self._job), force=True)
                self.outcome = result.outcome
                world.record(f"{self.name}: {result.text}")
        except (EdgeFault, SetupFault) as fault:
            world.record(f"{self.name}: {fault}")


def _unobserved(*_arguments: object) -> None: ...
