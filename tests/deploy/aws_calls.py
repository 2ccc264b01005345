"""The AWS calls in the daemon's source code, and the permissions they need."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore import xform_name
from botocore.session import get_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROOT = Path(__file__).parents[2]

QUEUE = "the queue"
DEAD_LETTERS = "the dead-letter queue"
TRAINING_JOBS = "training jobs"
TUNING_JOBS = "tuning jobs"

NO_PERMISSION_NEEDED = {"sts:GetCallerIdentity"}
"""STS API reference, GetCallerIdentity: "No permissions are required"."""


@dataclass(frozen=True)
class AwsCall:
    """A call of a client in the source."""

    service: str
    operation: str
    arguments: Mapping[str, str]
    """Source text by name."""
    where: str

    @property
    def action(self) -> str:
        """Its IAM action. A batch needs that of the single call (SQS developer guide, "Amazon SQS
        API permissions").
        """
        service = self.service.removesuffix("-metrics")  # signed and permitted as sagemaker
        return f"{service}:{self.operation.removesuffix('Batch')}"

    @property
    def resource(self) -> str:
        """The resource that the call is about."""
        if self.service == "sqs":
            return QUEUE if self.arguments.get("QueueUrl") == "self._url" else DEAD_LETTERS
        return TUNING_JOBS if "TuningJob" in self.operation else TRAINING_JOBS


def daemon_sources() -> dict[str, str]:
    """The modules of the program without the demo, which emulates AWS with its own credentials."""
    files = (file for file in (ROOT / "daemon").rglob("*.py") if "demo" not in file.parts)
    return {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files}


def services_opened(source: str) -> set[str]:
    """The services whose clients a module opens: botocore's names among its texts."""
    known = set(get_session().get_available_services())
    constants = (
        node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)
    )
    return {value for value in constants if isinstance(value, str) and value in known}


def aws_calls(sources: Mapping[str, str], services: Iterable[str]) -> list[AwsCall]:
    """Every call of an operation of these services."""
    operations = {
        xform_name(operation): (service, operation)
        for service in services
        for operation in get_session().get_service_model(service).operation_names
    }
    found = []
    for file, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            match node:
                case ast.Call(func=ast.Attribute(attr=name), args=[], keywords=keywords) if (
                    name in operations
                ):
                    arguments = {
                        each.arg: ast.unparse(each.value)
                        for each in keywords
                        if each.arg is not None
                    }
                    found.append(AwsCall(*operations[name], arguments, f"{file}:{node.lineno}"))
    return found


def permissions(calls: Iterable[AwsCall]) -> set[tuple[str, str]]:
    """(resource, action) of each call that needs one."""
    return {
        (call.resource, call.action) for call in calls if call.action not in NO_PERMISSION_NEEDED
    }


def granted(policy: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(resource, action) of a policy that uses the queue names of this project.

    Raises:
        ValueError: a statement that is not one plain Allow on one known resource.
    """
    found = set()
    for statement in policy["Statement"]:
        if statement["Effect"] != "Allow" or set(statement) - {
            "Sid",
            "Effect",
            "Action",
            "Resource",
        }:
            raise ValueError(f"not a plain Allow: {statement}")
        resource = _resource(statement["Resource"])
        found |= {(resource, action) for action in statement["Action"]}
    return found


def _resource(arn: str) -> str:
    _, _, service, region, account, name = arn.split(":", 5)
    if not region or not account:
        raise ValueError(f"not of one region and account: {arn}")
    match service, name:
        case "sqs", str(queue) if queue.endswith("-dead-letters"):
            return DEAD_LETTERS
        case "sqs", str(queue) if "*" not in queue:
            return QUEUE
        case "sagemaker", "training-job/*":
            return TRAINING_JOBS
        case "sagemaker", "hyper-parameter-tuning-job/*":
            return TUNING_JOBS
    raise ValueError(f"not a resource of the daemon's: {arn}")
