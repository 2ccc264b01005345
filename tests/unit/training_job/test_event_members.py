"""Member names as people write them: an event about a training job in any spelling is understood,
or rejected; never skipped.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.parsed_events import malformed, parsed

NAME = "router-2026-02-02-02-40"
ARN = f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{NAME}"
OTHER_ARN = ARN.replace(NAME, "churn-1")


@pytest.mark.parametrize(
    "member",
    [
        "trainingJobName",
        "trainingjobname",
        "TRAINING_JOB_NAME",
        "training_job_name",
        "training-job-name",
        "Training Job Name",
        "training.job.name",
        "modelTrainingJobName",
        "sagemaker_training_job_name",
        "SageMakerTrainingJobName",
        "trainingJobNameText",
        "detail-TrainingJobName",
    ],
)
@pytest.mark.parametrize(
    ("more", "arn"),
    [
        ({"status": "Completed"}, None),
        ({"arn": ARN}, ARN),
        ({"trainingJobArn": ARN}, ARN),
        ({"training_job_arn": ARN}, ARN),
        ({"jobArn": ARN, "Status": "Completed"}, ARN),
        ({"resources": [ARN]}, ARN),
    ],
)
def test_a_name_in_any_spelling(member: str, more: dict[str, Any], arn: str | None) -> None:
    event = parsed({member: NAME, **more})
    assert event.name == NAME
    assert (event.arn.text if event.arn else None) == arn
    assert not event.whole


@pytest.mark.parametrize("member", ["jobName", "job_name", "JobName", "job-name", "name", "Name"])
@pytest.mark.parametrize("arn", ["arn", "jobArn", "job_arn", "resource", "resourceArn", "id"])
def test_a_job_name_beside_the_arn_of_a_training_job(member: str, arn: str) -> None:
    event = parsed({member: NAME, arn: ARN, "status": "Completed"})
    assert (event.name, event.status) == (NAME, "Completed")
    assert event.arn is not None
    assert event.arn.text == ARN


@pytest.mark.parametrize(
    "document",
    [
        {"trainingJobName": ARN},
        {"training_job": ARN},
        {"TrainingJob": ARN, "status": "Completed"},
        {"resources": [ARN]},
        {"source": "aws.sagemaker", "account": "123456789012", "resources": [ARN]},
        {"arn": ARN, "name": None},
        {"arn": ARN, "trainingJobName": ""},
        {"job": {"name": NAME, "arn": ARN}, "status": "Completed"},
        {"trainingJob": {"trainingJobArn": ARN}},
        [ARN],
        ARN,
    ],
)
def test_the_arn_alone_names_the_job(document: object) -> None:
    event = parsed(document)
    assert event.arn is not None
    assert (event.name, event.arn.text) == (NAME, ARN)


@pytest.mark.parametrize(
    ("member", "value", "status"),
    [
        ("trainingJobStatus", "Completed", "Completed"),
        ("training_job_status", "Failed", "Failed"),
        ("status", "Completed", "Completed"),
        ("Status", "COMPLETED", "Completed"),
        ("jobStatus", "inprogress", "InProgress"),
        ("job_status", "Stopped", "Stopped"),
        ("state", "Completed", "Completed"),
        ("status", "Succeeded", None),
        ("status", 200, None),
        ("trainingJobStatus", "done", None),
        ("TrainingJobStatus", "completed", "Completed"),
        ("TrainingJobStatus", "Pausing", "Pausing"),
        ("statusCode", "Completed", None),
    ],
)
def test_a_status_in_any_spelling_or_none(member: str, value: object, status: str | None) -> None:
    """What is none of SageMaker's words says nothing: DescribeTrainingJob is asked."""
    assert parsed({"trainingJobName": NAME, member: value}).status == status


def test_the_statuses_own_name_comes_before_others() -> None:
    document = {
        "jobName": NAME,
        "jobArn": ARN,
        "status": "Failed",
        "trainingJobStatus": "Completed",
    }
    assert parsed(document).status == "Completed"
    assert (
        parsed({"trainingJobName": NAME, "status": "Failed", "state": "Completed"}).status is None
    )


@pytest.mark.parametrize("member", ["creationTime", "creation_time", "trainingJobCreationTime"])
def test_creation_time_and_tags_in_other_spellings(member: str) -> None:
    event = parsed({"trainingJobName": NAME, member: 1770000000461, "tags": {"a": "1"}})
    assert event.creation_time == datetime(2026, 2, 2, 2, 40, 0, 461000, UTC)
    assert event.tags == {"a": "1"}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"trainingJobName": NAME, "training_job_name": "churn-1"}, [NAME, "churn-1"]),
        ({"modelTrainingJobName": NAME, "baseTrainingJobName": "churn-1"}, [NAME, "churn-1"]),
        ({"TrainingJobName": NAME, "trainingJobName": "churn-1"}, [NAME, "churn-1"]),
        ({"trainingJobName": "churn-1", "arn": ARN}, ["trainingJobName churn-1", ARN]),
        ({"jobName": "churn-1", "jobArn": ARN}, ["jobName churn-1", ARN]),
        ({"trainingJobArn": ARN, "training_job_arn": OTHER_ARN}, [ARN, "different"]),
        ({"arn": ARN, "baseArn": OTHER_ARN}, [f"arn {ARN}", "baseArn"]),
        ({"arns": [ARN, OTHER_ARN]}, [ARN, "different training jobs"]),
        ({"trainingJobName": NAME, "event": {"TrainingJobName": "churn-1"}}, [NAME, "churn-1"]),
        ({"arn": ARN, "event": {"TrainingJobName": "churn-1"}}, [NAME, "churn-1"]),
        ({"trainingJobName": 17}, ["trainingJobName is a number"]),
        ({"trainingJobNames": [NAME]}, ["trainingJobNames is a list"]),
        ({"trainingJobName": "../admin"}, ["trainingJobName is ../admin"]),
        ({"trainingJobName": NAME, "trainingJobArn": "arn:x"}, ["trainingJobArn is arn:x"]),
        ({"trainingJobName": None}, ["trainingJobName", "not an event"]),
        ({"jobName": NAME, "status": "Completed"}, ["jobName", "not an event"]),
        ({"text": f"Job {ARN} has completed"}, ["mentioned in text"]),
        ({"about": {"jobs": [{"model": ARN}]}}, ["mentioned in about.jobs[0].model"]),
        ({"about": {"trainingJobName": 1}}, ["mentioned in about.trainingJobName"]),
    ],
)
def test_what_does_not_say_which_job_is_rejected_with_its_members(
    document: object, words: list[str]
) -> None:
    detail = malformed(document)
    assert not [word for word in words if word not in detail], detail


def test_members_that_sagemaker_adds_to_its_events_do_not_make_them_ambiguous() -> None:
    event = parsed(
        {
            "TrainingJobName": NAME,
            "TrainingJobArn": ARN,
            "ParentTrainingJobName": "churn-1",
            "ParentTrainingJobArn": OTHER_ARN,
        }
    )
    assert event.name == NAME


@pytest.mark.parametrize(
    ("document", "account"),
    [
        ({"trainingJobName": NAME, "account": "210987654321", "region": "us-east-1"}, True),
        (
            {
                "detail": {"TrainingJobName": NAME},
                "accountId": "210987654321",
                "region": "us-east-1",
            },
            True,
        ),
        ({"trainingJobName": NAME, "account": "staging", "region": "Europe"}, False),
        ({"trainingJobName": NAME, "account": "210987654321"}, False),
    ],
)
def test_account_and_region_beside_a_name_make_its_arn(
    document: dict[str, Any],
    account: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """So that a job of another account is not taken for one's own of the same name."""
    arn = parsed(document).arn
    expected = f"arn:aws:sagemaker:us-east-1:210987654321:training-job/{NAME}"
    assert (arn.text if arn else None) == (expected if account else None)
