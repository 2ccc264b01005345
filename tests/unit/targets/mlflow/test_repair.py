"""`compare` and `repair` of the MLflow target, for ``sync --force``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from daemon.errors import DaemonError
from daemon.training_job.training_run import Channel, Hyperparameter, Metric
from tests.support.mlflow_target import (
    InterruptedClient,
    active,
    deleted,
    scene_of,
    writes,
)
from tests.support.target_jobs import MemoryJournal, edge_fault, job

if TYPE_CHECKING:
    from daemon.targets.ports import Repair
    from daemon.training_job.training_run import TrainingRun
    from tests.support.mlflow_stand_in import MlflowStandIn
    from tests.support.mlflow_target import TargetScene

MODEL = "s3://models/churn/output/model.tar.gz"
BEFORE = job(model_location=MODEL, all_tags={"team": "blue", "old": "yes"})
NOW = job(
    model_location=MODEL,
    all_tags={"team": "red"},
    channels=(Channel("train", "s3://data/train", "S3Prefix"),),
    hyperparameters=(Hyperparameter("eta", "0.3", 0.3), Hyperparameter("depth", "5", 5.0)),
    metrics=(Metric("train:auc", 0.99), Metric("train:loss", 0.1)),
    model_type="LightGBM",
)


async def repaired(scene: TargetScene, run: TrainingRun = NOW) -> Repair:
    compared = await scene.target.compare(run)
    done = await scene.target.repair(run, MemoryJournal(look_up_first=True))
    assert compared is not None
    assert set(compared.changed) == set(done.changed), "compare told something else"
    assert compared.unchangeable == done.unchangeable
    return done


async def test_a_run_that_is_up_to_date_is_not_written_to(scene: TargetScene) -> None:
    await scene.sync(run=NOW)
    before = writes(scene.server)
    done = await repaired(scene)

    assert (done.changed, done.unchangeable) == ((), ())
    assert writes(scene.server) == before


async def test_what_changed_of_the_job_is_brought_up_to_date(scene: TargetScene) -> None:
    await scene.sync(run=BEFORE)
    done = await repaired(scene)

    [run] = active(scene.server)
    assert run["tags"]["aws_tag/team"] == "red"
    assert "aws_tag/old" not in run["tags"]
    assert run["tags"]["model_type"] == "LightGBM"
    assert run["params"] == {"eta": "0.2", "depth": "5"}
    assert set(run["metrics"]) == {"train/auc", "train/loss"}
    assert len(run["inputs"]["dataset_inputs"]) == 1
    assert "param 'depth' (missing)" in done.changed
    assert "metric 'train/loss' (missing)" in done.changed
    assert "data set 'train' (missing)" in done.changed
    assert "tag 'aws_tag/team' (differs)" in done.changed
    assert "tag 'aws_tag/old' (outdated)" in done.changed
    assert done.unchangeable == ("param 'eta' (differs): MLflow cannot change a param",)
    again = await repaired(scene)
    assert again.changed == ()


async def test_what_people_wrote_stays(scene: TargetScene) -> None:
    first = await scene.sync(run=BEFORE)
    run_id = first.ids["run_id"]
    await scene.client.set_tag(run_id, "mlflow.note.content", "My own words")
    await scene.client.set_tag(run_id, "reviewed_by", "bea")
    await scene.client.update_run(run_id, run_name="the good one")
    await scene.client.update_model_version("churn-xgb", "1", "Mine")
    done = await repaired(scene)

    [run] = active(scene.server)
    [version] = scene.server.model.model_versions()
    assert run["tags"]["mlflow.note.content"] == "My own words"
    assert run["tags"]["reviewed_by"] == "bea"
    assert run["info"]["run_name"] == "the good one"
    assert version["description"] == "Mine"
    assert "description: edited by people" in done.unchangeable
    assert "description of the model version: edited by people" in done.unchangeable
    assert "name: people have renamed the run to 'the good one'" in done.unchangeable


async def test_a_job_that_moved_to_another_project_stays_where_its_run_is(
    scene: TargetScene,
) -> None:
    await scene.sync(run=BEFORE)
    moved = job(model_location=MODEL, project_name="elsewhere")
    done = await repaired(scene, moved)

    assert (
        "experiment: the job's is 'elsewhere', its run is in 'customer-churn'; MLflow cannot move "
        "a run"
    ) in done.unchangeable
    assert len(active(scene.server)) == 1
    assert [each["name"] for each in scene.server.model.experiments()] == ["customer-churn"]


async def test_a_version_that_was_never_registered_is(server: MlflowStandIn) -> None:
    async with scene_of(server, register_models=False) as scene:
        await scene.sync(run=BEFORE)
    async with scene_of(server) as scene:
        done = await repaired(scene, BEFORE)
        again = await repaired(scene, BEFORE)

    [version], [run] = server.model.model_versions(), active(server)
    assert "model version (missing)" in done.changed
    assert version["run_id"] == run["info"]["run_id"]
    assert (again.changed, again.unchangeable) == ((), ())


async def test_a_version_that_people_deleted_stays_deleted(scene: TargetScene) -> None:
    await scene.sync(run=BEFORE)
    await scene.client.delete_model_version("churn-xgb", "1")
    done = await repaired(scene, BEFORE)

    assert done.changed == ()
    assert done.unchangeable == ("model version: deleted by people, or refused by MLflow",)
    assert scene.server.model.model_versions() == []


async def test_a_version_that_mlflow_refuses_is_told(server: MlflowStandIn) -> None:
    async with scene_of(server, register_models=False) as scene:
        await scene.sync(run=BEFORE)
    refused = {"error_code": "INVALID_PARAMETER_VALUE", "message": "Invalid model version source"}
    server.faults.refuse_next(1, 400, refused, operation="model-versions/create")
    journal = MemoryJournal()
    async with scene_of(server) as scene:
        done = await scene.target.repair(BEFORE, journal)

    assert "model version: refused by MLflow" in done.unchangeable
    assert "model version (missing)" not in done.changed
    assert journal.unanswered_writes == 0


async def test_without_the_database_nothing_is_told(scene: TargetScene) -> None:
    await scene.sync(run=BEFORE)
    scene.server.faults.database_down = True

    await edge_fault(scene.target.compare(NOW))
    await edge_fault(scene.target.repair(NOW, MemoryJournal()))
    await edge_fault(scene.target.find(NOW.mark))


async def test_a_run_that_a_person_deleted_stays_deleted(scene: TargetScene) -> None:
    first = await scene.sync(run=BEFORE)
    await scene.client.delete_run(first.ids["run_id"])
    done = await repaired(scene)

    [text] = done.unchangeable
    assert "was deleted in MLflow" in text
    assert f"mlflow runs restore --run-id {first.ids['run_id']}" in text
    assert active(scene.server) == []


async def test_a_job_without_a_run_is_synced(scene: TargetScene) -> None:
    assert await scene.target.compare(NOW) is None
    done = await scene.target.repair(NOW, MemoryJournal())

    assert done.target_run.created
    assert len(active(scene.server)) == 1


async def test_duplicates_are_told_and_healed(scene: TargetScene, other: TargetScene) -> None:
    scene.server.faults.overlap_next(2, operation="runs/create")
    await asyncio.gather(scene.sync(run=BEFORE), other.sync(run=BEFORE))
    compared = await scene.target.compare(BEFORE)
    done = await scene.target.repair(BEFORE, MemoryJournal())

    assert compared is not None
    [doubled] = compared.changed
    assert doubled.endswith("(a duplicate)")
    assert done.changed == ("duplicates of the run (1)",)
    assert len(active(scene.server)) == len(deleted(scene.server)) == 1


async def test_an_incomplete_run_is_completed(scene: TargetScene) -> None:
    first = await scene.sync(run=BEFORE)
    await scene.client.update_run(first.ids["run_id"], status="RUNNING")
    await scene.target.repair(BEFORE, MemoryJournal())

    assert active(scene.server)[0]["info"]["status"] == "FINISHED"


@pytest.mark.parametrize("end", ["lost before", "lost after", "cancelled after"])
async def test_a_repair_may_end_at_every_call(server: MlflowStandIn, end: str) -> None:
    async with scene_of(server, client=InterruptedClient) as scene:
        client = scene.client
        assert isinstance(client, InterruptedClient)
        number, reached = 0, True
        while reached:
            number += 1
            names: dict[str, Any] = {
                "name": f"churn-{number}",
                "model_location": MODEL,
                "project_name": f"project-{number}",
            }
            async with scene_of(server, register_models=False) as earlier:
                await earlier.sync(run=job(**names, all_tags={"old": "yes"}))
            run = job(**names, model_type="LightGBM", channels=NOW.channels)
            journal = MemoryJournal()
            client.calls.clear()
            client.at, client.end = number, end
            ended = await _ends(scene, run, journal)
            reached, client.at = len(client.calls) >= number, 0
            if ended:
                await scene.target.repair(run, journal)
            compared = await scene.target.compare(run)
            assert compared is not None
            assert compared.changed == ()
            assert journal.unanswered_writes == 0
        assert number > 10, "the repair ended before all of its calls"
    assert len(active(server)) == len(server.model.model_versions()) == number
    assert deleted(server) == []


async def _ends(scene: TargetScene, run: TrainingRun, journal: MemoryJournal) -> bool:
    try:
        await scene.target.repair(run, journal)
    except (DaemonError, asyncio.CancelledError):
        return True
    return False


async def test_a_repair_without_an_answer_is_waited_for(scene: TargetScene) -> None:
    await scene.sync(run=BEFORE)
    scene.server.faults.lose_next_answers(1, operation="runs/log-batch")
    with pytest.raises(DaemonError):
        await scene.target.repair(NOW, MemoryJournal())
    await scene.target.repair(NOW, MemoryJournal())

    [slept] = scene.settling.slept
    assert 25 < slept <= 30
