"""The Terraform module makes what the CloudFormation template makes without its task, and its
inputs are named alike.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import hcl2
import pytest

from tests.deploy.stacks import ROOT, template

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MODULE = ROOT / "deploy/terraform"
FILES = sorted(MODULE.glob("*.tf"))

OF_THE_TASK = {
    "AssignPublicIp",
    "BacklogPerTask",
    "CloudMapNamespaceId",
    "ClusterName",
    "Accounts",
    "Compute",
    "Cpu",
    "CpuArchitecture",
    "DesiredCount",
    "EcrRepositoryArn",
    "Image",
    "LogRetentionDays",
    "MaxCount",
    "Memory",
    "MlflowRegisterModels",
    "ModelDBUrl",
    "SecurityGroupIds",
    "SubnetIds",
    "TargetAuth",
    "TargetKind",
    "TargetSecretArn",
    "TargetSecretKmsKeyArn",
}
"""Parameters of the template for the task on Fargate, which the module does not make."""
OWN = {"tags"}
"""What CloudFormation gives to every resource of a stack by itself."""


def plain(value: Any) -> Any:
    """A value without the quotes that the parser keeps around text."""
    if isinstance(value, str) and re.fullmatch(r'"(?:[^"\\]|\\.)*"', value):
        return json.loads(value)
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {plain(key): plain(each) for key, each in value.items() if key != "__is_block__"}
    return value


@functools.cache
def parsed() -> list[dict[str, Any]]:
    return [plain(hcl2.loads(file.read_text(encoding="utf-8"))) for file in FILES]


def blocks(kind: str) -> Iterator[dict[str, Any]]:
    for file in parsed():
        yield from file.get(kind, [])


def variables() -> dict[str, dict[str, Any]]:
    return {name: body for block in blocks("variable") for name, body in block.items()}


def resources(kind: str) -> dict[str, dict[str, Any]]:
    found = (block[kind] for block in blocks("resource") if kind in block)
    return {name: body for block in found for name, body in block.items()}


def local_values() -> dict[str, Any]:
    return {name: value for block in blocks("locals") for name, value in block.items()}


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def properties(logical_id: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = template()["Resources"][logical_id]["Properties"]
    return found


@pytest.mark.skipif(shutil.which("hclfmt") is None, reason="needs hclfmt")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_is_formatted(file: Path) -> None:
    checked = subprocess.run(["hclfmt", str(file)], capture_output=True, text=True, check=True)
    assert checked.stdout == file.read_text(encoding="utf-8")


def test_inputs_are_the_parameters_of_the_template() -> None:
    parameters = set(template()["Parameters"]) - OF_THE_TASK
    assert {*map(snake_case, parameters), *OWN} == set(variables())


@pytest.mark.parametrize("parameter", sorted(set(template()["Parameters"]) - OF_THE_TASK))
def test_an_input_has_the_default_of_its_parameter(parameter: str) -> None:
    ours = variables()[snake_case(parameter)]
    theirs = template()["Parameters"][parameter]["Default"]
    if isinstance(ours["default"], bool):
        theirs = {"true": True, "false": False}[theirs]
    elif isinstance(ours["default"], list):
        theirs = [each for each in theirs.split(",") if each]
    assert ours["default"] == theirs
    assert ours["description"]


def test_each_pattern_of_a_parameter_is_that_of_its_input() -> None:
    for name, parameter in template()["Parameters"].items():
        pattern = parameter.get("AllowedPattern")
        # those of the tags and of lists are for the template's own text
        if (
            name in OF_THE_TASK
            or pattern is None
            or name.startswith("Tag")
            or name in {"JobStatuses", "MemberAccounts"}
        ):
            continue
        if name == "MlflowTrackingUri":  # a URL needs no permission
            pattern = pattern.replace("https?://[^\\s?#@]+|", "")
        [validation] = variables()[snake_case(name)]["validation"]
        assert pattern.replace("\\", "\\\\") in validation["condition"], name


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("queue", "Queue"),
        ("dead_letters", "DeadLetterQueue"),
        ("undelivered_events", "UndeliveredEventsQueue"),
    ],
)
def test_queues_are_those_of_the_template(ours: str, theirs: str) -> None:
    queue, wanted = resources("aws_sqs_queue")[ours], properties(theirs)
    assert queue.get("visibility_timeout_seconds") == wanted.get("VisibilityTimeout")
    assert queue["message_retention_seconds"] == wanted["MessageRetentionPeriod"]
    name = wanted["QueueName"]
    name = "${Name}" if name == {"Ref": "Name"} else name["Fn::Sub"]
    assert queue["name"] == name.replace("${Name}", "${var.name}")
    if "RedrivePolicy" in wanted:
        most = wanted["RedrivePolicy"]["maxReceiveCount"]
        assert f"maxReceiveCount = {most}}}" in queue["redrive_policy"]
    else:
        permission = wanted["RedriveAllowPolicy"]["redrivePermission"]
        assert f'redrivePermission = "{permission}"' in queue["redrive_allow_policy"]


def test_policies_are_the_shipped_files() -> None:
    files = local_values()["files"]
    assert set(files.values()) == {
        "iam/task-policy.json",
        "iam/accounts-policy.json",
        "iam/dynamodb-policy.json",
        "iam/mlflow-app-policy.json",
        "iam/mlflow-tracking-server-policy.json",
        "eventbridge/queue-policy.json",
    }
    assert all((MODULE.parent / file).is_file() for file in files.values())
    policies = resources("aws_sqs_queue_policy")
    assert policies["queue"]["policy"] == "${local.queue_policy}"
    assert "local.documents.queue.Statement" in local_values()["queue_statements"]
    assert "local.documents.queue" in policies["undelivered_events"]["policy"]
    assert 'statement.Sid == "OnlyWithTls"' in policies["dead_letters"]["policy"]
    assert resources("aws_iam_policy")["task"]["policy"] == "${local.task_policy}"


def test_what_stands_for_the_place_is_in_the_shipped_files() -> None:
    placed = local_values()["documents"]
    replaced = re.findall(r'"(arn:aws:|REGION|ACCOUNT|modeldb-sync)"', placed)
    assert replaced == ["arn:aws:", "REGION", "ACCOUNT", "modeldb-sync"]
    for file in local_values()["files"].values():
        text = (MODULE.parent / file).read_text(encoding="utf-8")
        for word in ["REGION", "ACCOUNT"]:
            text = text.replace(word, "")
        # NAME and ID of a managed MLflow: its whole ARN is an input; MEMBER: the accounts are one
        assert set(re.findall(r"\b[A-Z]{2,}\b", text)) <= {"NAME", "ID", "MEMBER"}, file


def test_the_table_is_that_of_the_template() -> None:
    ours, theirs = resources("aws_dynamodb_table")["checkpoint"], properties("CheckpointTable")
    assert ours["billing_mode"] == theirs["BillingMode"]
    keys = [key["AttributeName"] for key in theirs["KeySchema"]]
    assert [ours["hash_key"], ours["range_key"]] == keys
    dynamic = {name: body for block in ours["dynamic"] for name, body in block.items()}
    assert dynamic["attribute"]["for_each"] == {
        each["AttributeName"]: each["AttributeType"] for each in theirs["AttributeDefinitions"]
    }
    indexes = theirs["GlobalSecondaryIndexes"]
    hash_keys = {each["IndexName"]: each["KeySchema"][0]["AttributeName"] for each in indexes}
    assert dynamic["global_secondary_index"]["for_each"] == hash_keys
    [index] = dynamic["global_secondary_index"]["content"]
    for each in indexes:
        assert index["range_key"] == each["KeySchema"][1]["AttributeName"]
        assert index["projection_type"] == each["Projection"]["ProjectionType"]
        assert index["non_key_attributes"] == each["Projection"]["NonKeyAttributes"]
    [ttl] = ours["ttl"]
    assert ttl["attribute_name"] == theirs["TimeToLiveSpecification"]["AttributeName"]
    assert ours["deletion_protection_enabled"]
    assert ours["point_in_time_recovery"] == [{"enabled": True}]


def conditional_statement(policy: str, condition: str) -> Mapping[str, Any]:
    [found] = [
        each["Fn::If"][1]
        for each in properties(policy)["PolicyDocument"]["Statement"]
        if "Fn::If" in each and each["Fn::If"][0] == condition
    ]
    statement: Mapping[str, Any] = found
    return statement


def test_the_statement_of_the_key_is_that_of_the_template() -> None:
    theirs = conditional_statement("TaskPolicy", "HasQueueKey")
    ours = local_values()["key_statements"]
    assert f'Sid = "{theirs["Sid"]}"' in ours
    assert f"Action = {json.dumps(theirs['Action'])}" in ours


def test_the_statements_of_other_accounts_are_those_of_the_template() -> None:
    """As text; `test_terraform_policies.py` has them evaluated."""
    theirs = conditional_statement("QueuePolicy", "HasMembers")
    ours = local_values()["member_senders"]
    for member in ("Sid", "Effect", "Action"):
        assert f'{member} = "{theirs[member]}"' in ours
    role = theirs["Condition"]["ArnLike"]["aws:PrincipalArn"]["Fn::Sub"]
    assert role.replace("${AWS::Partition}", "${local.partition}") in ours

    theirs = conditional_statement("TaskPolicy", "HasMembers")
    ours = local_values()["member_statements"]
    assert theirs["Resource"]["Fn::Sub"].replace("${AWS::Partition}", "${local.partition}") in ours
    assert list(theirs["Condition"]["StringEquals"]) == ["aws:ResourceAccount"]
    assert '"aws:ResourceAccount" = var.member_accounts' in ours


@pytest.mark.parametrize(("ours", "theirs"), [("jobs", "Rule"), ("tag_changes", "TagChangeRule")])
def test_rules_are_those_of_the_template(ours: str, theirs: str) -> None:
    rule, target = (resources(f"aws_cloudwatch_event_{kind}")[ours] for kind in ("rule", "target"))
    wanted = properties(theirs)
    [wanted_target] = wanted["Targets"]
    assert rule["description"] == wanted["Description"]
    assert target["target_id"] == wanted_target["Id"]
    assert target["retry_policy"] == [
        {
            "maximum_retry_attempts": wanted_target["RetryPolicy"]["MaximumRetryAttempts"],
            "maximum_event_age_in_seconds": wanted_target["RetryPolicy"][
                "MaximumEventAgeInSeconds"
            ],
        }
    ]
    assert target["dead_letter_config"] == [{"arn": "${aws_sqs_queue.undelivered_events.arn}"}]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("dead-letters", "DeadLetterAlarm"),
        ("undelivered-events", "UndeliveredEventsAlarm"),
        ("oldest-message", "OldestMessageAlarm"),
    ],
)
def test_alarms_are_those_of_the_template(ours: str, theirs: str) -> None:
    alarm, wanted = local_values()["alarms"][ours], properties(theirs)
    common = resources("aws_cloudwatch_metric_alarm")["queue"]
    described = f"{alarm['description']} {local_values()['runbook']}#{ours}"
    assert described == wanted["AlarmDescription"]
    assert wanted["AlarmName"] == {"Fn::Sub": f"${{Name}}-{ours}"}
    assert alarm["metric"] == wanted["MetricName"]
    threshold = wanted["Threshold"]
    if threshold == {"Ref": "OldestMessageAlarmSeconds"}:
        threshold = "${var.oldest_message_alarm_seconds}"
    assert alarm["threshold"] == threshold
    assert (
        common["namespace"],
        common["statistic"],
        common["period"],
        common["evaluation_periods"],
        common["comparison_operator"],
        common["treat_missing_data"],
    ) == (
        wanted["Namespace"],
        wanted["Statistic"],
        wanted["Period"],
        wanted["EvaluationPeriods"],
        wanted["ComparisonOperator"],
        wanted["TreatMissingData"],
    )


def test_outputs_are_named_like_those_of_the_template() -> None:
    outputs = {name for block in blocks("output") for name in block}
    here = {"LogGroupName", "RuleArn", "ServiceCluster", "ServiceName", "TaskDefinitionArn"}
    assert outputs == {snake_case(name) for name in set(template()["Outputs"]) - here}
    assert all(body["description"] for block in blocks("output") for body in block.values())


def test_the_readme_names_every_input_and_output() -> None:
    text = (MODULE / "README.md").read_text(encoding="utf-8")
    names = {*variables(), *(name for block in blocks("output") for name in block)}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
    [example] = re.findall(r"```hcl\n(.*?)```", text, re.DOTALL)
    [module] = hcl2.loads(example)["module"]
    [arguments] = plain(module).values()
    assert set(arguments) - {"source"} <= set(variables())
