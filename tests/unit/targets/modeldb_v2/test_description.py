"""The description of a run in ModelDB V2, as lines and as the one paragraph on its page."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from daemon.targets.modeldb_v2.mapping import map_run
from daemon.training_job.tuning_job import TuningJob
from tests.support.modeldb_v2_rules import mapped, run_of, values, violations

if TYPE_CHECKING:
    from daemon.training_job.training_run import TrainingRun

PARENT = "arn:aws:sagemaker:eu-west-1:123456789012:hyper-parameter-tuning-job/churn-hpo"
EXECUTION = "arn:aws:sagemaker:eu-west-1:123456789012:pipeline/churn-weekly/execution/a1b2c3d4e5f6"


def facts(run: TrainingRun) -> dict[str, str]:
    """The facts as the page shows them, where white space is one space."""
    body = map_run(run).body
    assert violations(body) == []
    description = body["description"]
    paragraph = " ".join(description.split())
    parts = paragraph.split(" · ")
    assert [" ".join(line.split()).removesuffix(" ·") for line in description.split("\n")] == parts
    return dict(part.split(": ", 1) for part in parts)


def facts_of(*, all_tags: dict[str, str] | None = None, **members: Any) -> dict[str, str]:
    return facts(run_of(all_tags=all_tags, **members))


def test_every_part_is_a_line_and_is_set_apart_in_the_paragraph() -> None:
    found = facts_of(
        SecondaryStatus="Completed",
        TrainingTimeInSeconds=61,
        ResourceConfig={"InstanceType": "ml.g5.xlarge", "InstanceCount": 2},
        ModelArtifacts={"S3ModelArtifacts": "s3://b/model.tar.gz"},
    )
    assert list(found) == [
        *("Model", "Type", "User", "Status", "Duration", "Instances", "Model location"),
        *("SageMaker", "Logs"),
    ]
    assert found["Instances"] == "2 x ml.g5.xlarge"
    assert found["Model location"] == "s3://b/model.tar.gz"


def test_the_logs_are_linked() -> None:
    run = run_of()
    assert facts(run)["Logs"] == run.logs_url
    assert "/aws/sagemaker/TrainingJobs" in str(run.logs_url).replace("$252F", "/")
    unknown = run_of(TrainingJobArn="arn:aws-x:sagemaker:x-1:123456789012:training-job/Job-1")
    assert "Logs" not in facts(unknown)


@pytest.mark.parametrize(
    ("spot", "trained", "billed", "shown"),
    [
        (True, 1000, 300, "saved 70%"),
        (True, 1000, 1000, "saved 0%"),
        (True, 1000, 1001, "saved 0%"),
        (True, 1000, 0, "saved 100%"),
        (True, 3, 2, "saved 33%"),
        (True, 1000, None, "yes"),
        (True, None, 300, "yes"),
        (True, 0, 0, "yes"),
        (False, 1000, 300, None),
        (None, 1000, 300, None),
    ],
)
def test_spot_and_what_it_saved(
    *, spot: bool | None, trained: int | None, billed: int | None, shown: str | None
) -> None:
    found = facts_of(
        EnableManagedSpotTraining=spot, TrainingTimeInSeconds=trained, BillableTimeInSeconds=billed
    )
    assert found.get("Spot") == shown


@pytest.mark.parametrize(
    ("tuning", "shown"),
    [
        (None, "churn-hpo"),
        (TuningJob("churn-hpo"), "churn-hpo"),
        (TuningJob("churn-hpo", strategy="Bayesian"), "churn-hpo (Bayesian)"),
        (
            TuningJob("churn-hpo", strategy="Hyperband", metric="auc", is_best_so_far=True),
            "churn-hpo (Hyperband, objective auc, best so far)",
        ),
        (TuningJob("churn-hpo", is_best_so_far=False), "churn-hpo (not the best so far)"),
    ],
)
def test_the_tuning_job_it_belongs_to(tuning: TuningJob | None, shown: str) -> None:
    run = replace(run_of(TuningJobArn=PARENT), tuning=tuning)
    assert facts(run)["Tuning job"] == shown


def test_the_pipeline_and_the_step_it_belongs_to() -> None:
    step = {"sagemaker:pipeline-step-name": "Train"}
    execution = {"sagemaker:pipeline-execution-arn": EXECUTION}
    shown = "churn-weekly (execution a1b2c3d4e5f6, step Train)"
    assert facts_of(all_tags=execution | step)["Pipeline"] == shown
    assert facts_of(all_tags=execution)["Pipeline"] == "churn-weekly (execution a1b2c3d4e5f6)"
    assert facts_of(all_tags=step)["Pipeline"] == "step Train"
    odd = {"sagemaker:pipeline-execution-arn": "arn:of:another:kind"}
    assert facts_of(all_tags=odd)["Pipeline"] == "execution arn:of:another:kind"
    assert "Pipeline" not in facts_of()


def test_a_job_that_a_pipeline_named() -> None:
    name = "pipelines-a1b2c3d4e5f6-TrainChurn-Zx9Yw8Vu7T"
    arn = f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{name}"
    found = facts_of(TrainingJobName=name, TrainingJobArn=arn)
    assert found["Pipeline"] == "execution a1b2c3d4e5f6 (step TrainChurn)"


def test_the_automl_job_it_belongs_to() -> None:
    arn = "arn:aws:sagemaker:eu-west-1:123456789012:automl-job/churn-auto"
    assert facts_of(AutoMLJobArn=arn)["AutoML job"] == "churn-auto"


def test_a_failure_keeps_its_lines_and_stands_before_the_links() -> None:
    result = mapped(TrainingJobStatus="Failed", FailureReason="AlgorithmError:\nExitCode 1")
    assert " · \nFailure: AlgorithmError:\nExitCode 1 · \nSageMaker: " in result.body["description"]


EVALUATION: dict[str, Any] = {
    "ModelArtifacts": {"S3ModelArtifacts": "s3://acme-ml/eval/output/model.tar.gz"},
    "ServerlessJobConfig": {
        "JobType": "Evaluation",
        "EvaluationType": "BenchmarkEvaluation",
        "BaseModelArn": "arn:aws:sagemaker:eu-west-1:aws:hub-content/Hub/Model/text-1b/1.25.0",
        "EvaluatorArn": (
            "arn:aws:sagemaker:eu-west-1:123456789012:hub-content/hub/JsonDoc/judge/0.0.1"
        ),
    },
    "ModelPackageConfig": {
        "SourceModelPackageArn": "arn:aws:sagemaker:eu-west-1:123456789012:model-package/router/3"
    },
}


def test_an_evaluation_is_not_shown_as_a_model() -> None:
    result = mapped(**EVALUATION)
    assert [
        (entry["key"], entry["artifact_type"], entry["path"]) for entry in result.body["artifacts"]
    ] == [("evaluation_output", "BLOB", "s3://acme-ml/eval/output/model.tar.gz")]
    assert result.body["tags"] == ["sagemaker", "XGBoost", "evaluation"]
    attributes = values(result.body["attributes"])
    assert attributes["evaluation_output_uri"] == "s3://acme-ml/eval/output/model.tar.gz"
    assert "evaluation_output_console_url" in attributes
    assert not {"model_artifact_uri", "model_console_url"} & attributes.keys()
    found = facts(run_of(**EVALUATION))
    assert found["Evaluation"] == (
        "BenchmarkEvaluation of model-package/router/3 by hub-content/hub/JsonDoc/judge/0.0.1"
    )
    assert found["Evaluation output"] == "s3://acme-ml/eval/output/model.tar.gz"
    assert "Model location" not in found


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ({}, "type unknown"),
        ({"EvaluationType": "LLMAJEvaluation"}, "LLMAJEvaluation"),
        (
            {"EvaluationType": "CustomScorerEvaluation", "BaseModelArn": "arn:x:hub-content/m"},
            "CustomScorerEvaluation of hub-content/m",
        ),
        (
            {"EvaluationType": "BenchmarkEvaluation", "EvaluatorArn": "judge"},
            "BenchmarkEvaluation by judge",
        ),
    ],
)
def test_what_is_known_of_an_evaluation(config: dict[str, str], shown: str) -> None:
    run = run_of(ServerlessJobConfig={"JobType": "Evaluation", **config})
    assert facts(run)["Evaluation"] == shown
    assert map_run(run).body["artifacts"] == []


def test_a_fine_tuning_is_shown_as_a_model() -> None:
    members = EVALUATION | {"ServerlessJobConfig": {"JobType": "FineTuning"}}
    result = mapped(**members)
    assert [entry["artifact_type"] for entry in result.body["artifacts"]] == ["MODEL"]
    assert "Evaluation" not in facts(run_of(**members))
    assert "evaluation" not in result.body["tags"]


@pytest.mark.parametrize(
    ("secondary", "shown"),
    [
        ("MaxRuntimeExceeded", "Stopped (MaxRuntimeExceeded)"),
        ("Stopped", "Stopped"),
        (None, "Stopped"),
        ("Deleting", "Stopped"),
    ],
)
def test_the_status_says_how_the_job_ended(secondary: str | None, shown: str) -> None:
    assert facts_of(TrainingJobStatus="Stopped", SecondaryStatus=secondary)["Status"] == shown
