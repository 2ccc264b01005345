"""Whether the job that DescribeTrainingJob describes is the one that a message is about.

DescribeTrainingJob takes a name, which another account also has, and which can be used again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.errors import JobFault, JobRefused
from daemon.reasons import Reason
from daemon.training_job.described_job import DescribedJob

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any

    from daemon.training_job.event import TrainingJobEvent
    from daemon.training_job.identity import JobArn


def described_job(event: TrainingJobEvent, description: Mapping[str, Any]) -> DescribedJob:
    """Raises JobFault if the description has no usable ARN or creation time."""
    try:
        return DescribedJob.of(description)
    except ValueError as error:
        raise JobFault(
            Reason.SAGEMAKER_FAULT, f"DescribeTrainingJob({event.name}): {error}"
        ) from error


def same_job(event: TrainingJobEvent, arn: JobArn, description: Mapping[str, Any]) -> DescribedJob:
    """The described job, which must be the event's.

    Raises:
        JobFault: the description has no usable ARN or creation time.
        JobRefused: the name now belongs to another job, or to one of another account.
    """
    described = described_job(event, description)
    found = described.arn
    if (found.account, found.region) != (arn.account, arn.region):
        raise JobRefused(
            Reason.FOREIGN_ACCOUNT,
            f"{event.name} is described in account {found.account}, {found.region}; the "
            f"event is of {arn.account}, {arn.region}",
        )
    if found.key != arn.key:
        raise JobRefused(
            Reason.JOB_REPLACED,
            f"the event is of {arn.text}, DescribeTrainingJob answers {found.text}",
        )
    created = described.creation_time
    if event.creation_time is not None and not same_creation(event, created):
        raise JobRefused(
            Reason.JOB_REPLACED,
            f"the job named {event.name} was created {created:%Y-%m-%dT%H:%M:%SZ}, the event's "
            f"{event.creation_time:%Y-%m-%dT%H:%M:%SZ}: the name has been used again",
        )
    return described


def same_creation(event: TrainingJobEvent, created: datetime) -> bool:
    """Whether the job can be the event's: events and DescribeTrainingJob differ in rounding."""
    return event.creation_time is None or abs((event.creation_time - created).total_seconds()) < 1
