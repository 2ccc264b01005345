"""Whatever a job was and is: a repair makes its run in MLflow what it would be written as now, done
again it changes nothing, wherever it is interrupted it can be done again, and what people added
stays.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.demo.mlflow.model import MlflowModel
from daemon.errors import DaemonError
from daemon.targets.mlflow.mapping import VERSION_OF_SYNC_TAG, map_run
from daemon.targets.mlflow.target import MlflowTarget
from tests.property.descriptions import runs
from tests.support.mlflow_model_session import client_of
from tests.support.target_jobs import MemoryJournal

if TYPE_CHECKING:
    from daemon.targets.ports import Repair
    from daemon.training_job.training_run import TrainingRun

EXAMPLES = max(10, settings().max_examples // 5)
"""Of what takes long."""
MINE = "people_s"


def written(run: TrainingRun) -> MlflowModel:
    """A server with the run of a job, to which people have added theirs."""
    ids = itertools.count(1)
    model = MlflowModel(now_ms=lambda: 1_763_628_000_000, new_id=lambda: f"{next(ids):032x}")
    target = MlflowTarget(client_of(model), settle_seconds=0)

    async def sync() -> None:
        run_id = (await target.sync(run, MemoryJournal())).ids["run_id"]
        client = client_of(model)
        await client.log_batch(run_id, params={MINE: "7"}, tags={MINE: "x"})

    asyncio.run(sync())
    return model


def repaired(model: MlflowModel, run: TrainingRun, last: int = 0) -> Repair | None:
    """What became of the differences; None if it was interrupted."""
    target = MlflowTarget(client_of(model, last=last), settle_seconds=0)
    try:
        return asyncio.run(target.repair(run, MemoryJournal()))
    except DaemonError:
        assert last
        return None


def content(model: MlflowModel) -> dict[str, Any]:
    """All of the only run and its versions."""
    [run] = model.runs()
    return {
        "info": run["info"],
        "params": run["params"],
        "tags": {
            key: value for key, value in run["tags"].items() if key != "sagemaker_sync_written"
        },
        "points": sorted(map(repr, run["points"])),
        "inputs": sorted(map(repr, run.get("inputs", {}).get("dataset_inputs", []))),
        "versions": [
            (each["name"], each["version"], each.get("description", ""))
            for each in model.model_versions()
        ],
    }


@pytest.mark.slow  # two histories of two jobs each, 4 s in all
@settings(max_examples=EXAMPLES)
@given(runs(), runs(), st.integers(1, 8))
def test_a_repair_in_mlflow_completes_and_a_second_one_changes_nothing(
    before: TrainingRun, other: TrainingRun, interrupted_at: int
) -> None:
    now = replace(
        other,
        mark=before.mark,
        arn=before.arn,
        name=before.name,
        creation_time=before.creation_time,
    )
    model = written(before)
    assert repaired(model, now) is not None
    again = repaired(model, now)
    assert again is not None
    assert again.changed == ()

    wanted, found = map_run(now), content(model)
    assert (found["params"][MINE], found["tags"][MINE]) == ("7", "x")
    assert wanted.params.keys() <= found["params"].keys()
    kept = {VERSION_OF_SYNC_TAG, "mlflow.note.content", "sagemaker_sync_description"}
    kept.add("sagemaker_sync_version_description")
    for key in wanted.tags.keys() - kept:
        assert found["tags"][key] == wanted.tags[key]
    assert found["info"]["status"] == wanted.status
    assert len(found["versions"]) <= 1
    assert model.stopped_parses == []

    interrupted = written(before)
    repaired(interrupted, now, interrupted_at)
    repaired(interrupted, now)
    assert content(interrupted) == found
