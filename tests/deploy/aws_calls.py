"""The AWS calls in the daemon's source code, and the permissions they need."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
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
MEMBER_ROLES = "roles of member accounts"
ANY = "any resource"

WITHOUT_RESOURCE = {"sagemaker:ListTrainingJobs"}
"""Actions that cannot be limited to a resource (service authorization reference)."""

OPERATORS = frozenset({"daemon/aws/dead_letter_queue.py"})
"""Modules that only an operator's verbs use: the daemon has no permission for their calls."""

WITH_ACCOUNTS = frozenset({"daemon/aws/roles.py"})
"""Modules that are used only where `accounts` names roles: their permissions are in a policy of
their own."""

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
        if self.service == "sts":
            return MEMBER_ROLES
        if self.action in WITHOUT_RESOURCE:
            return ANY
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


def operator_calls(sources: Mapping[str, str], services: Iterable[str]) -> list[AwsCall]:
    """The calls that only an operator's verbs make: those of `OPERATORS`, and those of the queue's
    adapter that they make on the dead-letter queue.
    """
    own = aws_calls({file: sources[file] for file in OPERATORS}, services)
    used = {
        node.func.attr
        for file in OPERATORS
        for node in ast.walk(ast.parse(sources[file]))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) == "self._handles"
    }
    adapter = ast.parse(sources["daemon/aws/queue.py"])
    methods = {
        f"SqsQueue.{node.name}": ast.unparse(node)
        for each in adapter.body
        if isinstance(each, ast.ClassDef) and each.name == "SqsQueue"
        for node in each.body
        if isinstance(node, ast.AsyncFunctionDef) and node.name in used
    }
    through = aws_calls(methods, services)
    return own + [replace(each, arguments={**each.arguments, "QueueUrl": ""}) for each in through]


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
        without = set(statement["Action"]) <= WITHOUT_RESOURCE and statement["Resource"] == "*"
        resource = ANY if without else _resource(statement["Resource"])
        found |= {(resource, action) for action in statement["Action"]}
    return found


def _resource(arn: str) -> str:
    _, _, service, region, account, name = [*arn.split(":", 5), *[""] * 5][:6]
    if (service, region, name) == ("iam", "", "role/modeldb-sync-member") and account:
        return MEMBER_ROLES
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
