"""Whatever a job was and is: a repair makes its run what it would be written as now, done again it
changes nothing, wherever it is interrupted it can be done again, and what people added stays.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.demo.modeldb_v2.calls import EXPERIMENT_CALLS, PROJECT_CALLS, RUN_CALLS
from daemon.demo.modeldb_v2.messages import parse_body
from daemon.demo.modeldb_v2.run_updates import RUN_UPDATE_CALLS
from daemon.demo.modeldb_v2.store import Store
from daemon.targets.modeldb_v2.client import ModelDbV2Client
from daemon.targets.modeldb_v2.differences import MEMBERS
from daemon.targets.modeldb_v2.errors import ApiError, ApiErrorKind
from daemon.targets.modeldb_v2.mapping import map_run
from daemon.targets.modeldb_v2.placement import project_attributes
from daemon.targets.modeldb_v2.repair import RunRepair
from tests.property.descriptions import runs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from daemon.training_job.training_run import TrainingRun

CALLS = {**PROJECT_CALLS, **EXPERIMENT_CALLS, **RUN_CALLS, **RUN_UPDATE_CALLS}
EXAMPLES = max(10, settings().max_examples // 4)
"""Of what takes long."""
FEWER = max(10, settings().max_examples // 10)
MINE = "people_s"


class DirectClient(ModelDbV2Client):
    """The client with the stand-in's calls instead of a network.

    Attributes:
        updates: calls so far that change something.
        last: the call that is the last one; its answer is lost.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._in_workspace = {}
        self.updates = 0
        self.last: int | None = None

    async def _ask(
        self,
        method: str,
        path: str,
        read: Callable[[Mapping[str, Any]], Any],
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        ready: Callable[[], None] = lambda: None,
    ) -> Any:
        ready()
        call = CALLS[path.rpartition("/")[2]]
        sent = json.dumps(query if body is None else body, allow_nan=False).encode()
        received = call.message.read(parse_body(sent))
        call.validate(received)
        call.check(self.store, received)
        answer = call.perform(self.store, received)
        self.updates += method != "GET"
        if self.updates == self.last:
            raise ApiError(ApiErrorKind.CONNECTION, path, "lost", outcome_unknown=True)
        return read(json.loads(json.dumps(answer)))


def written(run: TrainingRun) -> tuple[Store, str]:
    """A server with the run of a job."""
    mapped, store = map_run(run), Store()
    client = DirectClient(store)
    attributes = [{"key": key, "value": value} for key, value in project_attributes(mapped).items()]

    async def create() -> str:
        project = await client.create_project(
            {
                "name": mapped.project_name,
                "description": mapped.project_description,
                "attributes": attributes,
            }
        )
        experiment = await client.create_experiment(
            {"project_id": project.id, "name": mapped.experiment_name}
        )
        ids = {"project_id": project.id, "experiment_id": experiment.id}
        return (await client.create_experiment_run(mapped.body | ids)).id

    return store, asyncio.run(create())


def repaired(store: Store, run_id: str, run: TrainingRun, last: int | None = None) -> Any:
    """What a repair says it changed; None if it was interrupted."""
    client = DirectClient(store)
    client.last = last
    try:
        return asyncio.run(RunRepair(client, run_id, run, map_run(run)).repair())[0]
    except ApiError as error:
        if error.kind is not ApiErrorKind.CONNECTION:
            raise
        return None


def content(store: Store, run_id: str) -> dict[str, Any]:
    """All of the run, with its lists in an order of their own."""
    run = store.runs.by_id(run_id)
    assert run is not None
    row = {
        key: value
        for key, value in run.row.items()
        if key not in {"id", "project_id", "experiment_id", "date_created", "date_updated"}
    }
    for member in ("tags", *MEMBERS):
        row[member] = sorted(row.get(member, []), key=json.dumps)
    return row


def edited_by_people(store: Store, run_id: str) -> None:
    run = store.runs.by_id(run_id)
    assert run is not None
    run.row.setdefault("tags", []).append(MINE)
    for member in ("hyperparameters", "metrics", "attributes"):
        run.row.setdefault(member, []).append({"key": MINE, "value": 7})
    for member in ("artifacts", "datasets"):
        run.row.setdefault(member, []).append({"key": MINE, "path": "s3://mine"})


@pytest.mark.slow  # two repairs of two runs each, 3 s in all
@settings(max_examples=EXAMPLES)
@given(runs(), runs(), st.integers(1, 12))
def test_a_repair_completes_and_a_second_one_changes_nothing(
    before: TrainingRun, other: TrainingRun, interrupted_at: int
) -> None:
    now = replace(
        other,
        mark=before.mark,
        arn=before.arn,
        name=before.name,
        creation_time=before.creation_time,
    )
    store, run_id = written(before)
    edited_by_people(store, run_id)
    repaired(store, run_id, now)

    assert repaired(store, run_id, now) == ()
    assert len(list(store.runs.all_live())) == 1
    row = content(store, run_id)
    assert MINE in row["tags"]
    for member in ("hyperparameters", "metrics", "attributes", "artifacts", "datasets"):
        assert len([each for each in row[member] if each["key"] == MINE]) == 1
    for member, entries in map_run(now).body.items():
        if member in ("hyperparameters", "metrics"):
            assert {each["key"] for each in entries} <= {each["key"] for each in row[member]}
    assert set(map_run(now).body["tags"]) <= set(row["tags"])

    interrupted, run_id = written(before)
    edited_by_people(interrupted, run_id)
    repaired(interrupted, run_id, now, interrupted_at)
    repaired(interrupted, run_id, now)
    assert content(interrupted, run_id) == row


@settings(max_examples=FEWER)
@given(runs())
def test_a_run_just_written_needs_no_repair(run: TrainingRun) -> None:
    store, run_id = written(run)

    assert repaired(store, run_id, run) == ()
