"""The CloudFormation template, deployed on moto's server, with the properties of each resource as
AWS would see them.

moto creates no queue policies and no alarms from a template and only parts of a service, so these
are resolved (references, conditions) and sent to their API.
"""

from __future__ import annotations

import functools
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import moto.cloudformation.parsing as moto_parsing
from botocore.session import get_session
from botocore.validate import ParamValidator
from moto.cloudformation.models import cloudformation_backends
from moto.cloudformation.utils import yaml_tag_constructor
from yaml import Loader, add_multi_constructor, load

from tests.support.daemon_process import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pytest

_SESSION = get_session()

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "deploy/cloudformation/modeldb-sync.yaml"

FARGATE = {
    "ModelDBUrl": "http://modeldb-proxy:8080/v1",
    "SubnetIds": "subnet-0a1b2c3d",
    "SecurityGroupIds": "sg-0a1b2c3d",
}
"""The shortest list of parameters for a task on Fargate."""
EXTERNAL = {"Compute": "external"}

REGISTRY = f"arn:aws:servicediscovery:{REGION}:{ACCOUNT}:service/srv-0a1b2c3d"
"""What stands for the ARN of the template's service of Cloud Map, as moto makes none of a template
and then refuses its name."""


def template() -> dict[str, Any]:
    """The template with functions in their long form."""
    return read_template(TEMPLATE)


@functools.cache
def read_template(path: Path) -> dict[str, Any]:
    """A template with functions in their long form."""
    add_multi_constructor(
        "!",
        lambda loader, tag, node: yaml_tag_constructor(loader, f"!{tag}", node),
        Loader=_TemplateLoader,
    )
    read: dict[str, Any] = load(path.read_text(encoding="utf-8"), Loader=_TemplateLoader)
    return read


class _TemplateLoader(Loader):
    pass


@functools.cache
def client(service: str, endpoint: str) -> Any:
    """A client of moto's server."""
    return _SESSION.create_client(
        service,
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id="testing",
        aws_secret_access_key="testing-secret",
    )


def as_request(node: Any) -> Any:
    """CloudFormation's members (``LogDriver``) as those of ECS's API (``logDriver``)."""
    if isinstance(node, dict):
        return {key[0].lower() + key[1:]: as_request(value) for key, value in node.items()}
    return [as_request(item) for item in node] if isinstance(node, list) else node


def ecs_objections(operation: str, request: Mapping[str, Any]) -> str:
    """The errors of a request by botocore's model of ECS: unknown members, wrong types, missing
    members.
    """
    shape = _SESSION.get_service_model("ecs").operation_model(operation).input_shape
    assert shape is not None
    return str(ParamValidator().validate(dict(request), shape).generate_report())


def leave_no_value_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes moto leave ``AWS::NoValue`` out of lists, as AWS does."""
    original = moto_parsing.clean_json

    def clean_json(node: Any, resources: Any) -> Any:
        cleaned = original(node, resources)
        return [item for item in cleaned if item is not None] if isinstance(node, list) else cleaned

    monkeypatch.setattr(moto_parsing, "clean_json", clean_json)


@dataclass(frozen=True)
class Stack:
    """A deployed stack."""

    name: str
    outputs: Mapping[str, str]
    resources: Mapping[str, Any]
    """The resources that its conditions let be, as written."""
    _map: Any

    def resolved(self, resource: str) -> dict[str, Any]:
        """The properties of a resource, as AWS would see them."""
        properties: dict[str, Any] = self.evaluated(self.resources[resource]["Properties"])
        return properties

    def evaluated(self, node: Any) -> Any:
        """Any part of the template, with its functions evaluated."""
        return moto_parsing.clean_json(node, self._map)

    def as_shipped(self, part: Any) -> Any:
        """A part of it with the placeholders of the JSON files beside the template: default name,
        REGION, ACCOUNT.
        """
        text = json.dumps(part)
        for here, placeholder in (
            (self.name, "modeldb-sync"),
            (REGION, "REGION"),
            (ACCOUNT, "ACCOUNT"),
        ):
            text = text.replace(here, placeholder)
        return json.loads(text)

    def of_type(self, kind: str) -> Iterator[str]:
        """Names of the resources of one type."""
        return (name for name, resource in self.resources.items() if resource["Type"] == kind)


class Deployer:
    """Deploys the template, under any parameters, to the server at `endpoint`."""

    def __init__(self, endpoint: str) -> None:
        self._client = client("cloudformation", endpoint)
        self._deployed: dict[frozenset[tuple[str, str]], Stack] = {}

    def deployed(self, **parameters: str) -> Stack:
        """A stack with these parameters, made at the first request."""
        key = frozenset(parameters.items())
        if key not in self._deployed:
            self._deployed[key] = self.deploy(**parameters)
        return self._deployed[key]

    def deploy(self, **parameters: str) -> Stack:
        """A new stack, with names of its own, because moto cannot delete a policy that is
        attached.
        """
        name = f"stack-{uuid.uuid4().hex[:8]}"
        parameters = {"Name": name} | parameters
        self._client.create_stack(
            StackName=name,
            TemplateBody=TEMPLATE.read_text(encoding="utf-8").replace(
                "!GetAtt DiscoveryService.Arn", REGISTRY
            ),
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
            Capabilities=["CAPABILITY_IAM"],
        )
        [described] = self._client.describe_stacks(StackName=name)["Stacks"]
        assert described["StackStatus"] == "CREATE_COMPLETE"
        [made] = [
            each
            for each in cloudformation_backends[ACCOUNT][REGION].stacks.values()
            if each.name == name
        ]
        conditions = made.resource_map.lazy_condition_map
        return Stack(
            name=name,
            outputs={output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]},
            resources={
                logical: resource
                for logical, resource in made.template_dict["Resources"].items()
                if "Condition" not in resource or conditions[resource["Condition"]]
            },
            _map=made.resource_map,
        )


def refused_by_rules(parameters: Mapping[str, str]) -> list[str]:
    """What the template's ``Rules`` say of parameters. moto does not evaluate them."""
    read = template()
    values: dict[str, Any] = {
        name: each.get("Default") for name, each in read["Parameters"].items()
    } | dict(parameters)
    refused = []
    for rule in read["Rules"].values():
        if _holds(rule.get("RuleCondition", True), values):
            refused += [
                each["AssertDescription"]
                for each in rule["Assertions"]
                if not _holds(each["Assert"], values)
            ]
    return refused


def _holds(node: Any, values: Mapping[str, Any]) -> Any:
    """The value of a rule function. AWS's documentation, "Rule functions"."""
    match node:
        case {"Ref": name}:
            return values[name]
        case {"Fn::Equals": [one, other]}:
            # CloudFormation compares text, also of numbers
            return str(_holds(one, values)) == str(_holds(other, values))
        case {"Fn::Not": [inner]}:
            return not _holds(inner, values)
        case {"Fn::And": parts}:
            return all(_holds(part, values) for part in parts)
        case {"Fn::Or": parts}:
            return any(_holds(part, values) for part in parts)
        case dict():
            raise NotImplementedError(f"a rule function that the template did not use: {node}")
        case _:
            return node
