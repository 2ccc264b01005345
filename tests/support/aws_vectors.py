"""The AWS vectors in `tests/data/aws`: their indices, and answers parsed as the real client parses
them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.parsers
import botocore.session

from daemon.training_job.identity import Home
from daemon.training_job.tags import TagKeys
from tests.support.json_lines import read_json_lines

DATA = Path(__file__).parents[1] / "data" / "aws"

HOME = Home(account="123456789012", region="eu-west-1", partition="aws")
"""Where the daemon runs, unless a vector says otherwise."""


@dataclass(frozen=True, slots=True)
class EventVector:
    """A body of an SQS message and its expected outcome. See `tests/data/aws/README.md`."""

    file: str
    why: str
    expect: str
    accept: tuple[str, ...]
    body: str
    list_tags: str | None = None
    describe_status: str | None = None
    missing: tuple[str, ...] = ()
    with_statuses: tuple[str, ...] = ()
    expect_with_statuses: str | None = None
    with_tag_keys: TagKeys | None = None
    expect_with_tag_keys: str | None = None
    group: str | None = None
    runs: int | None = None
    home: Home = HOME
    never_log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DescribeVector:
    """A DescribeTrainingJob answer, and the values expected from it."""

    file: str
    about: str
    status: str
    channels: tuple[str, ...]
    metrics: dict[str, float | str]
    """A text where the value is not finite."""
    model_location: str | None
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    never_log: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class ErrorVector:
    """An error answer of SageMaker."""

    file: str
    operation: str
    http_status: int
    code: str
    expect: str
    why: str
    body: bytes


def events() -> list[EventVector]:
    """All event bodies, byte for byte."""
    vectors = []
    for record in _index("events"):
        for name in ("accept", "missing", "with_statuses", "never_log"):
            record[name] = tuple(record.get(name, ()))
        if "home" in record:
            record["home"] = Home(**record["home"])
        if "with_tag_keys" in record:
            record["with_tag_keys"] = TagKeys(**record["with_tag_keys"])
        vectors.append(
            EventVector(body=(DATA / "events" / record["file"]).read_bytes().decode(), **record)
        )
    return vectors


def describes() -> list[DescribeVector]:
    """The answers in `describe`."""
    vectors = []
    for record in _index("describe"):
        for name in ("channels", "never_log"):
            record[name] = tuple(record.get(name, ()))
        vectors.append(DescribeVector(**record))
    return vectors


def completed_without_parent() -> list[str]:
    """The files of completed jobs whose run depends on nothing but description and tags: what is
    said of a tuning job depends on when it is asked.
    """
    return [
        each.file
        for each in describes()
        if each.status == "Completed" and not describe(each.file).get("TuningJobArn")
    ]


def describe_bytes(file: str) -> bytes:
    """A DescribeTrainingJob answer as on the wire."""
    return (DATA / "describe" / file).read_bytes()


def describe(file: str) -> dict[str, Any]:
    """A DescribeTrainingJob answer as botocore's own parser makes it."""
    return parsed_description(describe_bytes(file))


def parsed_description(body: bytes) -> dict[str, Any]:
    """Any DescribeTrainingJob answer as botocore's own parser makes it."""
    return _parsed("DescribeTrainingJob", body)


def in_utc(node: Any) -> Any:
    """An answer that botocore's own parser has made, with its moments in UTC, as the clients of
    `daemon.aws.clients` give them, instead of the local time zone.
    """
    if isinstance(node, datetime):
        return node.astimezone(UTC)
    if isinstance(node, dict):
        return {key: in_utc(value) for key, value in node.items()}
    return [in_utc(item) for item in node] if isinstance(node, list) else node


def tags_bytes(file: str) -> bytes:
    """A page of ListTags as on the wire."""
    return (DATA / "tags" / file).read_bytes()


def tags(file: str) -> dict[str, str]:
    """The tags on one page of ListTags."""
    return {
        tag["Key"]: tag["Value"] for tag in _parsed("ListTags", tags_bytes(file)).get("Tags", [])
    }


def errors() -> list[ErrorVector]:
    """All error answers."""
    return [
        ErrorVector(body=(DATA / "errors" / record["file"]).read_bytes(), **record)
        for record in _index("errors")
    ]


def _index(folder: str) -> list[dict[str, Any]]:
    return read_json_lines(DATA / folder / "index.jsonl")


def _parsed(operation: str, body: bytes) -> dict[str, Any]:
    service = _service()
    answer = {
        "status_code": 200,
        "headers": {"content-type": "application/x-amz-json-1.1"},
        "body": body,
        "context": {},
    }
    parser = botocore.parsers.create_parser(service.resolved_protocol)
    parsed: dict[str, Any] = parser.parse(answer, service.operation_model(operation).output_shape)
    return parsed


@functools.cache
def _service() -> Any:
    return botocore.session.get_session().get_service_model("sagemaker")
