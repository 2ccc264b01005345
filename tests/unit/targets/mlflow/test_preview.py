"""What `sync --dry-run` shows is what `map_run` makes of a job."""

from __future__ import annotations

import json
from datetime import timedelta

from daemon.targets.mlflow.mapping import map_run
from daemon.targets.mlflow.preview import preview
from daemon.training_job.channels import Channel
from daemon.training_job.metric_series import MetricSeries
from tests.support.target_jobs import CREATED, job

RUN = job(
    start_time=CREATED,
    end_time=CREATED + timedelta(seconds=90),
    model_location="s3://acme-ml/churn/model.tar.gz",
    channels=(Channel("train", "s3://acme-ml/train", "s3"),),
    metric_series=(MetricSeries("train:auc", (0, 1), (0.5, 0.75)),),
    non_finite_metrics={"loss": "NaN"},
    notes=("a note",),
)
CONSOLE = "https://eu-west-1.console.aws.amazon.com/sagemaker/home?region=eu-west-1#/jobs/churn-1"


def test_the_tables() -> None:
    shown = {heading: dict(rows) for heading, rows in preview(map_run(RUN)).sections}
    assert shown["experiment"] == {
        "name": "customer-churn",
        "mlflow.note.content": "Who leaves next month",
        "project_user": "amara",
    }
    assert shown["run"] == {
        "name": "churn-1",
        "status": "FINISHED",
        "start_time": "2025-11-20T08:40:00.050Z",
        "end_time": "2025-11-20T08:41:30.050Z",
    }
    assert shown["params"] == {"eta": "0.2"}
    assert shown["metrics"] == {
        "train/auc": "0.99 (3 points)",
        "loss": "NaN",
        "train/auc/min": "0.5",
        "train/auc/max": "0.75",
    }
    assert shown["data sets"] == {"train": '{"uri": "s3://acme-ml/train"} (s3)'}
    version = shown["model version"]
    assert (version["model"], version["source"], version["run_link"]) == (
        "churn-xgb",
        "s3://acme-ml/churn/model.tar.gz",
        CONSOLE,
    )
    assert "cannot load this version" in version["description"]
    assert shown["tags"]["sagemaker_creation_time"] == "2025-11-20T08:40:00.050Z"
    assert shown["notes"] == {"": "a note"}


def test_the_document_is_all_of_it_as_json() -> None:
    mapped = map_run(RUN)
    found = preview(mapped)
    assert found.title == "a run in MLflow"
    document = json.loads(json.dumps(found.document, allow_nan=False))
    assert document["experiment"]["name"] == mapped.experiment_name
    data = document["run"]["data"]
    for name, wanted in (("tags", mapped.tags), ("params", mapped.params)):
        assert {entry["key"]: entry["value"] for entry in data[name]} == wanted
    assert [(each["key"], each["step"]) for each in data["metrics"]] == [
        (point.key, point.step) for point in mapped.metrics
    ]
    assert "NaN" in [each["value"] for each in data["metrics"]]
    [data_set] = document["run"]["inputs"]["dataset_inputs"]
    assert data_set["dataset"]["digest"] == mapped.inputs[0].digest
    assert data_set["tags"] == [{"key": "mlflow.data.context", "value": "train"}]
    assert mapped.model is not None
    assert document["model_version"]["source"] == mapped.model.source
    assert document["notes"] == ["a note"]


def test_sections_without_rows_and_models_that_are_not_registered_are_left_out() -> None:
    found = preview(map_run(job(hyperparameters=(), metrics=())))
    assert [heading for heading, _ in found.sections] == ["experiment", "run", "tags"]
    assert "model_version" not in found.document
