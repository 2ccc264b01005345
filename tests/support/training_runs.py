"""Training runs from recorded or made-up descriptions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from daemon.redaction.keys import SECRET_KEYS
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags, TagKeys, read_tags
from tests.support.aws_vectors import describe, tags

if TYPE_CHECKING:
    from daemon.training_job.training_run import TrainingRun

TAGS = JobTags("churn", "amara.okafor", "Who leaves", "churn-xgb", "XGBoost")


ARN = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/job-1"


MINIMAL: dict[str, Any] = {
    "TrainingJobName": "job-1",
    "TrainingJobArn": ARN,
    "CreationTime": datetime(2025, 11, 20, 8, 40, tzinfo=UTC),
}


def run_of(
    *, redact: tuple[str, ...] = SECRET_KEYS, all_tags: dict[str, str] | None = None, **members: Any
) -> TrainingRun:
    return training_run(DescribedJob.of(MINIMAL | members), TAGS, all_tags or {}, redact)


def run_of_file(file: str, redact: tuple[str, ...] = SECRET_KEYS) -> TrainingRun:
    all_tags = tags("fifty.json")
    found = read_tags(all_tags, TagKeys())
    assert isinstance(found, JobTags)
    return training_run(DescribedJob.of(describe(file)), found, all_tags, redact)


def metric(name: object = "m", value: object = 1.0, second: int | None = None) -> dict[str, Any]:
    given = {"MetricName": name, "Value": value}
    return (
        given
        if second is None
        else given | {"Timestamp": datetime.fromtimestamp(1763628000 + second, UTC)}
    )
