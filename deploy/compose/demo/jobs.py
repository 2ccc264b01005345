"""Plays data scientists and AWS on the AWS emulator: completes a few training jobs, sends their
EventBridge events and exits.

Runs in moto's image, as service ``demo-jobs`` of ``docker-compose.yml``. The endpoint and the
credentials come from the environment (``AWS_ENDPOINT_URL``, ``AWS_REGION``, …). It cannot work on a
real account: only AWS may send events with the source ``aws.sagemaker``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError

ACCOUNT = "123456789012"
"""Moto's own."""
WAIT_SECONDS = 120

FULL_TAGS = {
    "MODEL_DB_SYNC": "true",
    "MODEL_DB_PROJECT_NAME": "customer-churn",
    "MODEL_DB_PROJECT_USER": "amara.okafor",
    "MODEL_DB_PROJECT_DESC": "Which subscribers leave next month",
    "MODEL_DB_MODEL_NAME": "churn-xgboost",
    "MODEL_DB_MODEL_TYPE": "XGBoost",
}
JOBS: dict[str, dict[str, str]] = {
    "churn-xgboost": FULL_TAGS,
    "churn-catboost": FULL_TAGS
    | {"MODEL_DB_MODEL_NAME": "churn-catboost", "MODEL_DB_MODEL_TYPE": "CatBoost"},
    "scratch-nobody-cares": {"team": "growth"},
    "churn-half-tagged": {"MODEL_DB_SYNC": "true", "MODEL_DB_PROJECT_NAME": "customer-churn"},
}
"""Tags by the prefix of the job's name: two jobs to sync, one to skip, one to reject."""


def main() -> None:
    aws = boto3.Session(region_name=os.environ["AWS_REGION"])
    events, sagemaker = (aws.client(service) for service in ("events", "sagemaker"))
    wait_for(sagemaker)
    stamp = datetime.now(UTC).strftime("%Y-%m-%d-%H-%M-%S")
    for beginning, tags in JOBS.items():
        name = f"{beginning}-{stamp}"
        train(sagemaker, name, tags)
        arn = sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobArn"]
        tell(events, name, arn, tags, "InProgress")  # the rule lets only Completed through
        tell(events, name, arn, tags, "Completed")
        tell(events, name, arn, tags, "Completed")  # EventBridge may deliver twice
        print(f"training job {name} has ended")


def wait_for(sagemaker: Any) -> None:  # noqa: ANN401 - boto3 makes its clients at run time
    """Waits until AWS answers.

    Raises:
        SystemExit: no answer within `WAIT_SECONDS`.
    """
    give_up = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            sagemaker.list_training_jobs()
        except BotoCoreError as error:
            if time.monotonic() > give_up:
                sys.exit(f"no answer from {sagemaker.meta.endpoint_url}: {error}")
            time.sleep(0.5)
        else:
            return


def train(sagemaker: Any, name: str, tags: dict[str, str]) -> None:  # noqa: ANN401 - as `wait_for`
    """Creates a training job; moto completes it at once."""
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={
            "TrainingImage": "141502667606.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-xgboost:1.7-1",
            "TrainingInputMode": "File",
        },
        HyperParameters={
            "objective": "binary:logistic",
            "num_round": "200",
            "eta": "0.1",
            "max_depth": "6",
        },
        InputDataConfig=[channel("train"), channel("validation")],
        OutputDataConfig={"S3OutputPath": "s3://acme-ml-eu-west-1/churn/output"},
        ResourceConfig={"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        RoleArn=f"arn:aws:iam::{ACCOUNT}:role/service-role/AmazonSageMaker-ExecutionRole",
        StoppingCondition={"MaxRuntimeInSeconds": 3600},
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
    )


def channel(name: str) -> dict[str, Any]:
    source = {
        "S3DataType": "S3Prefix",
        "S3Uri": f"s3://acme-ml-eu-west-1/churn/{name}/",
        "S3DataDistributionType": "FullyReplicated",
    }
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "ContentType": "text/csv"}


def tell(events: Any, name: str, arn: str, tags: dict[str, str], status: str) -> None:  # noqa: ANN401 - as `wait_for`
    """Puts the state change of a job on the bus.

    Raises:
        SystemExit: EventBridge did not take it.
    """
    detail = {
        "TrainingJobName": name,
        "TrainingJobArn": arn,
        "TrainingJobStatus": status,
        "SecondaryStatus": status,
        "Tags": tags,
    }
    entry = {
        "Source": "aws.sagemaker",
        "DetailType": "SageMaker Training Job State Change",
        "Detail": json.dumps(detail),
        "Resources": [arn],
    }
    answer = events.put_events(Entries=[entry])
    if answer["FailedEntryCount"]:
        sys.exit(f"EventBridge refuses the event of {name}: {answer['Entries']}")


if __name__ == "__main__":
    main()
