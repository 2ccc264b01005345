from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.config.settings import JobSettings
from daemon.targets.mlflow.entities import MetricPoint
from daemon.targets.mlflow.mapping import (
    ARN_TAG,
    CREATION_TIME_TAG,
    NON_FINITE_TAG,
    NOTE_TAG,
    NOTES_TAG,
    MappedRun,
    distinct_run_name,
    map_run,
)
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.identity import JobMark
from daemon.training_job.metric_series import MetricSeries
from daemon.training_job.metrics import Metric
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags, TagKeys, read_tags
from daemon.training_job.tuning_job import TuningJob
from tests.support.aws_vectors import (
    DescribeVector,
    describe,
    describes,
    parsed_description,
    tags,
)
from tests.support.mlflow_rules import mapped, violations
from tests.support.modeldb_v2_rules import TAGS, channel, metric, run_of
from tests.support.target_jobs import job

if TYPE_CHECKING:
    from daemon.training_job.training_run import TrainingRun

VECTORS = describes()
FIELD = {
    f"{path.stem}-{number}": (description, case["tags"].get(description["TrainingJobName"], {}))
    for path in sorted((Path(__file__).parents[3] / "data" / "field").glob("*.json"))
    for case in [json.loads(path.read_text("utf-8"))]
    for number, description in enumerate(case["describe"], 1)
}
START = datetime(2025, 11, 20, 8, 40, tzinfo=UTC)
START_MS = 1_763_628_000_000
MODEL = "s3://acme-ml/churn/output/model.tar.gz"


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.file)
def test_corpus_breaks_no_rule(vector: DescribeVector) -> None:
    all_tags = tags("fifty.json")
    found = read_tags(all_tags, TagKeys())
    assert isinstance(found, JobTags)
    run = training_run(
        DescribedJob.of(describe(vector.file)),
        found,
        all_tags,
        ("*password*", "*secret*", "*_token", "*api_key*"),
    )
    result = map_run(run)
    assert violations(result) == []
    assert not [secret for secret in vector.never_log if secret in repr(result)]
    assert len([key for key in result.tags if key.startswith("aws_tag/")]) == len(all_tags) == 50
    location = (
        "sagemaker.evaluation_output_uri" if run.is_evaluation else "sagemaker.model_artifact_uri"
    )
    assert result.tags.get(location) == vector.model_location
    wanted = {
        name: value
        for name, value in vector.metrics.items()
        if isinstance(value, float) or value == "NaN"
    }
    if result.tags.get("sagemaker.objective_metric") in wanted:
        wanted.pop("ObjectiveMetric", None)
    assert len({point.key for point in result.metrics}) == len(wanted)
    plumbing = [key for key in result.tags if key.startswith("sdk/")]
    assert len(result.params) + len(plumbing) == len(run.hyperparameters)
    located = [channel for channel in run.channels if channel.uri and not channel.is_code]
    assert [data.context for data in result.inputs] == [channel.name for channel in located]
    assert repr(map_run(run)) == repr(result)  # NaN differs from itself


def field_run(name: str) -> TrainingRun:
    description, all_tags = FIELD[name]
    parsed = parsed_description(json.dumps(description).encode())
    return training_run(DescribedJob.of(parsed), TAGS, all_tags, JobSettings().redact)


@pytest.mark.parametrize("name", FIELD)
def test_jobs_of_the_field_break_no_rule(name: str) -> None:
    run = field_run(name)
    result = map_run(run)
    assert violations(result) == []
    assert (result.run_name, result.mark) == (run.name, run.mark)


def test_names_of_metrics_of_the_field() -> None:
    """Two names that would be one key get a hash, unless one is a key as it is."""
    result = map_run(field_run("10-metric-names-yolo-1"))
    assert [point.key for point in result.metrics] == [
        "metrics/mAP_0.5",
        "metrics/mAP_0.5/0.95_7ca6ca0a",
        "metrics/mAP_0_5",
        "metrics/mAP_0.5/0.95",
        "val/box_loss",
        "metrics/precision_B_d17d3bbf",
        "metrics/precision_B_346df5ae",
        "Lift_candidate_over random",
    ]


def test_a_usual_job_whole() -> None:
    all_tags = tags("full.json")
    found = read_tags(all_tags, TagKeys())
    assert isinstance(found, JobTags)
    result = map_run(
        training_run(DescribedJob.of(describe("xgboost-builtin.json")), found, all_tags, ())
    )
    name = "churn-xgb-2025-11-20-08-40-00-123"
    model = f"s3://acme-ml-eu-west-1/churn/output/{name}/output/model.tar.gz"
    console = (
        f"https://eu-west-1.console.aws.amazon.com/sagemaker/home?region=eu-west-1#/jobs/{name}"
    )
    mark = {
        ARN_TAG: f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{name}",
        CREATION_TIME_TAG: "2025-11-20T08:40:00.050Z",
    }
    assert (result.experiment_name, result.experiment_tags) == (
        "churn",
        {NOTE_TAG: "Predicts which subscribers leave next month", "project_user": "amara.okafor"},
    )
    assert (result.run_name, result.status, result.notes) == (name, "FINISHED", ())
    assert (result.start_time, result.end_time) == (1763628097554, 1763628912020)
    assert result.params == {
        "objective": "binary:logistic",
        "eval_metric": "auc",
        "num_round": "200",
        "eta": "0.1",
        "max_depth": "6",
    }
    assert result.metrics == (
        MetricPoint("train/auc", 0.9412, 1763628860000, 0),
        MetricPoint("validation/auc", 0.9107, 1763628860000, 0),
        MetricPoint("train/error", 0.1123, 1763628861000, 0),
        MetricPoint("validation/error", 0.138, 1763628861000, 0),
    )
    assert [(data.name, data.source_type, data.source, data.context) for data in result.inputs] == [
        (channel, "s3", f'{{"uri": "s3://acme-ml-eu-west-1/churn/{channel}/"}}', channel)
        for channel in ("train", "validation")
    ]
    assert len({data.digest for data in result.inputs}) == 2
    assert list(result.tags)[:2] == list(mark)
    logs = result.tags["sagemaker.logs_url"]
    facts = "\n".join(
        [
            "- **Model:** churn-xgb",
            "- **Type:** XGBoost",
            "- **User:** amara.okafor",
            "- **Status:** Completed",
            "- **Duration:** 13 min 35 s",
            "- **Billed:** 13 min 35 s",
            "- **Instances:** 1 x ml.m5.xlarge",
            f"- **Model location:** {model}",
            f"- **SageMaker:** <{console}>",
            f"- **Logs:** <{logs}>",
        ]
    )
    assert (
        result.tags.items()
        >= {
            **mark,
            NOTE_TAG: facts,
            "mlflow.user": "amara.okafor",
            "mlflow.source.type": "JOB",
            "mlflow.source.name": console,
            "model_name": "churn-xgb",
            "model_type": "XGBoost",
            "project_user": "amara.okafor",
            "sagemaker.status": "Completed",
            "sagemaker.region": "eu-west-1",
            "sagemaker.instance_count": "1",
            "sagemaker.managed_spot": "false",
            "sagemaker.model_artifact_uri": model,
            "sagemaker.objective_metric": "validation:auc",
            "aws_tag/MODEL_DB_SYNC": "true",
            "channel/train": "s3://acme-ml-eu-west-1/churn/train/; source s3; type S3Prefix; "
            "distribution FullyReplicated; content type text/csv",
        }.items()
    )
    assert NOTES_TAG not in result.tags
    version = result.model
    assert version is not None
    assert (version.name, version.source, version.run_link) == ("churn-xgb", model, console)
    assert version.tags == {
        **mark,
        "sagemaker.status": "Completed",
    }
    assert "`model.tar.gz`" in version.version_description
    assert "cannot load this version" in version.version_description
    assert version.version_description.endswith(facts)


@pytest.mark.parametrize(
    ("status", "stored"), [("Completed", "FINISHED"), ("Failed", "FAILED"), ("Stopped", "KILLED")]
)
def test_status_and_who_makes_a_version(status: str, stored: str) -> None:
    result = map_run(job(status=status, model_location=MODEL))
    assert result.status == stored
    assert (result.model is not None) == (status == "Completed")
    assert result.tags["sagemaker.status"] == status


def test_times_of_a_job_that_never_started() -> None:
    run = job(start_time=None, end_time=None, last_modified_time=None)
    result = map_run(run)
    assert result.start_time == result.end_time == START_MS + 50
    result = map_run(replace(run, last_modified_time=START + timedelta(minutes=2)))
    assert result.end_time == START_MS + 120_000


def test_hyperparameters_are_text_and_the_sdks_are_tags() -> None:
    result = mapped(
        HyperParameters={
            "lr": "0.10",
            "optimizer": '"adam"',
            "layers": "[1, 2]",
            "shuffle": "true",
            "seed": "9" * 20,
            "blank": "",
            "model_dir": '"s3://b/m"',
            "_kfold": "3",
            "depth": "3",
            "sagemaker_program": '"train.py"',
            "api_key": "sesame-42",
        }
    )
    assert list(result.params.items()) == [
        ("lr", "0.10"),
        ("optimizer", "adam"),
        ("layers", "[1, 2]"),
        ("shuffle", "true"),
        ("seed", "9" * 20),
        ("blank", ""),
        ("depth", "3"),
        ("api_key", "[redacted]"),
        ("model_dir", "s3://b/m"),
        ("_kfold", "3"),
    ]
    assert result.tags["sdk/sagemaker_program"] == "train.py"
    assert "sesame" not in repr(result)


def test_keys_in_mlflows_alphabet_stay_distinct() -> None:
    result = mapped(
        HyperParameters={
            "lr": "1",
            "Lr": "2",
            "l r": "3",
            "l+r": "4",
            "l@r": "5",
            "a:b": "6",
            "/x//y/": "7",
            "..": "8",
            "..x": "12",
            "größe": "9",
            "学习率": "10",
            "😀": "11",
        }
    )
    values = {value: key for key, value in result.params.items()}
    assert values["1"] == "lr"
    assert values["2"].startswith("Lr_")
    assert values["3"] == "l r"
    assert values["4"].startswith("l_r_")
    assert values["5"].startswith("l_r_")
    assert (values["6"], values["7"]) == ("a/b", "_/x/_/y/_")
    assert (values["9"], values["10"]) == ("größe", "学习率")
    assert values["8"].startswith("_")
    assert values["8"] != values["11"]
    assert values["12"] == "_x"
    assert "hyperparameter 'l+r' written as " + values["4"] in result.tags[NOTES_TAG].split("\n")


def test_values_over_a_limit_are_shortened_and_noted() -> None:
    """SageMaker's own limit for a value is 2,500 characters, which always fits."""
    result = mapped(HyperParameters={"long": "é" * 6001, "fits": "😀" * 2500, "edge": "é" * 6000})
    assert result.params["fits"] == "😀" * 2500
    assert result.params["edge"] == "é" * 6000
    assert result.params["long"].startswith("ééé")
    assert len(result.params["long"]) == 6000
    assert "hyperparameter 'long' of 6001 characters shortened" in result.notes


def test_metrics() -> None:
    given = [
        metric("train:auc", 0.8999999761581421),
        metric("mAP@0.5:0.95", 0.25),
        metric("metrics/precision (B)", 0.5),
        metric("loss", "NaN"),
        metric("gain", float("inf")),
        metric("cost", float("-inf")),
    ]
    result = mapped(FinalMetricDataList=given)
    points = {point.key: point for point in result.metrics}
    assert {key: point.value for key, point in points.items() if not math.isnan(point.value)} == {
        "train/auc": 0.9,
        "mAP_0.5/0.95": 0.25,
        "metrics/precision_B": 0.5,
    }
    assert math.isnan(points["loss"].value)
    assert {point.step for point in result.metrics} == {0}
    assert {point.timestamp for point in result.metrics} == {result.end_time}
    assert result.tags[NON_FINITE_TAG] == "gain=Infinity, cost=-Infinity"
    assert "metric 'gain' is Infinity: only in tag sagemaker.non_finite_metrics" in result.notes


def test_times_of_metrics() -> None:
    run = job(
        metrics=(Metric("a", 1.0, START + timedelta(seconds=7)), Metric("b", 2.0)),
        end_time=START + timedelta(minutes=1),
    )
    assert [point.timestamp for point in map_run(run).metrics] == [
        START_MS + 7000,
        START_MS + 60_000,
    ]
    old = datetime(1969, 1, 1, tzinfo=UTC)
    assert [point.timestamp for point in map_run(replace(run, end_time=old)).metrics] == [
        START_MS + 7000,
        0,
    ]


def _with_curve(final: float | None, **members: Any) -> MappedRun:
    result = map_run(
        job(
            start_time=START,
            end_time=START + timedelta(seconds=10),
            metrics=() if final is None else (Metric("train:auc", final, START),),
            metric_series=(MetricSeries("train:auc", (0, 5, 10), (0.5, 0.75, 0.625)),),
            **members,
        )
    )
    assert violations(result) == []
    return result


CURVE = (
    MetricPoint("train/auc", 0.5, START_MS, 0),
    MetricPoint("train/auc", 0.75, START_MS + 5000, 5),
    MetricPoint("train/auc", 0.625, START_MS + 10_000, 10),
)
LOWEST = MetricPoint("train/auc/min", 0.5, START_MS, 0)
HIGHEST = MetricPoint("train/auc/max", 0.75, START_MS + 5000, 5)


def test_a_curve_has_the_iteration_as_step_and_its_extremes_beside_it() -> None:
    assert _with_curve(None).metrics == (LOWEST, HIGHEST, *CURVE)
    tuning = TuningJob(
        name="t", status=None, strategy=None, metric="train:auc", direction="Maximize",
        best_job=None, is_best_so_far=None,
    )  # fmt: skip
    assert _with_curve(None, tuning=tuning).metrics == (
        replace(HIGHEST, key="train/auc/best"),
        *CURVE,
    )


def test_the_final_value_of_a_curve_is_the_latest() -> None:
    assert _with_curve(0.625).metrics == (LOWEST, HIGHEST, *CURVE)
    final = MetricPoint("train/auc", 0.5, START_MS + 10_001, 10)
    assert _with_curve(0.5).metrics == (final, LOWEST, HIGHEST, *CURVE)


def test_data_sets() -> None:
    source = {
        "FileSystemDataSource": {
            "FileSystemId": "fs-1",
            "FileSystemType": "EFS",
            "DirectoryPath": "/data",
        }
    }
    one, two = (
        mapped(
            InputDataConfig=[
                channel("train", uri),
                {"ChannelName": "files", "DataSource": source},
                {"ChannelName": "lost", "DataSource": {}},
            ]
        )
        for uri in ("s3://b/one", "s3://b/two")
    )
    assert [(data.name, data.source_type, data.source) for data in one.inputs] == [
        ("train", "s3", '{"uri": "s3://b/one"}'),
        ("files", "efs", '{"uri": "efs://fs-1/data"}'),
    ]
    assert "channel 'lost' has no location: left out" in one.notes
    assert one.tags["channel/lost"].startswith("no location")
    assert one.inputs[0].digest != two.inputs[0].digest
    assert one.inputs[1] == two.inputs[1]


def test_code_is_no_data_set() -> None:
    result = mapped(
        InputDataConfig=[channel("code", "s3://b/code"), channel("sm_drivers", "s3://b/drivers")]
    )
    assert result.inputs == ()
    assert result.tags["channel/code"].startswith("code; s3://b/code; ")


@pytest.mark.parametrize(
    ("location", "note"),
    [
        ("https://example.com/model.tar.gz", "it is not in S3"),
        ("s3://bucket", "its URI has no path"),
        ("s3://bucket/", "its URI has no path"),
        (f"s3://bucket/{'x' * 489}", "its URI has more than 500 characters"),
        ("s3://bucket/a/../model.tar.gz", "MLflow refuses its path"),
        ("s3://bucket/a/%252e%252e/b", "MLflow refuses its path"),
        ("s3://bucket/bin/model.tar.gz", "MLflow refuses its path"),
    ],
)
def test_a_location_that_cannot_be_a_source(location: str, note: str) -> None:
    result = map_run(job(model_location=location))
    assert result.model is None
    assert f"model not registered: {note}" in result.tags[NOTES_TAG].split("\n")
    assert result.tags["sagemaker.model_artifact_uri"] == location


def test_a_source_of_500_characters_fits() -> None:
    model = map_run(job(model_location=f"s3://bucket/{'x' * 488}")).model
    assert model is not None
    assert len(model.source) == 500
    assert "SageMaker's output of" in model.version_description


def test_models_are_registered_only_if_wanted() -> None:
    assert map_run(job(model_location=MODEL), register_models=False).model is None
    run = job(model_location=MODEL, serverless_job_type="Evaluation")
    result = map_run(run)
    assert result.model is None
    assert result.tags["sagemaker.evaluation_output_uri"] == MODEL
    assert "sagemaker.model_artifact_uri" not in result.tags
    package = "arn:aws:sagemaker:eu-west-1:123456789012:model-package/churn/3"
    model = map_run(job(model_location=MODEL, model_package_arn=package)).model
    assert model is not None
    assert model.tags["sagemaker.model_package_arn"] == package


def test_names() -> None:
    result = map_run(
        job(project_name="a/b:c", model_name="team/churn:v2", model_location=MODEL),
    )
    assert violations(result) == []
    assert result.experiment_name == "a/b:c"
    model = result.model
    assert model is not None
    assert model.name.startswith("team-churn-v2-")
    assert f"model name 'team/churn:v2' written as {model.name}" in result.notes
    other = map_run(job(model_name="team-churn:v2", model_location=MODEL)).model
    assert other is not None
    assert other.name != model.name
    long = map_run(job(project_name="p" * 300, model_name="m" * 300, model_location=MODEL))
    assert violations(long) == []
    assert len(long.experiment_name) == 256


def test_an_experiment_prefix_that_is_a_path() -> None:
    result = map_run(job(project_name="a/b"), experiment_prefix="/Shared/")
    assert result.experiment_name.startswith("/Shared/a-b-")
    assert map_run(job(project_name="ab"), experiment_prefix="sm-").experiment_name == "sm-ab"


def test_the_second_job_of_a_name() -> None:
    mark = JobMark("arn", "2025-11-20T08:40:00.050Z")
    assert distinct_run_name("job", mark) == f"job-{mark.short_hash}"
    assert len(distinct_run_name("j" * 300, mark)) == 250


def test_a_description_looks_as_its_text() -> None:
    reason = "bad *x* in __init__ of my_file:\n<script>`a` [x](https://evil) &amp; ~~y~~"
    note = map_run(job(failure_reason=reason, status="Failed")).tags[NOTE_TAG]
    assert (
        r"- **Failure:** bad \*x\* in \_\_init\_\_ of my_file: &lt;script>\`a\` "
        r"[x]\(https://evil) &amp;amp; ~\~y~\~"
    ) in note.split("\n")


def test_the_tag_with_notes_fits() -> None:
    result = map_run(job(notes=tuple(f"note {number} {'x' * 90}" for number in range(100))))
    assert violations(result) == []
    assert len(result.notes) == 100
    assert len(result.tags[NOTES_TAG]) == 5000


def test_a_job_with_more_tags_than_one_call_takes() -> None:
    run = run_of(all_tags={f"key {number}": "" for number in range(1200)})
    result = map_run(run)
    assert violations(result) == []
    assert len(result.tags) == 999
    assert any("tags left out: too many" in note for note in result.notes)
