"""The template of a member account, and what the hub's template gives to members."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.aws_calls import MEMBER_ROLES, granted
from tests.deploy.stacks import EXTERNAL, FARGATE, ROOT, Deployer, leave_no_value_out, read_template

if TYPE_CHECKING:
    from collections.abc import Iterator

# moto: of what it does not deploy
pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS:UserWarning")

TEMPLATE = ROOT / "deploy/cloudformation/member-account.yaml"
MEMBERS = ("210987654321", "310987654321")
ACCOUNTS = json.dumps(
    [{"id": each, "role_arn": f"arn:aws:iam::{each}:role/modeldb-sync-member"} for each in MEMBERS]
)


def shipped(path: str) -> Any:
    return json.loads((ROOT / "deploy" / path).read_text(encoding="utf-8"))


def properties(resource: str) -> dict[str, Any]:
    found: dict[str, Any] = read_template(TEMPLATE)["Resources"][resource]["Properties"]
    return found


def as_shipped(part: Any) -> Any:
    """A part of the template with the placeholders of the JSON files beside it."""
    text = re.sub(r'\{"Fn::Sub": ("[^"]*")\}', r"\1", json.dumps(part))
    for here, placeholder in (
        ("${AWS::Partition}", "aws"),
        ("${AWS::AccountId}", "MEMBER"),
        ('{"Ref": "ExternalId"}', '"EXTERNAL_ID"'),
        ('{"Ref": "HubRoleArn"}', '"arn:aws:iam::ACCOUNT:role/modeldb-sync-task"'),
    ):
        text = text.replace(here, placeholder)
    return json.loads(text)


def test_its_linter_has_nothing_to_say() -> None:
    linted = subprocess.run(
        [
            *(sys.executable, "-c", "import cfnlint.runner; cfnlint.runner.main()"),
            *("--include-checks", "I", "W", "E"),
            *("--regions", "eu-west-1", "us-gov-west-1", "cn-north-1"),
            *("--", str(TEMPLATE)),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": "eu-west-1"},
    )
    assert (linted.stdout, linted.returncode) == ("", 0), linted.stderr
    assert "arn:aws:" not in TEMPLATE.read_text(encoding="utf-8")


def test_the_daemon_may_read_what_the_shipped_policy_says_and_nothing_else() -> None:
    role = properties("MemberRole")
    [policy] = role["Policies"]
    assert as_shipped(policy["PolicyDocument"]) == shipped("iam/member-policy.json")
    assert as_shipped(role["AssumeRolePolicyDocument"]) == shipped("iam/member-trust.json")
    assert role["RoleName"] == "modeldb-sync-member"


@pytest.mark.parametrize(
    ("rule", "pattern"),
    [
        ("Rule", "eventbridge/rule-pattern.json"),
        ("TagChangeRule", "eventbridge/tag-change-pattern.json"),
    ],
)
def test_events_go_straight_into_the_queue_of_the_hub(rule: str, pattern: str) -> None:
    ours, theirs = properties(rule)["EventPattern"], shipped(pattern)
    assert {**ours, "detail": None} == {**theirs, "detail": None}
    assert set(ours["detail"]) == set(theirs["detail"])
    [target] = properties(rule)["Targets"]
    assert target["Arn"] == {"Ref": "HubQueueArn"}
    # another account's queue takes them from a role only
    role = properties("EventsRole")
    assert as_shipped(target["RoleArn"]).endswith(f":role/{role['RoleName']}")
    [statement] = role["Policies"][0]["PolicyDocument"]["Statement"]
    assert statement["Action"] == "sqs:SendMessage"
    [trust] = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "events.amazonaws.com"}
    assert set(trust["Condition"]) == {"StringEquals", "ArnLike"}


@pytest.fixture(scope="module")
def deployer(moto_endpoint: str) -> Iterator[Deployer]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        leave_no_value_out(monkeypatch)
        yield Deployer(moto_endpoint)


@pytest.mark.parametrize("organization", ["", "o-0123456789"])
def test_the_queue_of_the_hub_takes_events_from_the_members_and_from_nobody_else(
    deployer: Deployer, organization: str
) -> None:
    stack = deployer.deployed(
        **EXTERNAL, MemberAccounts=",".join(MEMBERS), OrganizationId=organization
    )
    policy = stack.resolved("QueuePolicy")["PolicyDocument"]
    [statement] = [each for each in policy["Statement"] if each["Sid"] == "LetTheMembersSend"]
    assert statement["Principal"] == {"AWS": list(MEMBERS)}
    assert statement["Action"] == "sqs:SendMessage"
    role = properties("EventsRole")["RoleName"]
    assert statement["Condition"]["ArnLike"] == {"aws:PrincipalArn": f"arn:aws:iam::*:role/{role}"}
    wanted = {"aws:PrincipalOrgID": organization} if organization else None
    assert statement["Condition"].get("StringEquals") == wanted


def test_the_hub_may_assume_the_role_of_each_member_and_no_other(deployer: Deployer) -> None:
    stack = deployer.deployed(**EXTERNAL, MemberAccounts=",".join(MEMBERS), OrganizationId="")
    policy = stack.resolved("TaskPolicy")["PolicyDocument"]
    [statement] = [each for each in policy["Statement"] if each["Sid"] == "AssumeTheRolesOfMembers"]
    role = properties("MemberRole")["RoleName"]
    assert statement["Action"] == ["sts:AssumeRole"]
    assert statement["Resource"] == f"arn:aws:iam::*:role/{role}"
    assert statement["Condition"] == {"StringEquals": {"aws:ResourceAccount": list(MEMBERS)}}
    assert granted(shipped("iam/accounts-policy.json")) == {(MEMBER_ROLES, "sts:AssumeRole")}


def test_without_members_nothing_is_given_to_them(deployer: Deployer) -> None:
    stack = deployer.deployed(**EXTERNAL)
    sids = [
        each["Sid"]
        for name in ("QueuePolicy", "TaskPolicy")
        for each in stack.resolved(name)["PolicyDocument"]["Statement"]
    ]
    assert not {"LetTheMembersSend", "AssumeTheRolesOfMembers"} & set(sids)


@pytest.mark.parametrize("accounts", ["[]", ACCOUNTS])
def test_the_task_gets_its_accounts(deployer: Deployer, accounts: str) -> None:
    stack = deployer.deployed(**FARGATE, Accounts=accounts)
    [container] = stack.resolved("TaskDefinition")["ContainerDefinitions"]
    variables = {each["Name"]: each["Value"] for each in container["Environment"]}
    assert variables.get("MODELDB_SYNC_ACCOUNTS", "[]") == accounts
