"""Links into the AWS console, as a browser has to get them."""

from __future__ import annotations

import pytest

from daemon.targets.common_attributes import common_attributes
from tests.support.training_runs import ARN, run_of, run_of_file

NORTH = "https://eu-west-1.console.aws.amazon.com"


def in_partition(partition: str, region: str) -> str:
    return f"arn:{partition}:sagemaker:{region}:123456789012:training-job/job-1"


CHINA = in_partition("aws-cn", "cn-north-1")
GOVCLOUD = in_partition("aws-us-gov", "us-gov-west-1")
ISOLATED = in_partition("aws-iso", "us-iso-east-1")


@pytest.mark.parametrize(
    ("arn", "logs"),
    [
        (
            ARN,
            (
                f"{NORTH}/cloudwatch/home?region=eu-west-1#logsV2:log-groups/log-group/"
                "$252Faws$252Fsagemaker$252FTrainingJobs$3FlogStreamNameFilter$3Djob-1$252F"
            ),
        ),
        (
            CHINA,
            (
                "https://cn-north-1.console.amazonaws.cn/cloudwatch/home?region=cn-north-1"
                "#logsV2:log-groups/log-group/"
                "$252Faws$252Fsagemaker$252FTrainingJobs$3FlogStreamNameFilter$3Djob-1$252F"
            ),
        ),
        (
            GOVCLOUD,
            (
                "https://console.amazonaws-us-gov.com/cloudwatch/home?region=us-gov-west-1"
                "#logsV2:log-groups/log-group/"
                "$252Faws$252Fsagemaker$252FTrainingJobs$3FlogStreamNameFilter$3Djob-1$252F"
            ),
        ),
        (ISOLATED, None),
    ],
)
def test_logs_are_those_of_this_job(arn: str, logs: str | None) -> None:
    assert run_of(TrainingJobArn=arn).logs_url == logs


@pytest.mark.parametrize(
    ("job", "tuning_job", "page"),
    [
        (
            ARN,
            "arn:aws:sagemaker:eu-west-1:123456789012:hyper-parameter-tuning-job/churn-hpo-1",
            f"{NORTH}/sagemaker/home?region=eu-west-1#/hyper-tuning-jobs/churn-hpo-1",
        ),
        (
            CHINA,
            "arn:aws-cn:sagemaker:cn-north-1:123456789012:hyper-parameter-tuning-job/Churn-HPO",
            (
                "https://cn-north-1.console.amazonaws.cn/sagemaker/home?region=cn-north-1"
                "#/hyper-tuning-jobs/Churn-HPO"
            ),
        ),
        (
            GOVCLOUD,
            "arn:aws-us-gov:sagemaker:us-gov-west-1:123456789012:hyper-parameter-tuning-job/h",
            (
                "https://console.amazonaws-us-gov.com/sagemaker/home?region=us-gov-west-1"
                "#/hyper-tuning-jobs/h"
            ),
        ),
        (ISOLATED, "arn:aws-iso:sagemaker:r:123456789012:hyper-parameter-tuning-job/h", None),
        (ARN, None, None),
        (ARN, "churn-hpo-1", None),
        (ARN, "arn:aws:sagemaker:eu-west-1:123456789012:hyper-parameter-tuning-job/a?b#c", None),
        (ARN, ARN, None),
    ],
)
def test_a_tuned_job_links_to_its_tuning_job(
    job: str, tuning_job: str | None, page: str | None
) -> None:
    assert run_of(TrainingJobArn=job, TuningJobArn=tuning_job).tuning_job_url == page


def test_a_tuning_job_gets_its_capitals_back_from_its_child() -> None:
    run = run_of(
        TrainingJobName="Churn-HPO-1-007-abc",
        TrainingJobArn=ARN.replace("job-1", "churn-hpo-1-007-abc"),
        TuningJobArn="arn:aws:sagemaker:eu-west-1:123456789012:hyper-parameter-tuning-job/"
        "churn-hpo-1",
    )
    assert run.tuning_job_url is not None
    assert run.tuning_job_url.endswith("#/hyper-tuning-jobs/Churn-HPO-1")


@pytest.mark.parametrize(
    ("uri", "page"),
    [
        (
            "s3://acme-ml/churn/job-1/output/model.tar.gz",
            "object/acme-ml?region=eu-west-1&prefix=churn/job-1/output/model.tar.gz",
        ),
        ("s3://acme-ml/a/model/", "buckets/acme-ml?region=eu-west-1&prefix=a/model/"),
        (
            "s3://acme.ml/grün & blau/100% sure?#1+2.tar.gz",
            (
                "object/acme.ml?region=eu-west-1"
                "&prefix=gr%C3%BCn%20%26%20blau/100%25%20sure%3F%231%2B2.tar.gz"
            ),
        ),
        ("s3://acme-ml//double", "object/acme-ml?region=eu-west-1&prefix=/double"),
        ("s3://acme-ml/a=b&c", "object/acme-ml?region=eu-west-1&prefix=a%3Db%26c"),
        ("s3://acme-ml", None),
        ("s3://acme-ml/", None),
        ("s3:///key", None),
        ("s3://not a bucket/key", None),
        ("https://acme-ml.s3.amazonaws.com/key", None),
        ("/opt/ml/model", None),
        (None, None),
    ],
)
def test_the_model_is_found_in_the_s3_console(uri: str | None, page: str | None) -> None:
    given = run_of(ModelArtifacts={"S3ModelArtifacts": uri}).model_console_url
    assert given == (None if page is None else f"{NORTH}/s3/{page}")


@pytest.mark.parametrize("uri", ["s3://acme-ml/a/model", "s3://acme-ml/a/model/"])
def test_an_uncompressed_model_is_a_prefix(uri: str) -> None:
    run = run_of(
        ModelArtifacts={"S3ModelArtifacts": uri}, OutputDataConfig={"CompressionType": "NONE"}
    )
    assert run.model_console_url == f"{NORTH}/s3/buckets/acme-ml?region=eu-west-1&prefix=a/model/"


@pytest.mark.parametrize(
    ("arn", "console"),
    [
        (CHINA, "https://cn-north-1.console.amazonaws.cn/s3/object/b-1?region=cn-north-1&prefix=k"),
        (
            GOVCLOUD,
            "https://console.amazonaws-us-gov.com/s3/object/b-1?region=us-gov-west-1&prefix=k",
        ),
        (ISOLATED, None),
    ],
)
def test_models_in_other_partitions(arn: str, console: str | None) -> None:
    run = run_of(TrainingJobArn=arn, ModelArtifacts={"S3ModelArtifacts": "s3://b-1/k"})
    assert run.model_console_url == console


EXECUTION = "arn:aws:sagemaker:eu-west-1:123456789012:pipeline/churn/execution/a1b2c3d4e5f6"
DOMAIN = "arn:aws:sagemaker:eu-west-1:123456789012:domain/d-abc123"


@pytest.mark.parametrize(
    ("tags", "page"),
    [
        (
            {"sagemaker:pipeline-execution-arn": EXECUTION, "sagemaker:domain-arn": DOMAIN},
            (
                "https://studio-d-abc123.studio.eu-west-1.sagemaker.aws"
                "/pipelines/view/churn/executions/a1b2c3d4e5f6/graph"
            ),
        ),
        ({"sagemaker:pipeline-execution-arn": EXECUTION}, None),
        ({"sagemaker:domain-arn": DOMAIN}, None),
        ({"sagemaker:pipeline-execution-arn": EXECUTION, "sagemaker:domain-arn": "d-abc"}, None),
        (
            {
                "sagemaker:pipeline-execution-arn": EXECUTION,
                "sagemaker:domain-arn": f"{DOMAIN}.example.com/",
            },
            None,
        ),
        ({"sagemaker:pipeline-execution-arn": "arn:x", "sagemaker:domain-arn": DOMAIN}, None),
    ],
)
def test_a_pipeline_is_seen_in_studio_where_the_tags_name_its_domain(
    tags: dict[str, str], page: str | None
) -> None:
    assert run_of(all_tags=tags).pipeline_url == page


def test_links_are_attributes_of_every_target() -> None:
    run = run_of_file("hpo-child.json")
    attributes = common_attributes(run)
    for key in ("console_url", "logs_url", "tuning_job_url", "model_console_url"):
        url = attributes[key]
        assert isinstance(url, str)
        assert url == getattr(run, key)
        assert url.startswith(f"{NORTH}/")


@pytest.mark.parametrize(
    ("spot", "training", "billable", "percent"),
    [
        (True, 1000, 300, 70),
        (True, 815, 723, 11),
        (True, 3, 1, 67),
        (True, 100, 100, 0),
        (True, 100, 101, 0),  # rounded seconds
        (True, 100, 0, 100),
        (True, 0, 0, None),
        (True, None, 10, None),
        (True, 10, None, None),
        (False, 1000, 300, None),
        (None, 1000, 300, None),
    ],
)
def test_what_spot_saved(
    *, spot: bool | None, training: int | None, billable: int | None, percent: int | None
) -> None:
    run = run_of(
        EnableManagedSpotTraining=spot,
        TrainingTimeInSeconds=training,
        BillableTimeInSeconds=billable,
    )
    assert run.spot_saving_percent == percent
    assert common_attributes(run)["spot_saving_percent"] == percent


@pytest.mark.parametrize(
    ("job_type", "evaluates"), [("Evaluation", True), ("FineTuning", False), (None, False)]
)
def test_a_job_that_evaluates(job_type: str | None, *, evaluates: bool) -> None:
    serverless = {
        "JobType": job_type,
        "EvaluationType": "BenchmarkEvaluation",
        "EvaluatorArn": "arn:aws:sagemaker:eu-west-1:123456789012:hub-content/h/JsonDoc/j/0.0.1",
    }
    run = run_of(ServerlessJobConfig=serverless)
    assert run.is_evaluation is evaluates
    assert run.evaluation_type == common_attributes(run)["evaluation_type"] == "BenchmarkEvaluation"
    assert (
        run.evaluator_arn == common_attributes(run)["evaluator_arn"] == serverless["EvaluatorArn"]
    )
