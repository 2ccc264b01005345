"""People who work in MLflow beside the daemon: what they edit stays, what they delete is not made
again, and `sync --force` repairs only what this program wrote.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.simulation.mlflow_server import id_of
from tests.simulation.plans import SENT_FORMS, plain_jobs

if TYPE_CHECKING:
    import random

    from tests.simulation.mlflow_server import SimulatedMlflow
    from tests.simulation.plans import Plan
    from tests.simulation.world import World

EDITED = 0.8
"""The part of the runs with which people do something."""
DOUBLED = 0.7
"""The part of the runs, and of their versions, that another daemon writes, too."""
_MINE = "people_s"
_NOTE = "mlflow.note.content"
_FACT = "sagemaker.status"
_FACT_TOO = "model_type"


def people_plan(draft: Plan, chance: random.Random) -> Plan:
    """Runs that people have edited or deleted, whose jobs are sent again. In some histories the
    checkpoint has been lost by then.
    """
    return _sent_again(draft, chance, "people_edit", forgets=chance.random() < 0.7)


def doubles_plan(draft: Plan, chance: random.Random) -> Plan:
    """Runs that another daemon, without this one's checkpoint, has written as well. The jobs are
    sent again when this one's checkpoint has been lost.
    """
    return _sent_again(draft, chance, "doubles_appear", forgets=True)


def _sent_again(draft: Plan, chance: random.Random, action: str, *, forgets: bool) -> Plan:
    jobs = [
        replace(
            planned,
            later=tuple(
                (chance.uniform(160, 200), chance.choice(SENT_FORMS))
                for _ in range(chance.choice([1, 1, 2]))
            ),
        )
        for planned in plain_jobs(chance, chance.randint(2, 6), (3, 13))
    ]
    chaos = [(30.0, action)]
    if forgets:
        chaos.append((40.0, "a_day_later"))
    chaos += [
        (chance.uniform(150, 200), chance.choice(["target_weather", "kill", "lost_create"]))
        for _ in range(chance.randint(0, 2))
    ]
    return replace(
        draft, replicas=chance.choice([1, 1, 2]), jobs=jobs, chaos=sorted(chaos), horizon=220.0
    )


async def doubles_appear(world: World, chance: random.Random) -> None:
    """Another daemon writes runs of jobs that have one; some of them it does not complete."""
    server = world.mlflow
    for run in server.marked_runs():
        if chance.random() < DOUBLED:
            is_complete = chance.random() < 0.5
            world.record(f"another daemon writes the job of run {id_of(run)}")
            server.write_again(
                run, is_complete=is_complete, with_version=is_complete or chance.random() < DOUBLED
            )


async def people_edit(world: World, chance: random.Random) -> None:
    """People edit, delete and restore runs, and delete model versions."""
    server = world.mlflow
    for run in server.marked_runs():
        if run["info"]["status"] == "RUNNING" or chance.random() > EDITED:
            continue
        run_id = id_of(run)
        what = chance.choice(["edit", "edit", "delete", "delete", "restore", "no model"])
        world.record(f"people: {what} run {run_id}")
        match what:
            case "edit":
                _edit(server, run_id)
                server.edited_by_people[run_id] = server.stored(run_id)
            case "delete":
                server.call("runs/delete", run_id=run_id)
                server.deleted_by_people.add(run_id)
            case "restore":
                server.call("runs/delete", run_id=run_id)
                await asyncio.sleep(chance.uniform(0, 5))
                server.call("runs/restore", run_id=run_id)
            case "no model":
                server.delete_versions_of(run_id)


def _edit(server: SimulatedMlflow, run_id: str) -> None:
    name = server.stored(run_id)["info"]["run_name"]
    server.call("runs/update", run_id=run_id, run_name=f"{name}-best")
    server.call("runs/set-tag", run_id=run_id, key=_NOTE, value="churn: do not use")
    server.describe_versions_of(run_id, "churn: do not use")
    server.call(
        "runs/log-batch",
        run_id=run_id,
        metrics=[{"key": _MINE, "value": 7.0, "timestamp": 1, "step": 0}],
        params=[{"key": _MINE, "value": "seven"}],
        tags=[{"key": _MINE, "value": "7"}],
    )


class PeopleOfMlflow:
    """See `tests.simulation.by_hand.People`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._server = world.mlflow

    def unchanged_runs(self) -> list[str]:
        return [
            id_of(run)
            for run in self._server.marked_runs()
            if run["info"]["status"] != "RUNNING" and _MINE not in run["tags"]
        ]

    def job_of(self, run: str) -> str:
        return str(self._stored(run)["tags"]["sagemaker_training_job_arn"]).rpartition("/")[2]

    def change(self, run: str, chance: random.Random) -> None:
        _edit(self._server, run)
        for key in (_FACT, _FACT_TOO):
            if key in self._stored(run)["tags"] and chance.random() < 0.6:
                self._server.call("runs/delete-tag", run_id=run, key=key)
        if chance.random() < 0.3:
            self._server.call("runs/set-tag", run_id=run, key=_FACT_TOO, value="?")

    def verify_and_tidy(self, run: str, job: str) -> None:
        row = self._stored(run)
        wrong = self._world.wrong
        if row["info"]["lifecycle_stage"] != "active":
            wrong(f"{job}: the run that people changed was deleted")
            return
        for member in ("tags", "params", "metrics"):
            if _MINE not in row[member]:
                wrong(f"{job}: what people added to {member} is gone")
        if row["tags"][_NOTE] != "churn: do not use":
            wrong(f"{job}: the description that people wrote is gone")
        if not row["info"]["run_name"].endswith("-best"):
            wrong(f"{job}: the name that people gave is gone")
        self._server.undo_edit(run, _MINE, _NOTE)

    def _stored(self, run: str) -> dict[str, Any]:
        return self._server.stored(run)
