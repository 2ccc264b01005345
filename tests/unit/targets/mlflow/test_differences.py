"""What `sync --force` changes of a run, and what it leaves to people."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from daemon.targets.mlflow.differences import Differences, differences
from daemon.targets.mlflow.entities import MetricPoint, ModelVersion, Run
from daemon.targets.mlflow.mapping import (
    DESCRIPTION_TAG,
    NOTE_TAG,
    NOTES_TAG,
    VERSION_DESCRIPTION_TAG,
    MappedRun,
    distinct_run_name,
    map_run,
)
from daemon.targets.mlflow.marked_runs import ADOPTED_TAG
from daemon.training_job.channels import Channel
from daemon.training_job.hyperparameters import Hyperparameter
from daemon.training_job.metric_series import MetricSeries
from daemon.training_job.tuning_job import TuningJob
from tests.support.target_jobs import CREATED, job

if TYPE_CHECKING:
    from daemon.training_job.training_run import TrainingRun

JOB = job(
    start_time=CREATED,
    end_time=CREATED + timedelta(seconds=90),
    model_location="s3://acme-ml/churn/model.tar.gz",
    channels=(Channel("train", "s3://acme-ml/train", "s3"),),
    non_finite_metrics={"loss": "NaN"},
    all_tags={"team": "growth"},
)
NOTHING = Differences()


def stored_run(mapped: MappedRun, **members: Any) -> Run:
    """A run as MLflow has it after `mapped` was written."""
    latest: dict[str, MetricPoint] = {}
    for point in sorted(mapped.metrics, key=lambda point: (point.step, point.timestamp)):
        latest[point.key] = point
    run = Run(
        id="r1",
        experiment_id="1",
        name=mapped.run_name,
        status=mapped.status,
        start_time=mapped.start_time,
        end_time=mapped.end_time,
        tags={**mapped.tags, "sagemaker_sync_written": "x", "mlflow.runName": mapped.run_name},
        params=mapped.params,
        metrics=latest,
        inputs=mapped.inputs,
    )
    return replace(run, **members)


def stored_version(mapped: MappedRun, **members: Any) -> ModelVersion:
    model = mapped.model
    assert model is not None
    version = ModelVersion(
        model.name, "1", "r1", model.source, model.version_description, model.tags
    )
    return replace(version, **members)


def found(
    now: TrainingRun = JOB,
    *,
    stored: dict[str, Any] | None = None,
    version: dict[str, Any] | None = None,
) -> Differences:
    """The differences of a run that was written of `JOB` and changed since."""
    was = map_run(JOB)
    return differences(
        stored_run(was, **(stored or {})),
        [stored_version(was, **(version or {}))],
        map_run(now),
        now,
    )


def tags_without(*keys: str, **others: str) -> dict[str, str]:
    tags = {key: value for key, value in map_run(JOB).tags.items() if key not in keys}
    return tags | others


def test_a_run_that_is_up_to_date() -> None:
    assert found() == NOTHING
    assert found(stored={"name": distinct_run_name("churn-1", JOB.mark)}) == NOTHING


def test_what_people_added_stays() -> None:
    was = map_run(JOB)
    assert (
        found(
            stored={
                "tags": {**was.tags, "reviewed": "yes", "mlflow.log-model.history": "[]"},
                "params": {**was.params, "people": "1"},
                "metrics": {**stored_run(was).metrics, "f1": MetricPoint("f1", 1.0, 1, 1)},
            }
        )
        == NOTHING
    )


def test_tags() -> None:
    now = replace(JOB, model_type="LightGBM", all_tags={"owner": "x"}, notes=("a note",))
    result = found(now)
    assert result.tags == {
        NOTE_TAG: map_run(now).tags[NOTE_TAG],
        DESCRIPTION_TAG: map_run(now).tags[DESCRIPTION_TAG],
        VERSION_DESCRIPTION_TAG: map_run(now).tags[VERSION_DESCRIPTION_TAG],
        "model_type": "LightGBM",
        "aws_tag/owner": "x",
        NOTES_TAG: "a note",
    }
    assert list(result.tags)[:2] == [NOTE_TAG, DESCRIPTION_TAG]
    assert result.old_tags == ("aws_tag/team",)
    assert result.version_description == (
        stored_version(map_run(JOB)),
        stored_version(map_run(now)).description,
    )
    assert set(result.changed) == {
        "description of the model version (differs)",
        "description (differs)",
        "tag 'model_type' (differs)",
        "tag 'aws_tag/owner' (missing)",
        "tag 'sagemaker_sync_notes' (missing)",
        "tag 'aws_tag/team' (outdated)",
    }
    assert result.unchangeable == ()


def test_the_mark_and_the_version_that_wrote_a_run_stay() -> None:
    stored = {"tags": tags_without(**{"sagemaker.sync_version": "0.0.1"})}
    assert found(stored=stored) == NOTHING


@pytest.mark.parametrize("text", ["people's words", ""])
def test_descriptions_that_people_edited_stay(text: str) -> None:
    result = found(
        replace(JOB, model_type="LightGBM"),
        stored={"tags": tags_without(**{NOTE_TAG: text})},
        version={"description": text},
    )
    assert result.version_description is None
    assert result.tags == {"model_type": "LightGBM"}
    assert result.unchangeable == (
        "description of the model version: edited by people",
        "description: edited by people",
    )


def test_a_repair_that_ended_before_the_hashes_is_completed() -> None:
    old = {DESCRIPTION_TAG: "0" * 16, VERSION_DESCRIPTION_TAG: "1" * 16}
    result = found(stored={"tags": tags_without(**old)})
    assert result.tags.items() >= {key: map_run(JOB).tags[key] for key in old}.items()
    assert (result.version_description, result.changed, result.unchangeable) == (None, (), ())


def test_what_is_known_of_a_tuning_job_is_not_lost() -> None:
    child = replace(
        JOB,
        tuning_job_arn="arn:aws:sagemaker:eu-west-1:123456789012:hyper-parameter-tuning-job/t",
        tuning=TuningJob(name="t", status="InProgress", strategy="Bayesian"),
    )
    was, now = map_run(child), replace(child, tuning=None)
    result = differences(stored_run(was), [stored_version(was)], map_run(now), now)
    assert (result.tags, result.old_tags, result.version_description) == ({}, (), None)
    reason = "what SageMaker says of the tuning job cannot be read now"
    assert result.unchangeable == (
        f"description of the model version: {reason}",
        f"description: {reason}",
    )


def test_params_are_added_and_never_changed() -> None:
    now = replace(
        JOB,
        hyperparameters=(
            Hyperparameter("eta", "[redacted]", "[redacted]"),
            Hyperparameter("depth", "3", 3),
        ),
    )
    result = found(now)
    assert result.params == {"depth": "3"}
    assert result.changed == ("param 'depth' (missing)",)
    assert result.unchangeable == ("param 'eta' (differs): MLflow cannot change a param",)


def test_metrics() -> None:
    time = map_run(JOB).end_time
    auc = MetricPoint("train/auc", 0.99, time, 0)
    now = map_run(JOB).metrics
    assert auc in now
    result = found(stored={"metrics": {}})
    assert {point.key for point in result.metrics} == {"train/auc", "loss"}
    assert set(result.changed) == {"metric 'train/auc' (missing)", "metric 'loss' (missing)"}

    nan = MetricPoint("loss", math.nan, time, 0)
    for stored, metrics, kept in (
        (replace(auc, value=0.5), (auc,), ()),
        (replace(auc, timestamp=time - 1), (auc,), ()),
        (replace(auc, step=7), (), ()),
        (
            replace(auc, step=7, value=0.5),
            (),
            ("metric 'train/auc' (differs): MLflow has a later value",),
        ),
    ):
        result = found(stored={"metrics": {"train/auc": stored, "loss": nan}})
        assert (result.metrics, result.unchangeable) == (metrics, kept)


def test_curves_are_written_whole() -> None:
    now = replace(JOB, metric_series=(MetricSeries("train:auc", (0, 1), (0.5, 0.75)),))
    wanted = map_run(now)
    result = found(now)
    points = [point for point in wanted.metrics if point.key != "loss"]
    assert sorted(result.metrics, key=repr) == sorted(points, key=repr)
    assert differences(stored_run(wanted), [stored_version(wanted)], wanted, now) == NOTHING


def test_data_sets_are_added() -> None:
    now = replace(
        JOB,
        channels=(*JOB.channels, Channel("test", "s3://acme-ml/test", "s3")),
    )
    result = found(now)
    assert [data.name for data in result.inputs] == ["test"]
    assert "data set 'test' (missing)" in result.changed


def test_status_and_times() -> None:
    result = found(stored={"status": "RUNNING", "end_time": None, "start_time": 5, "name": "mine"})
    assert (result.status, result.end_time) == ("FINISHED", map_run(JOB).end_time)
    assert result.changed == ("status (differs)", "end time (differs)")
    assert result.unchangeable == (
        "start time: MLflow sets it only when a run is created",
        "name: people have renamed the run to 'mine'",
    )


def test_model_versions() -> None:
    was = map_run(JOB)
    result = differences(stored_run(was), [], was, JOB)
    assert result == replace(NOTHING, lacks_version=True)

    result = found(version={"name": "other"})
    assert result.unchangeable == (
        "model: the job's is 'churn-xgb', its version is in 'other'; MLflow cannot move a version",
    )
    now = replace(JOB, model_package_arn="arn:aws:sagemaker:eu-west-1:1:model-package/churn/3")
    result = found(now, version={"source": "s3://other/model"})
    assert result.unchangeable == (
        "source of the model version: MLflow sets it only when one is created",
        "tag 'sagemaker.model_package_arn' of the model version: set only when one is created",
    )
    assert result.tags == {"sagemaker.model_package_arn": now.model_package_arn}


def test_a_run_of_sagemakers_own_keeps_what_sagemaker_wrote() -> None:
    tags = tags_without("model_type", DESCRIPTION_TAG, NOTE_TAG, **{"mlflow.user": "sagemaker"})
    result = found(
        stored={
            "tags": tags | {NOTE_TAG: "SageMaker's", ADOPTED_TAG: "true"},
            "params": {},
            "metrics": {},
            "status": "RUNNING",
            "name": "sagemakers-name",
            "start_time": 1,
        },
    )
    assert result == replace(
        NOTHING, tags={"model_type": "XGBoost"}, changed=("tag 'model_type' (missing)",)
    )
