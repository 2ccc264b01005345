"""Terraform itself evaluates the module's policies, and they are those of the CloudFormation
template with the same inputs.

The locals are evaluated in a module of their own, without a provider: what they know from AWS is
put in their place.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.stacks import EXTERNAL, ROOT, Deployer, leave_no_value_out
from tests.support.daemon_process import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS:UserWarning")

MODULE = ROOT / "deploy/terraform"
MEMBERS = ["210987654321", "310987654321"]
ORGANIZATION = "o-0123456789"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
OF_AWS = {
    "data.aws_partition.current.partition": '"aws"',
    "data.aws_region.current.id": f'"{REGION}"',
    "data.aws_caller_identity.current.account_id": f'"{ACCOUNT}"',
    "${path.module}/..": str(ROOT / "deploy"),
}
INPUTS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {}),
    ({"metric_series": True}, {"MetricSeries": "true"}),
    ({"queue_kms_key_arn": KEY}, {"QueueKmsKeyArn": KEY}),
    ({"checkpoint_kind": "dynamodb"}, {"CheckpointKind": "dynamodb"}),
    ({"member_accounts": MEMBERS}, {"MemberAccounts": ",".join(MEMBERS)}),
    (
        {"member_accounts": MEMBERS[:1], "organization_id": ORGANIZATION},
        {"MemberAccounts": MEMBERS[0], "OrganizationId": ORGANIZATION},
    ),
]
"""Of the module, and the template's parameters that mean the same."""


class Terraform:
    """The module's locals as outputs."""

    def __init__(self, program: str, home: Path) -> None:
        self._program = program
        self._home = home
        shutil.copy(MODULE / "variables.tf", home)
        [text] = re.findall(
            r"^locals \{\n.*?^\}\n",
            (MODULE / "permissions.tf").read_text(),
            re.DOTALL | re.MULTILINE,
        )
        for ours, value in OF_AWS.items():
            assert ours in text
            text = text.replace(ours, value)
        outputs = "".join(
            f'output "{name}" {{\n  value = local.{name}\n}}\n'
            for name in ("task_policy", "queue_policy")
        )
        (home / "main.tf").write_text(text + outputs)
        self._run("init", "-input=false")

    def policies(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The policies' documents by the names of their locals."""
        (self._home / "inputs.auto.tfvars.json").write_text(json.dumps(inputs))
        self._run("apply", "-input=false", "-auto-approve")
        outputs = json.loads(self._run("output", "-json"))
        return {name: json.loads(output["value"]) for name, output in outputs.items()}

    def _run(self, *words: str) -> str:
        done = subprocess.run(
            [self._program, *words, "-no-color"],
            cwd=self._home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "CHECKPOINT_DISABLE": "1"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    program = shutil.which("terraform") or shutil.which("tofu")
    if program is None:
        pytest.skip(
            "needs terraform or tofu on PATH: go install github.com/hashicorp/terraform@v1.5.7"
        )
    return Terraform(program, tmp_path_factory.mktemp("terraform"))


@pytest.fixture(scope="module")
def deployer(moto_endpoint: str) -> Iterator[Deployer]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        leave_no_value_out(monkeypatch)
        yield Deployer(moto_endpoint)


def statements(policy: Mapping[str, Any]) -> dict[str, Any]:
    """By name, with lists where one value may stand for itself."""

    def listed(value: Any) -> Any:
        return sorted(value) if isinstance(value, list) else [value]

    return {
        each["Sid"]: {
            **each,
            "Action": listed(each["Action"]),
            "Resource": listed(each["Resource"]),
        }
        for each in policy["Statement"]
    }


@pytest.mark.parametrize(("inputs", "parameters"), INPUTS, ids=str)
def test_the_policies_are_those_of_the_template(
    terraform: Terraform,
    deployer: Deployer,
    inputs: dict[str, Any],
    parameters: dict[str, str],
) -> None:
    stack = deployer.deployed(**EXTERNAL, **parameters)
    ours = terraform.policies(inputs | {"name": stack.name})
    for name, resource in (("task_policy", "TaskPolicy"), ("queue_policy", "QueuePolicy")):
        theirs = stack.resolved(resource)["PolicyDocument"]
        assert ours[name]["Version"] == theirs["Version"]
        assert statements(ours[name]) == statements(theirs)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"member_accounts": ["21098765432"]}, "member_accounts: ids of 12 digits"),
        ({"member_accounts": [*MEMBERS, "*"]}, "member_accounts: ids of 12 digits"),
        ({"organization_id": "r-0123456789"}, "organization_id: o- and 10 to 32"),
    ],
    ids=str,
)
def test_inputs_that_name_no_account_are_refused(
    terraform: Terraform, inputs: dict[str, Any], said: str
) -> None:
    with pytest.raises(AssertionError, match=said):
        terraform.policies(inputs)
