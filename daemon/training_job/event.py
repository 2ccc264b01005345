"""Parses the body of an SQS message into a training job event, or says why it is not one.

Accepted forms (AWS: "Automating Amazon SageMaker AI with Amazon EventBridge"; EventBridge user
guide, "Transform input"):

- ``{"detail-type": …, "source": …, "detail": {…}}``: the whole event; replayed from an archive it
  also has ``replay-name``
- ``{"TrainingJobName": …, "TrainingJobArn": …, …}``: only the detail (InputPath ``$.detail``), or
  at least a name or an ARN
- ``{"name": …, "arn": …}``: an InputTransformer with its own member names
- ``{"Type": "Notification", "TopicArn": …, "Message": …}``: one of the above, inside SNS
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from daemon.redaction.beginning import safe_beginning
from daemon.redaction.redactor import without_shapes
from daemon.text import is_plain, one_line
from daemon.training_job.identity import JOB_NAME, JobArn

if TYPE_CHECKING:
    from collections.abc import Mapping

DETAIL_TYPE = "SageMaker Training Job State Change"
SOURCE = "aws.sagemaker"

_DETAIL_LIMIT = 300
_QUOTE_LIMIT = 80
_SEARCHED_LIMIT = 1_000
"""A secret that begins in a quotation is recognised by what follows."""

_WORD = re.compile(r"[A-Za-z]{1,64}")
_ACCOUNT = re.compile(r"[0-9]{12}")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?([eE]\+?[0-9]+)?")
_DATE_AND_TIME = re.compile(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}[T ].+")

_MILLISECONDS_FROM = 1e11
"""Numbers below are seconds (until the year 5138), others milliseconds (since 1973)."""
_EPOCH = datetime.fromtimestamp(0, UTC)

_PARTITIONS = {  # botocore's endpoints.json, regionRegex of each partition but aws
    "cn-": "aws-cn",
    "us-gov-": "aws-us-gov",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "eu-isoe-": "aws-iso-e",
    "us-isof-": "aws-iso-f",
    "eusc-": "aws-eusc",
}


@dataclass(frozen=True, slots=True)
class TrainingJobEvent:
    """A state change of a training job. What the message lacks is looked up in SageMaker."""

    name: str
    """TrainingJobName as given, else the name in the ARN."""
    arn: JobArn | None = None
    """None: the message has neither an ARN nor account and region."""
    status: str | None = None
    """TrainingJobStatus; unknown words are accepted. None: absent."""
    creation_time: datetime | None = None
    """In UTC. None: absent or unreadable."""
    tags: Mapping[str, str] | None = None
    """None: absent, or not as SageMaker writes tags; ListTags is authoritative."""
    event_time: datetime | None = None
    """The envelope's time, in UTC: when the state changed."""
    replayed: bool = False
    """From an EventBridge archive: the event is old, and the job may have been deleted."""
    whole: bool = False
    """The envelope has all that EventBridge gives. False: only a part was sent on, or somebody
    wrote the message."""


@dataclass(frozen=True, slots=True)
class OtherEvent:
    """A valid event that is not about a training job."""

    what: str
    """One line for the log."""


@dataclass(frozen=True, slots=True)
class MalformedBody:
    """Not a known form of event, or contradicts itself."""

    detail: str
    """One line, at most 300 characters, that never quotes hyperparameters or environment."""


class _Malformed(Exception):
    """The body is malformed; the text says why."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)


def parse_event(body: str) -> TrainingJobEvent | OtherEvent | MalformedBody:
    """Parses the body of an SQS message. Never raises, whatever the body is."""
    try:
        document = _object(body, "the body")
        if isinstance(document.get("TopicArn"), str) and isinstance(document.get("Type"), str):
            return _notification(document)
        return _event(document)
    except _Malformed as problem:
        return MalformedBody(one_line(str(problem))[:_DETAIL_LIMIT])


def _notification(document: Mapping[str, Any]) -> TrainingJobEvent | OtherEvent:
    """SNS delivers notifications and confirmation requests, whose link is never followed."""
    if document["Type"] != "Notification":
        return OtherEvent(f"SNS {_shown(document['Type'])}")
    message = document.get("Message")
    if not isinstance(message, str):
        raise _Malformed(f"Message of the SNS notification is {_type(message)}, not text")
    return _event(_object(message, "Message of the SNS notification"))


def _event(document: Mapping[str, Any]) -> TrainingJobEvent | OtherEvent:
    if "detail-type" in document:
        return _envelope(document)
    other = _other_notice(document)
    if other is not None:
        return other
    if "TrainingJobName" in document or "TrainingJobArn" in document:
        return _training_job(document, envelope={})
    name, arn = document.get("name"), document.get("arn")
    if isinstance(arn, str) and ":training-job/" in arn:
        return _training_job({"TrainingJobName": name, "TrainingJobArn": arn}, envelope={})
    members = ", ".join(_shown(member) for member in list(document)[:5]) or "none at all"
    raise _Malformed(
        "not an event: neither detail-type nor TrainingJobName nor TrainingJobArn among its "
        f"members ({members})"
    )


def _envelope(document: Mapping[str, Any]) -> TrainingJobEvent | OtherEvent:
    detail_type, source, detail = (
        document["detail-type"],
        document.get("source"),
        document.get("detail"),
    )
    if not isinstance(detail_type, str) or not isinstance(source, str):
        raise _Malformed(
            f"detail-type is {_type(detail_type)} and source {_type(source)}; both must be text"
        )
    if source != SOURCE:
        return OtherEvent(f"{_shown(detail_type)} from {_shown(source)}")
    if detail_type != DETAIL_TYPE:
        return OtherEvent(_shown(detail_type))
    if not isinstance(detail, dict):
        raise _Malformed(f"detail is {_type(detail)}, not an object")
    return _training_job(detail, document)


def _other_notice(document: Mapping[str, Any]) -> OtherEvent | None:
    """Recognises S3 notifications and the details of other SageMaker events."""
    if "TrainingJobName" in document:
        return None
    other_job = next((member for member in document if member.endswith("JobName")), None)
    # before TrainingJobArn: a debugger's processing job refers to its training job
    if other_job is not None:
        return OtherEvent(f"detail with {_shown(other_job)}")
    if document.get("Event") == "s3:TestEvent":
        return OtherEvent("s3:TestEvent")
    records = document.get("Records")
    first = records[0] if isinstance(records, list) and records else None
    source = first.get("eventSource") if isinstance(first, dict) else None
    return OtherEvent(f"records of {_shown(source)}") if isinstance(source, str) else None


def _training_job(detail: Mapping[str, Any], envelope: Mapping[str, Any]) -> TrainingJobEvent:
    name, arn = _identity(detail, envelope)
    return TrainingJobEvent(
        name=name,
        arn=arn,
        status=_status(detail.get("TrainingJobStatus")),
        creation_time=_time(detail.get("CreationTime")),
        tags=_tags(detail.get("Tags")),
        event_time=_time(envelope.get("time")),
        replayed=envelope.get("replay-name") is not None,
        whole=_is_whole(envelope),
    )


def _is_whole(envelope: Mapping[str, Any]) -> bool:
    words = [envelope.get(member) for member in ("version", "id", "account", "time", "region")]
    return all(isinstance(word, str) and word for word in words) and isinstance(
        envelope.get("resources"), list
    )


def _identity(detail: Mapping[str, Any], envelope: Mapping[str, Any]) -> tuple[str, JobArn | None]:
    """Name and ARN, checked against each other and against account and region."""
    name, arn_text = detail.get("TrainingJobName"), detail.get("TrainingJobArn")
    if name is not None and not (isinstance(name, str) and JOB_NAME.fullmatch(name)):
        raise _Malformed(
            f"TrainingJobName is {_shown(name)}; SageMaker takes 1 to 63 letters, digits and "
            "hyphens"
        )
    if arn_text is None:
        if name is None:
            raise _Malformed("neither TrainingJobName nor TrainingJobArn is given")
        return name, _arn_of(name, envelope)
    try:
        arn = JobArn.parse(arn_text) if isinstance(arn_text, str) and arn_text.isascii() else None
    except ValueError:
        arn = None
    if arn is None:
        raise _Malformed(f"TrainingJobArn is {_shown(arn_text)}, not the ARN of a training job")
    if name is not None and name.lower() != arn.name.lower():
        raise _Malformed(f"TrainingJobName {name} and TrainingJobArn {arn.text} name two jobs")
    for member, value in (("account", arn.account), ("region", arn.region)):
        in_envelope = envelope.get(member)
        if isinstance(in_envelope, str) and in_envelope != value:
            raise _Malformed(
                f"{member} {_shown(in_envelope)} and TrainingJobArn {arn.text} contradict each "
                "other"
            )
    return name or arn.name, arn


def _arn_of(name: str, envelope: Mapping[str, Any]) -> JobArn | None:
    account, region = envelope.get("account"), envelope.get("region")
    if not (
        isinstance(account, str)
        and _ACCOUNT.fullmatch(account)
        and isinstance(region, str)
        and region.isascii()
    ):
        return None
    partition = next(
        (found for prefix, found in _PARTITIONS.items() if region.startswith(prefix)), "aws"
    )
    try:
        return JobArn.parse(f"arn:{partition}:sagemaker:{region}:{account}:training-job/{name}")
    except ValueError:
        return None


def _status(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise _Malformed(f"TrainingJobStatus is {_shown(value)}, not a word")
    return value


def _tags(value: object) -> Mapping[str, str] | None:
    """Tags as a map or a list of {Key, Value}: AWS's documentation and its schema disagree."""
    if isinstance(value, list):
        pairs = [(item.get("Key"), item.get("Value")) for item in value if isinstance(item, dict)]
        if len(pairs) != len(value):
            return None
    elif isinstance(value, dict):
        pairs = list(value.items())
    else:
        return None
    tags = {
        key: text
        for key, text in pairs
        if isinstance(key, str) and isinstance(text, str) and is_plain(key + text)
    }
    return tags if tags and len(tags) == len(pairs) else None


def _time(value: object) -> datetime | None:
    """A time from epoch milliseconds or seconds or ISO 8601 (UTC by default), else None."""
    try:
        if isinstance(value, str):
            return _epoch_time(float(value)) if _NUMBER.fullmatch(value) else _iso_time(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _epoch_time(value)
    except (ValueError, OverflowError):
        return None
    return None


def _epoch_time(value: float) -> datetime:
    return _EPOCH + timedelta(seconds=value / 1000 if abs(value) >= _MILLISECONDS_FROM else value)


def _iso_time(text: str) -> datetime | None:
    if not _DATE_AND_TIME.fullmatch(text):
        return None
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except RecursionError:
        raise _Malformed(f"{what} is nested too deeply: {_quoted(text)}") from None
    # an integer with more digits than Python reads is a plain ValueError
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "a number is too long"
        raise _Malformed(f"{what} is not JSON ({reason}): {_quoted(text)}") from None
    if not isinstance(document, dict):
        raise _Malformed(f"{what} is {_type(document)}, not an object: {_quoted(text)}")
    return document


def _quoted(text: str) -> str:
    """The beginning of an unparsed body, up to the first word that a secret may follow."""
    start = safe_beginning(text, _QUOTE_LIMIT)
    return f"`{one_line(start)}`" + ("" if len(start) == len(text) else " …")


def _shown(value: object) -> str:
    """A value for an error text: text is shortened, other values are shown by their type."""
    if not isinstance(value, str):
        return _type(value)
    return one_line(without_shapes(value[:_SEARCHED_LIMIT])[:_QUOTE_LIMIT])


def _type(value: object) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null")
