"""Training jobs of the simulation: the description in SageMaker, the event, and the run that
the target must have at the end.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from daemon.training_job.described_job import DescribedJob
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags, TagKeys, TagsIncomplete, read_tags

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.training_job.training_run import TrainingRun

REGION = "eu-west-1"
ACCOUNT = "123456789012"
MEMBER = "210987654321"
"""Another account, in histories of several."""


@dataclass(frozen=True)
class SimulatedJob:
    """One training job that has ended.

    Attributes:
        created: epoch seconds; together with the name, its identity.
        tags: as ListTags says in the end.
        event_tags: as the event has them; None: none at all.
        seconds: from its creation to its end.
        account: that it belongs to.
    """

    name: str
    created: float
    status: str = "Completed"
    tags: Mapping[str, str] = field(default_factory=dict)
    event_tags: Mapping[str, str] | None = None
    seconds: float = 60.0
    account: str = ACCOUNT

    @property
    def arn(self) -> str:
        return f"arn:aws:sagemaker:{REGION}:{self.account}:training-job/{self.name}"

    @property
    def description(self) -> dict[str, Any]:
        """As botocore parses DescribeTrainingJob's answer."""
        moment = datetime.fromtimestamp(self.created, UTC)
        return {
            "TrainingJobName": self.name,
            "TrainingJobArn": self.arn,
            "TrainingJobStatus": self.status,
            "SecondaryStatus": self.status,
            "CreationTime": moment,
            "TrainingStartTime": moment,
            "TrainingEndTime": datetime.fromtimestamp(self.created + self.seconds, UTC),
            "ModelArtifacts": {"S3ModelArtifacts": f"s3://models/{self.name}/model.tar.gz"},
            "HyperParameters": {"eta": "0.1", "max_depth": "6"},
            "AlgorithmSpecification": {"TrainingImage": "xgboost:1.7", "TrainingInputMode": "File"},
            "InputDataConfig": [_channel("train"), _channel("validation")],
            "FinalMetricDataList": [
                {"MetricName": "train:auc", "Value": 0.9375, "Timestamp": moment},
                {"MetricName": "validation:auc", "Value": 0.875, "Timestamp": moment},
            ],
        }

    @property
    def event(self) -> str:
        """The body of its message."""
        detail: dict[str, Any] = {
            "TrainingJobName": self.name,
            "TrainingJobArn": self.arn,
            "TrainingJobStatus": self.status,
            "CreationTime": round(self.created * 1000),
        }
        if self.event_tags is not None:
            detail["Tags"] = dict(self.event_tags)
        return json.dumps(
            {
                "version": "0",
                "id": "844e2571-85d4-695f-b930-0153b71dcb42",
                "detail-type": "SageMaker Training Job State Change",
                "source": "aws.sagemaker",
                "account": self.account,
                "time": datetime.fromtimestamp(self.created + self.seconds, UTC).strftime(
                    "%Y-%m-%dT%H:%M:%SZ"
                ),
                "region": REGION,
                "resources": [self.arn],
                "detail": detail,
            }
        )

    @property
    def body_by_hand(self) -> str:
        """The body of a message that an operator writes."""
        return json.dumps({"TrainingJobArn": self.arn})

    @property
    def is_half_tagged(self) -> bool:
        """Its only outcome is to be rejected."""
        return self.status == "Completed" and isinstance(
            read_tags(self.tags, TagKeys()), TagsIncomplete
        )

    @property
    def run(self) -> TrainingRun | None:
        """The run that the target must have; None: it must have none."""
        tags = read_tags(self.tags, TagKeys())
        if self.status != "Completed" or not isinstance(tags, JobTags):
            return None
        return training_run(DescribedJob.of(self.description), tags, self.tags, ())


def full_tags(project: str, model: str) -> dict[str, str]:
    """Every tag that a job needs."""
    return {
        "MODEL_DB_SYNC": "true",
        "MODEL_DB_PROJECT_NAME": project,
        "MODEL_DB_PROJECT_USER": "amara.okafor",
        "MODEL_DB_PROJECT_DESC": "Predicts which subscribers leave next month",
        "MODEL_DB_MODEL_NAME": model,
        "MODEL_DB_MODEL_TYPE": "XGBoost",
    }


def _channel(name: str) -> dict[str, Any]:
    return {
        "ChannelName": name,
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://data/{name}"}},
    }
