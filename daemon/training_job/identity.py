"""Identity of a training job: its ARN together with its creation time, because names can be reused
after a job is deleted.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

JOB_NAME = re.compile(r"(?=.{1,63}\Z)[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
"""The service's own pattern of TrainingJobName and its own limit (botocore's model of
DescribeTrainingJob): the pattern alone takes any number of hyphens."""

_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z0-9-]*):sagemaker:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):training-job/(?P<name>.+)",
    re.IGNORECASE | re.ASCII,
)

_LAST_MILLISECOND = 253_402_300_799_999
"""Of the year 9999, the last that `datetime` supports."""


@dataclass(frozen=True, slots=True)
class JobArn:
    """The parsed ARN of a training job.

    SageMaker has returned the name both in lower case and as it was given, depending on time and
    call (boto3 #4606), so ARNs are compared by `key` only.
    """

    partition: str
    region: str
    account: str
    name: str
    text: str
    """As it was given: ListTags needs the case that DescribeTrainingJob returned."""

    @property
    def key(self) -> str:
        return self.text.lower()

    @property
    def where(self) -> str:
        """``<account>/<region>``."""
        return f"{self.account}/{self.region}"

    @classmethod
    def parse(cls, text: str) -> JobArn:
        """Parses an ARN.

        Raises:
            ValueError: it is not the ARN of a training job.
        """
        found = _ARN.fullmatch(text)
        if found is None or not JOB_NAME.fullmatch(found["name"]):
            raise ValueError(f"not the ARN of a training job: {text[:120]!r}")
        return cls(
            found["partition"].lower(),
            found["region"].lower(),
            found["account"],
            found["name"],
            text,
        )

    @classmethod
    def of(cls, home: Home, name: str) -> JobArn:
        """The ARN of a job in this account and region."""
        return cls.parse(
            f"arn:{home.partition}:sagemaker:{home.region}:{home.account}:training-job/{name}"
        )


@dataclass(frozen=True, slots=True)
class Home:
    """The account and region whose jobs DescribeTrainingJob describes."""

    account: str | None
    """12 digits, possibly with leading zeros; None when neither configured nor known from STS."""
    region: str
    partition: str = "aws"
    confirmed: bool = field(default=False, compare=False)
    """STS has said that the credentials belong to this account."""


@dataclass(frozen=True, slots=True)
class JobMark:
    """The mark: proof of ownership that every target stores. Unique for each job."""

    arn: str
    """In lower case."""
    creation_time: str
    """ISO 8601, UTC, milliseconds: ``2025-11-20T08:40:00.050Z``, from DescribeTrainingJob."""

    @classmethod
    def of(cls, arn: JobArn, creation_time: datetime) -> JobMark:
        return cls(arn.key, iso_milliseconds(creation_time))

    @property
    def job_name(self) -> str:
        """In lower case."""
        return self.arn.rpartition("/")[2]

    @property
    def short_hash(self) -> str:
        """8 hex digits that distinguish two jobs of the same name."""
        return hashlib.sha256(f"{self.arn}\n{self.creation_time}".encode()).hexdigest()[:8]


def iso_milliseconds(moment: datetime) -> str:
    """ISO 8601 text in UTC, rounded to milliseconds (as a float, 1763628000.05 is …049…)."""
    thousandths = min(round(moment.timestamp() * 1000), _LAST_MILLISECOND)
    whole = datetime.fromtimestamp(thousandths // 1000, UTC).replace(
        tzinfo=None, microsecond=thousandths % 1000 * 1000
    )
    return f"{whole.isoformat(timespec='milliseconds')}Z"
