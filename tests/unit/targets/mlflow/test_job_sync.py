"""One job becomes one complete run in MLflow."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from daemon.targets.mlflow.mapping import distinct_run_name
from daemon.training_job.training_run import Channel, Hyperparameter, Metric
from tests.support.mlflow_target import active, deleted, writes
from tests.support.target_jobs import CREATED, MemoryJournal, edge_fault, job, refusal

if TYPE_CHECKING:
    import pytest

    from tests.support.mlflow_stand_in import MlflowStandIn
    from tests.support.mlflow_target import TargetScene

MODEL = "s3://models/churn-1/output/model.tar.gz"
CHANNEL = Channel("train", "s3://data/train", "S3Prefix")


async def test_a_new_job_gets_its_experiment_run_and_version(
    server: MlflowStandIn, scene: TargetScene, journal: MemoryJournal
) -> None:
    done = await scene.sync(journal=journal, model_location=MODEL, channels=(CHANNEL,))

    [experiment], [run] = server.model.experiments(), active(server)
    [version] = server.model.model_versions()
    run_id, experiment_id = run["info"]["run_id"], experiment["experiment_id"]
    assert done.created
    assert done.complete
    assert done.ids == {
        "experiment_id": experiment_id,
        "run_id": run_id,
        "project": "customer-churn",
        "experiment": "churn-xgb",
        "run": "churn-1",
        "model": "churn-xgb",
        "model_version": "1",
        "run_url": f"http://ui:5000/#/experiments/{experiment_id}/runs/{run_id}",
    }
    assert experiment["name"] == "customer-churn"
    assert run["info"]["run_name"] == "churn-1"
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["end_time"] == 1_763_628_000_050
    assert (
        run["tags"]["sagemaker_training_job_arn"]
        == "arn:aws:sagemaker:eu-west-1:123456789012:training-job/churn-1"
    )
    assert run["tags"]["sagemaker_creation_time"] == "2025-11-20T08:40:00.050Z"
    assert run["params"] == {"eta": "0.2"}
    assert run["metrics"]["train/auc"]["value"] == 0.99
    assert [each["dataset"]["name"] for each in run["inputs"]["dataset_inputs"]] == ["train"]
    assert (version["run_id"], version["source"]) == (run_id, MODEL)
    assert journal.begun == [f"mlflow/run/{job().mark.short_hash}/churn-1"] * 2
    assert journal.locked == ["mlflow/experiment/customer-churn"]
    assert journal.unanswered_writes == 0
    assert journal.steps == {
        "experiment_id": experiment_id,
        "run_id": run_id,
        "model_version": "1",
    }
    assert scene.settling.slept == []


async def test_a_second_job_of_a_known_experiment_and_model_costs_six_calls(
    scene: TargetScene,
) -> None:
    await scene.sync(model_location=MODEL, channels=(CHANNEL,))
    scene.server.requests.clear()
    await scene.sync("churn-2", model_location=MODEL, channels=(CHANNEL,))

    assert dict(scene.server.requests) == {
        "runs/search": 1,
        "runs/create": 1,
        "runs/log-batch": 1,
        "runs/log-inputs": 1,
        "model-versions/create": 1,
        "runs/update": 1,
    }


async def test_a_data_set_that_another_job_records_at_the_same_time_is_recorded_again(
    scene: TargetScene,
) -> None:
    unique = "(psycopg2.errors.UniqueViolation) duplicate key value violates unique constraint"
    lost_the_race = {"error_code": "BAD_REQUEST", "message": unique}
    scene.server.faults.refuse_next(1, 400, lost_the_race, operation="runs/log-inputs")
    done = await scene.sync(channels=(CHANNEL,))

    [run] = active(scene.server)
    assert done.complete
    assert [each["dataset"]["name"] for each in run["inputs"]["dataset_inputs"]] == ["train"]
    assert scene.server.requests["runs/log-inputs"] == 2


async def test_a_complete_run_is_found_and_not_written_to(scene: TargetScene) -> None:
    first = await scene.sync(model_location=MODEL)
    await scene.client.set_tag(first.ids["run_id"], "mlflow.note.content", "people's own words")
    before = writes(scene.server)
    again = await scene.sync(
        model_location=MODEL,
        hyperparameters=(Hyperparameter("eta", "0.3", 0.3),),
        journal=MemoryJournal(look_up_first=True),
    )

    assert not again.created
    assert again.ids == first.ids
    assert writes(scene.server) == before
    [run] = active(scene.server)
    assert run["tags"]["mlflow.note.content"] == "people's own words"
    assert run["params"] == {"eta": "0.2"}


async def test_a_job_is_found_in_its_experiment_even_if_the_checkpoint_calls_it_new(
    scene: TargetScene,
) -> None:
    await scene.sync()
    again = await scene.sync()

    assert not again.created
    assert len(active(scene.server)) == 1


async def test_a_job_is_found_in_another_experiment(scene: TargetScene) -> None:
    first = await scene.sync(project_name="old-name")
    again = await scene.sync(journal=MemoryJournal(look_up_first=True))

    assert not again.created
    assert again.ids == first.ids
    assert [each["name"] for each in scene.server.model.experiments()] == ["old-name"]


async def test_a_later_job_of_the_same_name_gets_a_name_of_its_own(scene: TargetScene) -> None:
    await scene.sync()
    later = job(created=CREATED + timedelta(days=1))
    done = await scene.sync(run=later)

    name = distinct_run_name("churn-1", later.mark)
    assert done.created
    assert done.ids["run"] == name
    assert done.detail == f"named {name!r}, because another run has the name 'churn-1'"
    assert [run["info"]["run_name"] for run in active(scene.server)] == ["churn-1", name]


async def test_a_run_that_a_person_deleted_is_not_made_again(scene: TargetScene) -> None:
    first = await scene.sync(model_location=MODEL)
    await scene.client.delete_run(first.ids["run_id"])
    before = writes(scene.server)
    for look_up_first in (False, True):
        done = await scene.sync(
            model_location=MODEL, journal=MemoryJournal(look_up_first=look_up_first)
        )
        assert not done.created
        assert done.ids["run_id"] == first.ids["run_id"]
        assert "was deleted in MLflow" in done.detail
        assert f"mlflow runs restore --run-id {first.ids['run_id']}" in done.detail

    assert active(scene.server) == []
    assert writes(scene.server) == before


async def test_an_incomplete_run_is_filled_again(scene: TargetScene) -> None:
    first = await scene.sync(model_location=MODEL, channels=(CHANNEL,))
    run_id = first.ids["run_id"]
    await scene.client.update_run(run_id, status="RUNNING")
    journal = MemoryJournal(look_up_first=True)
    again = await scene.sync(model_location=MODEL, channels=(CHANNEL,), journal=journal)

    [run] = active(scene.server)
    assert not again.created
    assert again.complete
    assert run["info"]["status"] == "FINISHED"
    assert len(scene.server.model.model_versions()) == 1
    assert journal.unanswered_writes == 0


async def test_params_of_an_incomplete_run_stay_as_first_written(scene: TargetScene) -> None:
    first = await scene.sync()
    await scene.client.update_run(first.ids["run_id"], status="RUNNING")
    again = await scene.sync(
        hyperparameters=(Hyperparameter("eta", "0.3", 0.3), Hyperparameter("depth", "5", 5.0)),
    )

    [run] = active(scene.server)
    assert run["params"] == {"eta": "0.2", "depth": "5"}
    assert run["info"]["status"] == "FINISHED"
    assert "param 'eta' stays as first written: MLflow cannot change it" in again.notes


async def test_many_params_and_metrics_go_in_batches(scene: TargetScene) -> None:
    await scene.sync(
        hyperparameters=tuple(Hyperparameter(f"p{n}", "1", 1.0) for n in range(120)),
        metrics=tuple(Metric(f"m{n}", 1.0) for n in range(250)),
    )

    [run] = active(scene.server)
    assert scene.server.requests["runs/log-batch"] == 3
    assert (len(run["params"]), len(run["metrics"])) == (120, 250)


async def test_a_model_that_people_delete_is_registered_again(scene: TargetScene) -> None:
    await scene.sync(model_location=MODEL)
    store = scene.server.model.store
    store.models.clear()
    store.versions.clear()
    done = await scene.sync("churn-2", model_location=MODEL)

    assert done.ids["model_version"] == "1"
    assert [each["name"] for each in scene.server.model.registered_models()] == ["churn-xgb"]


async def test_a_job_without_a_model_makes_no_version(scene: TargetScene) -> None:
    done = await scene.sync()

    assert "model" not in done.ids
    assert scene.server.model.registered_models() == []


async def test_a_run_that_comes_back_without_its_mark_is_deleted(
    scene: TargetScene, journal: MemoryJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = scene.client.create_run

    async def without_tags(experiment_id: str, **members: object) -> object:
        return await create(experiment_id, **{**members, "tags": {}})  # type: ignore[arg-type] # as given

    monkeypatch.setattr(scene.client, "create_run", without_tags)
    fault = await edge_fault(scene.sync(journal=journal))

    assert fault.reason == "not_the_api"
    assert not fault.curable
    assert "came back without the tags of its mark" in fault.detail
    assert active(scene.server) == []
    assert len(deleted(scene.server)) == 1
    assert journal.unanswered_writes == 0


async def test_a_version_that_the_server_refuses_does_not_keep_the_run_incomplete(
    scene: TargetScene, journal: MemoryJournal
) -> None:
    refused = {"error_code": "INVALID_PARAMETER_VALUE", "message": "Invalid model version source"}
    scene.server.faults.refuse_next(1, 400, refused, operation="model-versions/create")
    done = await scene.sync(model_location=MODEL, journal=journal)

    [run] = active(scene.server)
    assert run["info"]["status"] == "FINISHED"
    assert any("MLflow refused the model version" in note for note in done.notes)
    assert journal.unanswered_writes == 0


async def test_what_the_server_refuses_of_a_run_is_final(scene: TargetScene) -> None:
    refused = {"error_code": "INVALID_PARAMETER_VALUE", "message": "Invalid value for a param"}
    scene.server.faults.refuse_next(1, 400, refused, operation="runs/log-batch")
    refused_ = await refusal(scene.sync())

    [run] = active(scene.server)
    run_id = run["info"]["run_id"]
    assert "Invalid value" in refused_.detail
    assert refused_.detail.endswith(f"run {run_id} stays incomplete in MLflow, with status RUNNING")


async def test_steps_of_a_run_that_is_gone_for_good_are_forgotten(scene: TargetScene) -> None:
    journal = MemoryJournal(look_up_first=True)
    journal.steps = {"run_id": "0" * 32, "model_version": "7"}
    done = await scene.sync(model_location=MODEL, journal=journal)

    assert done.ids["model_version"] == "1"
    assert journal.steps["run_id"] == done.ids["run_id"]
