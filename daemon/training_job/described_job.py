"""A description of a training job whose identity has been checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.text import one_line
from daemon.training_job.field_readers import moment, text
from daemon.training_job.identity import JOB_NAME, JobArn, JobMark

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class DescribedJob:
    """A description of a training job whose identity has been checked."""

    description: Mapping[str, Any]
    """DescribeTrainingJob as botocore parses it."""
    name: str
    arn: JobArn
    """As described, in the case that ListTags needs."""
    creation_time: datetime
    """In UTC."""

    @property
    def mark(self) -> JobMark:
        return JobMark.of(self.arn, self.creation_time)

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> DescribedJob:
        """Reads the identity.

        Raises:
            ValueError: TrainingJobName, TrainingJobArn or CreationTime is missing or unusable, or
                name and ARN belong to two jobs.
        """
        name, arn_text = text(description, "TrainingJobName"), text(description, "TrainingJobArn")
        if name is None or not JOB_NAME.fullmatch(name):
            raise ValueError("the description has no usable TrainingJobName")
        if arn_text is None:
            raise ValueError(f"the description of {name} has no TrainingJobArn")
        arn = JobArn.parse(arn_text)
        if arn.name.lower() != name.lower():
            raise ValueError(f"the description of {name} has the ARN of another job: {arn.text}")
        creation_time = moment(description, "CreationTime")
        if creation_time is None:
            raise ValueError(f"the description of {name} has no usable CreationTime")
        return cls(description, name, arn, creation_time)


def described_status(description: Mapping[str, Any]) -> str:
    """TrainingJobStatus; empty when the description has none."""
    return one_line(text(description, "TrainingJobStatus") or "")
