"""The address, the service and the header of each managed MLflow."""

from __future__ import annotations

import pytest

from daemon.targets.mlflow.managed import NotAManagedServerError, is_arn, managed_server

SERVER = "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-tracking-server/Team-A"
APP = "arn:aws:sagemaker:us-east-1:123456789012:mlflow-app/app-ABCDEFGH1234"


def test_a_tracking_server() -> None:
    server = managed_server(SERVER)
    assert (server.arn, server.region, server.is_app) == (SERVER, "eu-west-1", False)
    assert server.base_url == "https://eu-west-1.experiments.sagemaker.aws"
    assert server.service == "sagemaker-mlflow"
    assert server.arn_header == "x-mlflow-sm-tracking-server-arn"


def test_an_app() -> None:
    server = managed_server(APP)
    assert (server.arn, server.region, server.is_app) == (APP, "us-east-1", True)
    assert server.base_url == "https://mlflow.sagemaker.us-east-1.app.aws"
    assert server.service == "sagemaker"
    assert server.arn_header == "x-sm-mlflow-app-arn"


def test_the_partition_of_us_government() -> None:
    server = managed_server(
        SERVER.replace("arn:aws", "arn:aws-us-gov").replace("eu-west-1", "us-gov-west-1")
    )
    assert server.base_url == "https://us-gov-west-1.experiments.sagemaker.aws"


@pytest.mark.parametrize("partition", ["aws-cn", "aws-iso", ""])
def test_other_partitions_are_refused(partition: str) -> None:
    with pytest.raises(NotAManagedServerError, match="supported in aws and aws-us-gov"):
        managed_server(SERVER.replace("arn:aws", f"arn:{partition}"))


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:sagemaker:eu-west-1:123456789012:training-job/churn",
        "arn:aws:s3:eu-west-1:123456789012:mlflow-tracking-server/a",
        SERVER.replace("123456789012", "1234"),
        SERVER.replace("eu-west-1", ""),
        SERVER.replace("eu-west-1", "evil.example/"),
        SERVER.replace("Team-A", ""),
        SERVER.replace("Team-A", "Team/A"),
        SERVER + "\n",
        SERVER.replace("/Team-A", ""),
        "arn:",
    ],
)
def test_other_arns_are_refused(arn: str) -> None:
    assert is_arn(arn)
    with pytest.raises(NotAManagedServerError, match="must be the ARN of a SageMaker-managed"):
        managed_server(arn)
