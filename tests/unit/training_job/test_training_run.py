"""The training run as a whole, its identity and its status."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from daemon.redaction.keys import SECRET_KEYS
from daemon.targets.common_attributes import common_attributes
from daemon.training_job.described_job import DescribedJob, described_status
from daemon.training_job.run_reader import training_run
from daemon.training_job.training_run import TrainingRun
from tests.support.aws_vectors import describe, describes
from tests.support.training_runs import ARN, MINIMAL, TAGS, run_of, run_of_file

VECTORS = describes()


def test_corpus(subtests: pytest.Subtests) -> None:
    for vector in VECTORS:
        with subtests.test(vector.file):
            run = run_of_file(vector.file)
            assert run.status == vector.status == described_status(describe(vector.file))
            assert tuple(channel.name for channel in run.channels) == vector.channels
            assert {metric.name: metric.value for metric in run.metrics} | dict(
                run.non_finite_metrics
            ) == vector.metrics
            assert run.model_location == vector.model_location
            values = {parameter.key: parameter.value for parameter in run.hyperparameters}
            assert {key: values[key] for key in vector.hyperparameters} == vector.hyperparameters
            assert not [secret for secret in vector.never_log if secret in repr(run)]
            assert run.mark.creation_time == (
                "2025-11-20T08:40:00.000Z"
                if vector.file == "times-integers.json"
                else "2025-11-20T08:40:00.050Z"
            )
            assert run.mark.arn == run.arn.text.lower()


def test_corpus_is_whole() -> None:
    assert len(VECTORS) == 36


def test_everything_of_a_usual_job() -> None:
    run = run_of_file("xgboost-builtin.json")
    assert (run.name, run.region, run.account, run.partition) == (
        "churn-xgb-2025-11-20-08-40-00-123",
        "eu-west-1",
        "123456789012",
        "aws",
    )
    assert (run.project_name, run.project_user, run.model_name, run.model_type) == (
        "churn",
        "amara.okafor",
        "churn-xgb",
        "XGBoost",
    )
    assert run.start_time == datetime(2025, 11, 20, 8, 41, 37, 554_000, tzinfo=UTC)
    assert run.end_time == datetime(2025, 11, 20, 8, 55, 12, 20_000, tzinfo=UTC)
    assert run.creation_time.tzinfo is UTC
    assert (
        run.training_seconds,
        run.billable_seconds,
        run.billable_tokens,
        run.max_runtime_seconds,
    ) == (815, 815, None, 3600)
    assert (run.instances, run.instance_type, run.instance_count, run.volume_gb) == (
        "1 x ml.m5.xlarge",
        "ml.m5.xlarge",
        1,
        30,
    )
    assert (
        run.training_image == "141502667606.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-xgboost:1.7-1"
    )
    assert (run.managed_spot, run.network_isolation, run.inter_container_encryption) == (
        False,
        False,
        False,
    )
    assert (run.output_path, run.output_compression, run.output_kms_key) == (
        "s3://acme-ml-eu-west-1/churn/output",
        "GZIP",
        None,
    )
    assert run.pipeline_step == "TrainChurn"
    assert run.console_url == (
        "https://eu-west-1.console.aws.amazon.com/sagemaker/home?region=eu-west-1#/jobs/"
        "churn-xgb-2025-11-20-08-40-00-123"
    )
    assert [
        (parameter.key, parameter.text, parameter.value) for parameter in run.hyperparameters
    ] == [
        ("objective", "binary:logistic", "binary:logistic"),
        ("eval_metric", "auc", "auc"),
        ("num_round", "200", 200),
        ("eta", "0.1", 0.1),
        ("max_depth", "6", 6),
    ]


def test_minimal_job_tells_nothing_else() -> None:
    run = run_of()
    given = {
        name
        for name in TrainingRun.__dataclass_fields__
        if getattr(run, name) not in (None, "", (), {})
    }
    assert given == {
        *("mark", "arn", "name", "creation_time"),
        *("project_name", "project_user", "project_description", "model_name", "model_type"),
    }


def test_kinds_of_jobs() -> None:
    spot = run_of_file("spot.json")
    assert (spot.managed_spot, spot.billable_seconds, spot.checkpoint_uri) == (
        True,
        723,
        "s3://acme-ml-eu-west-1/churn/checkpoints/spot-1",
    )
    child = run_of_file("pipeline-child.json")
    assert (
        child.experiment_name,
        child.trial_name,
        child.trial_component_name,
        child.experiment_run_name,
    ) == (
        *("churn", "a1b2c3d4e5f6"),
        *("Training", "r-1"),
    )
    assert (child.tensorboard_uri, child.debugger_uri) == (
        "s3://acme-ml-eu-west-1/tb",
        "s3://acme-ml-eu-west-1/debug",
    )
    tuned = run_of_file("hpo-child.json")
    assert (
        tuned.tuning_job_arn
        == "arn:aws:sagemaker:eu-west-1:123456789012:hyper-parameter-tuning-job/"
        "churn-hpo-251120-0840"
    )
    tuned_eta = next(parameter for parameter in tuned.hyperparameters if parameter.key == "eta")
    assert tuned_eta.value == 0.21340000000000003
    package = run_of_file("model-package.json")
    assert (
        package.model_package_arn
        == "arn:aws:sagemaker:eu-west-1:123456789012:model-package/churn/7"
    )
    assert (
        package.source_model_package_arn
        == "arn:aws:sagemaker:eu-west-1:123456789012:model-package/churn/6"
    )
    tuned_model = run_of_file("serverless-fine-tuning.json")
    assert (
        tuned_model.serverless_job_type,
        tuned_model.customization_technique,
        tuned_model.peft,
        tuned_model.sequence_length,
    ) == (
        *("FineTuning", "SFT"),
        *("LORA", "4K"),
    )
    assert (
        tuned_model.mlflow_experiment_id,
        tuned_model.mlflow_run_id,
        tuned_model.billable_tokens,
    ) == (
        "17",
        "9d3f0c6e5b1a4f7d",
        18442301,
    )
    script = run_of_file("script-mode-quoted.json")
    assert (script.program, script.source_code_uri) == (
        "train.py",
        "s3://acme-ml-eu-west-1/churn/source/sourcedir.tar.gz",
    )
    plain = run_of_file("script-mode-unquoted.json")
    assert (plain.program, plain.source_code_uri) == (script.program, script.source_code_uri)


def test_pipeline_is_read_from_the_name_where_tags_do_not_tell() -> None:
    description = describe("pipeline-child.json")
    run = training_run(DescribedJob.of(description), TAGS, {}, ())
    assert (run.pipeline_execution, run.pipeline_step) == ("a1b2c3d4e5f6", "TrainChurn")
    tagged = {
        "sagemaker:pipeline-execution-arn": "arn:x",
        "sagemaker:pipeline-step-name": "TrainTheChurnModel",
    }
    run = training_run(DescribedJob.of(description), TAGS, tagged, ())
    assert (run.pipeline_execution, run.pipeline_step) == ("arn:x", "TrainTheChurnModel")


@pytest.mark.parametrize(
    ("arn", "url"),
    [
        (
            "arn:aws-cn:sagemaker:cn-north-1:123456789012:training-job/job-1",
            "https://cn-north-1.console.amazonaws.cn/",
        ),
        (
            "arn:aws-us-gov:sagemaker:us-gov-west-1:123456789012:training-job/job-1",
            "https://console.amazonaws-us-gov.com/",
        ),
    ],
)
def test_console_of_other_partitions(arn: str, url: str) -> None:
    given = run_of(TrainingJobArn=arn).console_url
    assert given is not None
    assert given.startswith(url)


def test_no_console_is_invented() -> None:
    assert (
        run_of(
            TrainingJobArn="arn:aws-iso:sagemaker:us-iso-east-1:123456789012:training-job/job-1"
        ).console_url
        is None
    )


@pytest.mark.parametrize(
    "change",
    [
        {"TrainingJobName": None},
        {"TrainingJobName": 5},
        {"TrainingJobName": "../x"},
        {"TrainingJobArn": None},
        {"TrainingJobArn": "arn:x"},
        {"TrainingJobArn": ARN.replace("job-1", "job-2")},
        {"CreationTime": None},
        {"CreationTime": 1763628000},
    ],
)
def test_a_job_without_identity_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"description|not the ARN"):
        DescribedJob.of(MINIMAL | change)


def test_identity_keeps_the_described_arn_and_ignores_its_case() -> None:
    job = DescribedJob.of(describe("arn-lower-case.json"))
    assert job.arn.text == (
        "arn:aws:sagemaker:eu-west-1:123456789012:training-job/churn-xgb-mixedcase-01"
    )
    assert run_of_file("arn-lower-case.json").name == "Churn-XGB-MixedCase-01"
    assert job.creation_time.tzinfo is UTC


def test_times_of_any_zone_become_utc() -> None:
    run = run_of(
        CreationTime=datetime(2025, 11, 20, 10, 40, tzinfo=timezone(timedelta(hours=2))),
        TrainingStartTime=datetime(2025, 11, 20, 8, 41),  # noqa: DTZ001 - without a zone: UTC is assumed
        TrainingEndTime=datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
        LastModifiedTime="2025-11-20",
    )
    assert run.creation_time == datetime(2025, 11, 20, 8, 40, tzinfo=UTC)
    assert run.start_time == datetime(2025, 11, 20, 8, 41, tzinfo=UTC)
    assert (run.end_time, run.last_modified_time) == (None, None)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        # half a millisecond up would be the year 10000
        (datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999Z"),
        (datetime(987, 6, 5, tzinfo=UTC), "0987-06-05T00:00:00.000Z"),
        (datetime(2025, 11, 20, 8, 40, 0, 49_999, tzinfo=UTC), "2025-11-20T08:40:00.050Z"),
        (datetime(2025, 11, 20, 8, 40, 59, 999_700, tzinfo=UTC), "2025-11-20T08:41:00.000Z"),
    ],
)
def test_every_creation_time_makes_a_mark_of_one_form(moment: datetime, text: str) -> None:
    assert run_of(CreationTime=moment).mark.creation_time == text


def test_a_name_is_not_longer_than_the_service_allows() -> None:
    longest = f"a{'-' * 61}b"
    run = run_of(TrainingJobName=longest, TrainingJobArn=ARN.replace("job-1", longest))
    assert run.name == longest
    with pytest.raises(ValueError, match="no usable TrainingJobName"):
        run_of(TrainingJobName=f"{longest}b", TrainingJobArn=ARN.replace("job-1", f"{longest}b"))


def test_status_that_is_not_told_is_empty() -> None:
    assert (
        described_status({}) == described_status({"TrainingJobStatus": 4}) == run_of().status == ""
    )


def test_numbers_are_whole_and_exact() -> None:
    given = {"InstanceType": "a", "InstanceCount": True, "VolumeSizeInGB": 30.0}
    run = run_of(
        ResourceConfig=given,
        TrainingTimeInSeconds=1.5,
        BillableTimeInSeconds=2**53 + 1,
        BillableTokenCount=float("inf"),
    )
    assert (
        run.instance_count,
        run.volume_gb,
        run.training_seconds,
        run.billable_seconds,
        run.billable_tokens,
    ) == (
        None,
        30,
        *[None] * 3,
    )


@pytest.mark.parametrize(
    ("count", "stored", "note"),
    [
        (2**53, 2**53, None),
        (2**53 + 1, None, "9007199254740993"),
        (-(2**53) - 1, None, "-9007199254740993"),
        (10**19, None, "10000000000000000000"),
        (10**400, None, "a number of more than 20 digits"),
        (1e300, None, "a number of more than 20 digits"),
        (1.5, None, None),
        (float("inf"), None, None),
        (float("nan"), None, None),
        ("9007199254740993", None, None),
        (True, None, None),
        (None, None, None),
    ],
)
def test_a_number_too_large_to_be_exact_is_noted(
    count: object, stored: int | None, note: str | None
) -> None:
    run = run_of(BillableTokenCount=count)
    assert run.billable_tokens == stored
    assert run.notes == (
        ()
        if note is None
        else (f"BillableTokenCount is {note}, which is too large to be stored exactly: left out",)
    )


def test_limits_plans_and_progress() -> None:
    plan = "arn:aws:sagemaker:eu-west-1:123456789012:training-plan/tp-1"
    attributes = common_attributes(
        run_of(
            StoppingCondition={
                "MaxRuntimeInSeconds": 86400,
                "MaxWaitTimeInSeconds": 90000,
                "MaxPendingTimeInSeconds": 7200,
            },
            RetryStrategy={"MaximumRetryAttempts": 3},
            ResourceConfig={"TrainingPlanArn": plan, "KeepAlivePeriodInSeconds": 600},
            ProfilerConfig={"S3OutputPath": "s3://acme-ml/profile"},
            ServerlessJobConfig={"AcceptEula": True},
            ProgressInfo={
                "CurrentEpoch": 2,
                "MaxEpoch": 3,
                "CurrentStep": 40,
                "TotalStepCountPerEpoch": 100,
            },
        )
    )
    given = {
        "max_runtime_s": 86400,
        "max_wait_s": 90000,
        "max_pending_s": 7200,
        "max_retries": 3,
        "training_plan_arn": plan,
        "keep_alive_s": 600,
        "profiler_uri": "s3://acme-ml/profile",
        "eula_accepted": True,
        "epochs": 2,
        "max_epochs": 3,
        "steps": 40,
        "steps_per_epoch": 100,
    }
    assert {key: attributes[key] for key in given} == given


def test_texts_can_be_stored_anywhere() -> None:
    run = run_of(
        FailureReason="line one\n\tline \u0000two\ud800\x85",
        RoleArn=" ",
        HyperParameters={"a\ud800": "\u0000", "a\u0085": "2"},
        all_tags={"k\u0000": "v\n\ud800"},
    )
    assert run.failure_reason == "line one\n\tline \ufffdtwo\ufffd\ufffd"
    assert run.role_arn is None
    assert [(parameter.key, parameter.text) for parameter in run.hyperparameters] == [
        ("a\ufffd", "\ufffd"),
        ("a\ufffd-2", "2"),
    ]
    assert run.all_tags == {"k": "v \ufffd"}


ODD_VALUES: list[Any] = [
    None,
    True,
    -1,
    1e308,
    float("nan"),
    10**400,
    "",
    "NaN",
    "\ud800\u0000",
    [],
    [None],
    ["x"],
    {},
    {"a": {}},
    b"x",
]


def test_nothing_else_raises_whatever_a_member_is() -> None:
    whole = describe("pipeline-child.json") | {
        "ServerlessJobConfig": {"BaseModelArn": "x"},
        "MlflowConfig": {"MlflowRunName": "x"},
        "MlflowDetails": {"MlflowRunId": "x"},
        "ModelPackageConfig": {"ModelPackageGroupArn": "x"},
        "CheckpointConfig": {"S3Uri": "x"},
        "Environment": {"x_token": "abcd"},
        "FailureReason": "x",
    }

    def changed(value: Any, odd: object) -> list[Any]:
        """Every way to put an odd value into one place of a description."""
        if isinstance(value, dict):
            ways: list[Any] = [{**value, key: odd} for key in value]
            return ways + [
                {**value, key: way} for key, item in value.items() for way in changed(item, odd)
            ]
        if isinstance(value, list) and value:
            return [[odd, *value[1:]]] + [[way, *value[1:]] for way in changed(value[0], odd)]
        return []

    identity = {key: whole[key] for key in ("TrainingJobName", "TrainingJobArn", "CreationTime")}
    tried = 0
    for odd in ODD_VALUES:
        for description in changed(whole, odd):
            repr(
                training_run(DescribedJob.of(description | identity), TAGS, {}, SECRET_KEYS)
            ).encode()
            tried += 1
    assert tried > 1000
