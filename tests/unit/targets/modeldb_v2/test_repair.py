"""A run that is there is brought up to date with its job: only what this program wrote, and never a
second run.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from daemon.errors import EdgeFault, JobFault
from daemon.training_job.channels import Channel
from daemon.training_job.training_run import Hyperparameter, Metric
from daemon.training_job.tuning_job import TuningJob
from tests.support.modeldb_v2_target import (
    BARE_500,
    CLOSING,
    CREATED,
    MemoryJournal,
    attributes,
    counts,
    duplicate,
    job,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.targets.ports import Repair
    from daemon.training_job.training_run import TrainingRun
    from tests.support.modeldb_v2_target import TargetScene

TAGS = {"team": "growth", "MODEL_DB_MODEL_TYPE": "XGBoost"}
BEFORE = job(
    all_tags=TAGS,
    channels=(Channel("train", "s3://b/train", "s3"), Channel("test", "s3://b/test", "s3")),
    model_location="s3://b/model.tar.gz",
    end_time=CREATED + timedelta(minutes=20),
    hyperparameters=(Hyperparameter("eta", "0.2", 0.2), Hyperparameter("depth", "5", 5)),
    metrics=(Metric("train:auc", 0.99), Metric("train:loss", 0.1)),
)


async def repair(scene: TargetScene, run: TrainingRun) -> Repair:
    return await scene.target.repair(run, MemoryJournal())


def row(scene: TargetScene) -> Mapping[str, Any]:
    [run] = scene.server.runs()
    return run


def by_key(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {each["key"]: each.get("value", each.get("path")) for each in entries}


async def test_a_job_that_is_not_there_is_synced(scene: TargetScene) -> None:
    done = await repair(scene, BEFORE)

    assert done.target_run.created
    assert (done.changed, done.unchangeable) == ((), ())
    assert counts(scene.server) == (1, 1, 1)


async def test_nothing_differs_right_after_a_sync(scene: TargetScene) -> None:
    await scene.sync(run=BEFORE)
    before = copy.deepcopy(row(scene))
    done = await repair(scene, BEFORE)

    assert not done.target_run.created
    assert (done.changed, done.unchangeable) == ((), ())
    assert row(scene) == before


async def test_what_differs_is_repaired_and_a_second_repair_changes_nothing(
    scene: TargetScene,
) -> None:
    synced = await scene.sync(run=BEFORE)
    now = replace(
        BEFORE,
        model_type="LightGBM",
        project_user="bola",
        project_description="Who stays",
        all_tags={"MODEL_DB_MODEL_TYPE": "LightGBM", "stage": "prod"},
        channels=(Channel("train", "s3://b/train2", "s3"), Channel("val", "s3://b/val", "s3")),
        model_location="s3://b/model2.tar.gz",
        hyperparameters=(Hyperparameter("eta", "0.3", 0.3), Hyperparameter("depth", "5", 5)),
        metrics=(Metric("train:auc", 0.98), Metric("test:auc", 0.97)),
    )
    expected = await scene.target.compare(now)
    before = copy.deepcopy(row(scene))
    assert expected is not None
    done = await repair(scene, now)

    assert before["tags"] == ["sagemaker", "XGBoost"]  # to compare changes nothing
    assert done.changed == expected.changed
    assert set(done.changed) > {
        "tag 'LightGBM' (missing)",
        "tag 'XGBoost' (outdated)",
        "description (differs)",
        "hyperparameter 'eta' (differs)",
        "metric 'train/auc' (differs)",
        "metric 'test/auc' (missing)",
        "dataset 'train' (differs)",
        "dataset 'val' (missing)",
        "artifact 'model_artifact' (differs)",
        "attribute 'model_type' (differs)",
        "attribute 'aws_tag_team' (outdated)",
        "attribute 'aws_tag_stage' (missing)",
        "project description (differs)",
        "project attribute 'project_user' (differs)",
    }
    assert done.unchangeable == ()
    run, [project] = row(scene), scene.server.projects()
    assert run["id"] == synced.ids["run_id"] == done.target_run.ids["run_id"]
    assert run["tags"] == ["sagemaker", "LightGBM"]
    assert "Type: LightGBM" in run["description"]
    assert by_key(run["hyperparameters"]) == {"eta": 0.3, "depth": 5}
    assert by_key(run["metrics"]) == {"train/auc": 0.98, "train/loss": 0.1, "test/auc": 0.97}
    assert by_key(run["datasets"])["train"] == "s3://b/train2"
    assert by_key(run["artifacts"])["model_artifact"] == "s3://b/model2.tar.gz"
    told = attributes(run)
    assert (told["model_type"], told["aws_tag_stage"]) == ("LightGBM", "prod")
    assert "aws_tag_team" not in told
    assert (project["description"], attributes(project)["project_user"]) == ("Who stays", "bola")
    again = await repair(scene, now)
    assert (again.changed, again.unchangeable) == ((), ())


async def test_what_people_added_stays(scene: TargetScene) -> None:
    await scene.sync(run=BEFORE)
    run = scene.server.store.runs.by_id(row(scene)["id"])
    assert run is not None
    run.row["tags"].append("mine")
    for name in ("hyperparameters", "metrics", "attributes"):
        run.row[name].append({"key": "mine", "value": 7})
    run.row["artifacts"].append({"key": "mine", "path": "s3://x", "path_only": True})
    run.row["description"] += "\nDo not use: trained on the wrong month"
    [project] = scene.server.store.projects.all_live()
    project.row["description"] = "Edited by hand"
    now = replace(BEFORE, model_type="LightGBM", project_description="Who stays")
    done = await repair(scene, now)

    assert done.unchangeable == (
        "description: edited by people",
        "project description: edited by people",
    )
    assert run.row["tags"] == ["sagemaker", "mine", "LightGBM"]
    for name in ("hyperparameters", "metrics", "attributes"):
        assert by_key(run.row[name])["mine"] == 7
    assert by_key(run.row["artifacts"])["mine"] == "s3://x"
    assert "wrong month" in run.row["description"]
    assert project.row["description"] == "Edited by hand"


async def test_what_modeldb_cannot_change_is_said(scene: TargetScene) -> None:
    await scene.sync(run=BEFORE)
    now = replace(
        BEFORE,
        project_name="retention",
        model_name="churn-lgbm",
        end_time=CREATED + timedelta(minutes=30),
    )
    done = await repair(scene, now)

    assert done.unchangeable == (
        "end time: ModelDB sets it only when a run is created",
        (
            "project: the job's is 'retention', its run is in 'customer-churn'; ModelDB cannot "
            "move a run"
        ),
        (
            "experiment: the job's is 'churn-lgbm', its run is in 'churn-xgb'; ModelDB cannot "
            "move a run"
        ),
    )
    assert counts(scene.server) == (1, 1, 1)
    assert attributes(row(scene))["model_name"] == "churn-lgbm"


async def test_a_renamed_run_keeps_its_name(scene: TargetScene) -> None:
    await scene.sync(run=BEFORE)
    [run] = scene.server.store.runs.all_live()
    run.row["name"] = "best-of-november"
    scene.server.store.runs.updated(run)
    done = await repair(scene, BEFORE)

    assert done.unchangeable == ("name: people have renamed the run to 'best-of-november'",)
    assert counts(scene.server) == (1, 1, 1)


async def test_an_unreadable_tuning_job_takes_nothing_away(scene: TargetScene) -> None:
    arn = "arn:aws:sagemaker:eu-west-1:123456789012:hyper-parameter-tuning-job/tune-1"
    tuning = TuningJob("tune-1", status="Completed", strategy="Bayesian", metric="auc")
    before = replace(BEFORE, tuning_job_arn=arn, tuning=tuning)
    await scene.sync(run=before)
    stored = copy.deepcopy(row(scene))
    done = await repair(scene, replace(before, tuning=None))

    assert done.changed == ()
    assert done.unchangeable == (
        "description: what SageMaker says of the tuning job cannot be read now",
    )
    assert row(scene) == stored


async def test_duplicates_are_healed_first(scene: TargetScene) -> None:
    synced = await scene.sync(run=BEFORE)
    duplicate(scene.server, synced.ids["run_id"], later_ms=1)
    done = await repair(scene, BEFORE)

    assert done.changed == ("duplicates of the run (1)",)
    assert row(scene)["id"] == synced.ids["run_id"]


@pytest.mark.parametrize("calls_answered", range(9))
async def test_an_interrupted_repair_is_completed_by_the_next(
    scene: TargetScene, calls_answered: int
) -> None:
    """Interrupted after each of its calls in turn; a doubtful one is settled first."""
    await scene.sync(run=BEFORE)
    now = replace(
        BEFORE,
        model_type="LightGBM",
        all_tags={},
        hyperparameters=(Hyperparameter("eta", "0.3", 0.3),),
        metrics=(Metric("train:auc", 0.98),),
        model_location="s3://b/model2.tar.gz",
    )
    updates = [
        "addExperimentRunTags",
        "deleteExperimentRunTags",
        "updateExperimentRunDescription",
        "deleteHyperparameters",
        "logHyperparameters",
        "deleteMetrics",
        "logMetrics",
        "deleteArtifact",
        "logAttributes",
    ]
    # the HTTP client sends a DELETE without an answer again by itself, once
    operation = updates[calls_answered]
    scene.server.faults.lose_next_answers(
        2 if operation.startswith("delete") else 1, operation=operation
    )
    with pytest.raises(EdgeFault):
        await repair(scene, now)
    await repair(scene, now)

    assert scene.settling.slept[-1] == pytest.approx(30.0, abs=5)
    run = row(scene)
    assert run["tags"] == ["sagemaker", "LightGBM"]
    assert "Type: LightGBM" in run["description"]
    assert by_key(run["hyperparameters"]) == {"eta": 0.3, "depth": 5}
    assert by_key(run["metrics"]) == {"train/auc": 0.98, "train/loss": 0.1}
    assert by_key(run["artifacts"])["model_artifact"] == "s3://b/model2.tar.gz"
    assert attributes(run)["model_type"] == "LightGBM"
    assert (await repair(scene, now)).changed == ()


async def test_a_key_that_appears_meanwhile_is_compared_again(scene: TargetScene) -> None:
    await scene.sync(run=BEFORE)
    now = replace(BEFORE, metrics=(*BEFORE.metrics, Metric("test:auc", 0.97)))
    [run] = scene.server.store.runs.all_live()
    real = scene.target._client.log_run_entries
    added: list[str] = []

    async def faster(run_id: str, member: str, entries: Any) -> None:
        if not added:
            added.append(member)
            run.row["metrics"].append({"key": "test/auc", "value": 0.5})
        await real(run_id, member, entries)

    scene.target._client.log_run_entries = faster  # type: ignore[method-assign]
    done = await repair(scene, now)

    assert done.changed == ("metric 'test/auc' (missing)", "metric 'test/auc' (differs)")
    assert by_key(row(scene)["metrics"])["test/auc"] == 0.97


async def test_faults_are_those_of_a_sync(scene: TargetScene) -> None:
    await scene.sync(run=BEFORE)
    scene.server.faults.refuse_next(9, *BARE_500, operation="updateExperimentRunDescription")
    with pytest.raises(JobFault):
        await repair(scene, replace(BEFORE, model_type="LightGBM"))
    scene.server.faults.clear()
    scene.server.faults.refuse_next(1, *CLOSING, operation="updateExperimentRunDescription")
    with pytest.raises(EdgeFault):
        await repair(scene, replace(BEFORE, model_type="LightGBM"))
