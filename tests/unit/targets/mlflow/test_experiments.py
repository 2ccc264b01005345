"""Experiments of MLflow: found, created once, and never written to when deleted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from daemon.targets.mlflow import experiments
from tests.support.mlflow_stand_in import MlflowStandIn
from tests.support.mlflow_target import active, scene_of
from tests.support.target_jobs import MemoryJournal, job_fault, refusal

if TYPE_CHECKING:
    import pytest

    from tests.support.mlflow_target import TargetScene

EXISTS = {"error_code": "RESOURCE_ALREADY_EXISTS", "message": "Experiment(name=x) already exists"}
DATABASE = {"error_code": "BAD_REQUEST", "message": "(pymysql.err.IntegrityError) (1062, ...)"}


def names(scene: TargetScene) -> list[str]:
    return [each["name"] for each in scene.server.model.experiments()]


async def test_its_tags_are_those_of_its_first_job(scene: TargetScene) -> None:
    await scene.sync()
    await scene.sync("churn-2", project_user="bea", project_description="Other words")

    [experiment] = scene.server.model.experiments()
    tags = {tag["key"]: tag["value"] for tag in experiment["tags"]}
    assert tags["project_user"] == "amara"
    assert tags["mlflow.note.content"] == "Who leaves next month"


async def test_the_prefix_goes_before_its_name(server: MlflowStandIn) -> None:
    async with scene_of(server, experiment_prefix="/Shared/") as scene:
        done = await scene.sync()

    assert done.ids["project"] == "/Shared/customer-churn"
    assert names(scene) == ["/Shared/customer-churn"]


async def test_jobs_at_once_make_one_experiment(scene: TargetScene, other: TargetScene) -> None:
    jobs = [each.sync(f"churn-{n}") for n in range(4) for each in (scene, other)]
    await asyncio.gather(*jobs)

    assert names(scene) == ["customer-churn"]


async def test_one_that_another_program_just_made_is_used(scene: TargetScene) -> None:
    await scene.client.create_experiment("customer-churn", {})
    absent = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No Experiment with that name"}
    scene.server.faults.refuse_next(2, 404, absent, operation="experiments/get-by-name")
    done = await scene.sync()

    assert done.created
    assert names(scene) == ["customer-churn"]


async def test_a_name_that_mysql_calls_a_database_error_is_looked_up_again(
    scene: TargetScene, journal: MemoryJournal
) -> None:
    await scene.client.create_experiment("customer-churn", {})
    absent = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No Experiment with that name"}
    scene.server.faults.refuse_next(2, 404, absent, operation="experiments/get-by-name")
    scene.server.faults.refuse_next(1, 400, DATABASE, operation="experiments/create")
    done = await scene.sync(journal=journal)

    assert done.created


async def test_a_database_error_of_a_new_name_is_the_jobs(scene: TargetScene) -> None:
    scene.server.faults.refuse_next(1, 400, DATABASE, operation="experiments/create")
    await job_fault(scene.sync())

    assert names(scene) == []


async def test_a_deleted_one_is_named_with_what_to_do(scene: TargetScene) -> None:
    first = await scene.sync()
    experiment_id = first.ids["experiment_id"]
    _delete(scene, experiment_id)
    async with scene_of(scene.server) as fresh:
        refused = await refusal(fresh.sync("churn-2"))

    assert "experiment 'customer-churn' was deleted in MLflow" in refused.detail
    assert f"mlflow experiments restore --experiment-id {experiment_id}" in refused.detail


async def test_one_that_is_deleted_while_its_id_is_cached_is_noticed(
    scene: TargetScene, journal: MemoryJournal
) -> None:
    first = await scene.sync()
    _delete(scene, first.ids["experiment_id"])
    refused = await refusal(scene.sync("churn-2", journal=journal))

    assert "was deleted in MLflow" in refused.detail
    assert journal.unanswered_writes == 0


async def test_one_that_is_gone_for_good_is_made_again(scene: TargetScene) -> None:
    first = await scene.sync()
    store = scene.server.model.store
    gone = store.experiments.pop(int(first.ids["experiment_id"]))
    del store.experiment_ids[gone.name]
    done = await scene.sync("churn-2")

    assert done.created
    assert scene.server.requests["experiments/create"] == 2


async def test_one_that_is_deleted_again_and_again_is_the_jobs_fault(
    scene: TargetScene, journal: MemoryJournal
) -> None:
    inactive = {
        "error_code": "INVALID_PARAMETER_VALUE",
        "message": "The experiment 1 must be in the 'active' state.",
    }
    scene.server.faults.refuse_next(9, 400, inactive, operation="runs/create")
    fault = await job_fault(scene.sync(journal=journal))

    assert "deleted meanwhile" in fault.detail
    assert scene.server.requests["runs/create"] == 3
    assert journal.unanswered_writes == 0


async def test_a_renamed_one_is_left_after_a_while(
    scene: TargetScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(experiments, "monotonic", lambda: now)
    first = await scene.sync()
    store = scene.server.model.store
    renamed = store.experiments[int(first.ids["experiment_id"])]
    del store.experiment_ids[renamed.name]
    renamed.name = "people's"
    store.experiment_ids["people's"] = renamed.id
    now += 299.0
    assert (await scene.sync("churn-2")).ids["experiment_id"] == first.ids["experiment_id"]
    now += 2.0
    assert (await scene.sync("churn-3")).ids["experiment_id"] != first.ids["experiment_id"]


async def test_runs_are_found_in_more_experiments_than_one_page_has(
    scene: TargetScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "PAGE", 2)
    for number in range(5):
        await scene.sync(f"other-{number}", project_name=f"project-{number}")
    first = await scene.sync(project_name="project-4")
    done = await scene.sync(project_name="elsewhere", journal=MemoryJournal(look_up_first=True))

    assert done.ids["run_id"] == first.ids["run_id"]
    assert len(active(scene.server)) == 6


async def test_a_server_that_reads_from_a_lagging_replica(no_pauses: None) -> None:
    """Nothing that was just created is visible at first."""
    now = 1_763_628_000_000

    def tick() -> int:
        nonlocal now
        now += 60  # each look at the clock
        return now

    async with (
        MlflowStandIn(replica_lag_ms=150, now_ms=tick) as server,
        scene_of(server) as scene,
    ):
        done = await scene.sync(model_location="s3://models/churn/model.tar.gz")

        assert done.created
        [run] = active(server)
        assert run["info"]["status"] == "FINISHED"


def _delete(scene: TargetScene, experiment_id: str) -> None:
    """Deletes an experiment as people do, with its runs."""
    body = f'{{"experiment_id":"{experiment_id}"}}'.encode()
    reply = scene.server.model.answer(
        "POST",
        "/api/2.0/mlflow/experiments/delete",
        "",
        {"content-type": "application/json", "host": "localhost"},
        body,
    )
    assert reply.status == 200, reply.body
