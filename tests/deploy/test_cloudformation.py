"""The CloudFormation template: its linter's findings, its deployment on moto, and an event through
it to a real daemon.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from daemon import __version__
from daemon.aws.dynamodb import DynamoDbPlace, open_dynamodb
from daemon.checkpoint.dynamodb.table import EXPIRES_AT
from daemon.checkpoint.dynamodb.table_setup import TableAdministration
from daemon.config.settings import JobSettings, TagKeySettings
from daemon.config.sources import load_settings, setting_keys
from daemon.targets.mlflow.settings import MlflowSettings
from daemon.targets.modeldb_v2.settings import ModelDbV2Settings
from daemon.training_job.event import TrainingJobEvent, parse_event
from daemon.training_job.identity import JobArn
from tests.deploy.aws_calls import granted
from tests.deploy.stacks import (
    EXTERNAL,
    FARGATE,
    REGISTRY,
    ROOT,
    TEMPLATE,
    Deployer,
    Stack,
    as_request,
    client,
    ecs_objections,
    leave_no_value_out,
    refused_by_rules,
    template,
)
from tests.support.daemon_process import (
    ACCOUNT,
    CREDENTIALS,
    FULL_TAGS,
    REGION,
    DaemonProcess,
    Job,
    daemon_scene,
    mark_of,
)
from tests.support.dynamodb_tables import set_credentials
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    Deploy = Callable[..., Stack]

# moto: of what it does not deploy
pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS:UserWarning")

SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:modeldb-AbCdEf"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:on-call"
README = ROOT / "deploy/cloudformation/README.md"
EVERYTHING = FARGATE | {
    "TargetAuth": "bearer",
    "TargetSecretArn": SECRET,
    "TargetSecretKmsKeyArn": KEY,
    "QueueKmsKeyArn": KEY,
    "EcrRepositoryArn": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/modeldb-sync",
    "AlarmTopicArn": TOPIC,
    "ClusterName": "shared",
    "CloudMapNamespaceId": "ns-0a1b2c3d",
    "JobStatuses": "Completed,Stopped",
    "MetricSeries": "true",
}
APP = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:mlflow-app/app-0A1B2C"
TRACKING_SERVER = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:mlflow-tracking-server/churn"
MLFLOW = {name: value for name, value in FARGATE.items() if name != "ModelDBUrl"} | {
    "TargetKind": "mlflow",
    "MlflowTrackingUri": "http://mlflow:5000",
}
MODES: dict[str, dict[str, str]] = {
    "fargate": FARGATE,
    "MLflow": MLFLOW,
    "external": EXTERNAL,
    "external for EC2": EXTERNAL | {"TrustedService": "ec2.amazonaws.com"},
    "external for a role": EXTERNAL | {"TrustedPrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/host"},
    "everything": EVERYTHING,
}

LINTED_REGIONS = ("eu-west-1", "us-gov-west-1", "cn-north-1")
"""One of each partition."""

METRICS = {
    "AWS/SQS": (
        {"ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible"},
        {"QueueName"},
    ),
    "AWS/ECS": ({"CPUUtilization"}, {"ClusterName", "ServiceName"}),
}
"""What AWS publishes without being asked, with its dimensions: SQS developer guide, "Available
CloudWatch metrics for Amazon SQS"; ECS developer guide, "Amazon ECS CloudWatch metrics" (one a
minute for services with running tasks, none for those without)."""


@pytest.fixture(scope="module")
def deployer(moto_endpoint: str) -> Iterator[Deployer]:
    client("ecs", moto_endpoint).create_cluster(clusterName="shared")
    with pytest.MonkeyPatch.context() as monkeypatch:
        leave_no_value_out(monkeypatch)
        yield Deployer(moto_endpoint)


@pytest.fixture
def deploy(deployer: Deployer) -> Deploy:
    """Stacks for reading; one for each set of parameters."""
    return deployer.deployed


def shipped(path: str) -> Any:
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


def environment(stack: Stack) -> dict[str, str]:
    [container] = stack.resolved("TaskDefinition")["ContainerDefinitions"]
    return {each["Name"]: each["Value"] for each in container["Environment"]}


# The template as text


def test_its_linter_has_nothing_to_say() -> None:
    linted = subprocess.run(
        [
            sys.executable,
            "-c",
            "import cfnlint.runner; cfnlint.runner.main()",
            "--include-checks",
            "I",
            "W",
            "E",
            "--regions",
            *LINTED_REGIONS,
            "--",
            str(TEMPLATE),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": REGION},
    )
    assert (linted.stdout, linted.returncode) == ("", 0), linted.stderr


def test_it_can_be_given_to_the_api_as_text_and_works_in_every_partition() -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    assert len(text.encode()) <= 51_200  # CreateStack, TemplateBody
    assert "arn:aws:" not in text


def test_every_parameter_is_shown_once_and_described() -> None:
    read = template()
    groups = read["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(
        read["Parameters"]
    )
    assert [name for name, each in read["Parameters"].items() if not each.get("Description")] == []


def test_every_parameter_has_a_default_so_that_none_is_asked_that_the_mode_does_not_need() -> None:
    assert [name for name, each in template()["Parameters"].items() if "Default" not in each] == []


def test_its_image_is_this_version() -> None:
    assert re.findall(
        r"sagemaker-modeldb-sync:([\w.-]+)", TEMPLATE.read_text(encoding="utf-8")
    ) == [__version__]


@pytest.mark.parametrize(
    ("parameters", "refused"),
    [
        (FARGATE, []),
        (EXTERNAL, []),
        (EVERYTHING, []),
        (FARGATE | {"Cpu": "1024", "Memory": "2048"}, []),
        (MLFLOW, []),
        (EXTERNAL | {"TargetKind": "mlflow", "MlflowTrackingUri": APP}, []),
        (MLFLOW | {"MlflowTrackingUri": ""}, ["MlflowTrackingUri is needed"]),
        (FARGATE | {"MlflowTrackingUri": APP}, ["MlflowTrackingUri goes with TargetKind mlflow"]),
        (
            MLFLOW | {"TargetAuth": "verta", "TargetSecretArn": SECRET},
            ["TargetAuth verta goes with TargetKind modeldb-v2"],
        ),
        ({}, ["ModelDBUrl is needed", "SubnetIds is needed", "SecurityGroupIds is needed"]),
        (
            FARGATE | {"TrustedService": "ec2.amazonaws.com"},
            ["TrustedService and TrustedPrincipalArn are for Compute external"],
        ),
        (FARGATE | {"TargetAuth": "bearer"}, ["TargetSecretArn is needed"]),
        (FARGATE | {"TargetSecretArn": SECRET}, ["TargetAuth says"]),
        (
            EXTERNAL
            | {
                "TrustedService": "ec2.amazonaws.com",
                "TrustedPrincipalArn": "arn:aws:iam::1:role/r",
            },
            ["Give TrustedService or TrustedPrincipalArn, not both"],
        ),
        (FARGATE | {"Cpu": "512"}, ["Memory 512 goes with Cpu 256 only"]),
        (FARGATE | {"Cpu": "1024", "Memory": "1024"}, ["Cpu 1024 goes with Memory 2048"]),
    ],
)
def test_parameters_that_do_not_fit_are_refused_before_anything_is_made(
    parameters: dict[str, str], refused: list[str]
) -> None:
    said = refused_by_rules(parameters)
    assert len(said) == len(refused)
    assert all(text.startswith(words) for text, words in zip(said, refused, strict=True))


# Deployed


@pytest.mark.parametrize("mode", MODES)
def test_every_output_has_a_value(deploy: Deploy, mode: str) -> None:
    stack = deploy(**MODES[mode])
    declared = template()["Outputs"]
    of_task = {"LogGroupName", "ServiceCluster", "ServiceName", "TaskDefinitionArn"}
    expected = {name for name, output in declared.items() if "Condition" not in output}
    if "Compute" not in MODES[mode]:
        expected |= of_task
    if mode != "external":
        expected |= {"TaskRoleArn"}
    if mode == "external for EC2":
        expected |= {"InstanceProfileArn"}
    assert set(stack.outputs) == expected
    assert all(value and "${" not in value for value in stack.outputs.values())


def test_without_a_word_about_who_takes_it_no_role_is_made(deploy: Deploy) -> None:
    assert not list(deploy(**EXTERNAL).of_type("AWS::IAM::Role"))


@pytest.mark.parametrize(
    ("parameters", "principal", "actions"),
    [
        (
            EXTERNAL | {"TrustedService": "ec2.amazonaws.com"},
            {"Service": "ec2.amazonaws.com"},
            "sts:AssumeRole",
        ),
        (
            EXTERNAL | {"TrustedService": "pods.eks.amazonaws.com"},
            {"Service": "pods.eks.amazonaws.com"},
            ["sts:AssumeRole", "sts:TagSession"],
        ),
        (
            EXTERNAL | {"TrustedPrincipalArn": "arn:aws:iam::1:role/r"},
            {"AWS": "arn:aws:iam::1:role/r"},
            "sts:AssumeRole",
        ),
        (FARGATE, {"Service": "ecs-tasks.amazonaws.com"}, "sts:AssumeRole"),
    ],
)
def test_the_role_trusts_whom_it_is_for(
    deploy: Deploy, parameters: dict[str, str], principal: Any, actions: Any
) -> None:
    stack = deploy(**parameters)
    [statement] = stack.resolved("TaskRole")["AssumeRolePolicyDocument"]["Statement"]
    assert (statement["Principal"], statement["Action"]) == (principal, actions)
    if parameters is FARGATE:  # the tasks of this account alone
        assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": ACCOUNT}


def test_the_queues_are_those_of_the_aws_setup_guide(deploy: Deploy, moto_endpoint: str) -> None:
    stack, sqs = deploy(**FARGATE), client("sqs", moto_endpoint)

    def attributes(output: str) -> dict[str, Any]:
        found: dict[str, Any] = sqs.get_queue_attributes(
            QueueUrl=stack.outputs[output], AttributeNames=["All"]
        )["Attributes"]
        return found

    queue, dead, undelivered = map(
        attributes, ("QueueUrl", "DeadLetterQueueUrl", "UndeliveredEventsQueueUrl")
    )
    assert (queue["VisibilityTimeout"], queue["MessageRetentionPeriod"]) == ("120", "604800")
    assert json.loads(queue["RedrivePolicy"]) == {
        "deadLetterTargetArn": dead["QueueArn"],
        "maxReceiveCount": 10,
    }
    assert dead["MessageRetentionPeriod"] == undelivered["MessageRetentionPeriod"] == "1209600"
    assert stack.as_shipped(
        [stack.outputs[each].rpartition("/")[2] for each in ("QueueUrl", "DeadLetterQueueUrl")]
    ) == [
        "modeldb-sync",
        "modeldb-sync-dead-letters",
    ]
    assert template()["Parameters"]["Name"]["Default"] == "modeldb-sync"
    for name in stack.of_type("AWS::SQS::Queue"):
        assert stack.resolved(name)["SqsManagedSseEnabled"] is True
        assert "FifoQueue" not in stack.resolved(name)
    assert stack.resolved("DeadLetterQueue")["RedriveAllowPolicy"]["sourceQueueArns"] == [
        queue["QueueArn"]
    ]


def test_a_key_of_ones_own_is_on_every_queue_and_in_the_daemons_permissions(deploy: Deploy) -> None:
    stack = deploy(**EVERYTHING)
    for name in stack.of_type("AWS::SQS::Queue"):
        assert stack.resolved(name)["KmsMasterKeyId"] == KEY
        assert "SqsManagedSseEnabled" not in stack.resolved(name)
    last = stack.resolved("TaskPolicy")["PolicyDocument"]["Statement"][-1]
    assert (last["Action"], last["Resource"]) == (["kms:Decrypt", "kms:GenerateDataKey"], KEY)


def test_the_policy_of_the_queue_is_the_file_and_that_of_undelivered_events_says_the_same(
    deploy: Deploy,
) -> None:
    stack = deploy(**FARGATE)
    policies = {
        name: stack.as_shipped(stack.resolved(name))
        for name in stack.of_type("AWS::SQS::QueuePolicy")
    }
    queue_policy = policies["QueuePolicy"]["PolicyDocument"]
    assert queue_policy == shipped("deploy/eventbridge/queue-policy.json")
    for_undelivered = json.loads(
        json.dumps(queue_policy).replace(':modeldb-sync"', ':modeldb-sync-undelivered-events"')
    )
    assert policies["UndeliveredEventsQueuePolicy"]["PolicyDocument"] == for_undelivered
    queues = [
        stack.as_shipped(stack.outputs[f"{name}Url"])
        for name in ("Queue", "UndeliveredEventsQueue", "DeadLetterQueue")
    ]
    assert [
        policies[f"{name}Policy"]["Queues"]
        for name in ("Queue", "UndeliveredEventsQueue", "DeadLetterQueue")
    ] == [[queue] for queue in queues]


def test_no_queue_takes_requests_without_tls(deploy: Deploy) -> None:
    stack = deploy(**FARGATE)
    closed = {
        url
        for name in stack.of_type("AWS::SQS::QueuePolicy")
        for statement in stack.resolved(name)["PolicyDocument"]["Statement"]
        for url in stack.resolved(name)["Queues"]
        if statement["Effect"] == "Deny"
        and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    }
    assert closed == {url for output, url in stack.outputs.items() if output.endswith("QueueUrl")}


def test_the_rule_has_the_pattern_of_the_file_and_a_place_for_what_cannot_be_delivered(
    deploy: Deploy, moto_endpoint: str
) -> None:
    stack, events = deploy(**FARGATE), client("events", moto_endpoint)
    rule = events.describe_rule(Name=stack.name)
    assert json.loads(rule["EventPattern"]) == shipped("deploy/eventbridge/rule-pattern.json")
    assert (rule["State"], rule["Arn"]) == ("ENABLED", stack.outputs["RuleArn"])
    [target] = events.list_targets_by_rule(Rule=stack.name)["Targets"]
    assert target["Arn"] == stack.outputs["QueueArn"]
    assert target["DeadLetterConfig"] == {"Arn": stack.outputs["UndeliveredEventsQueueArn"]}
    assert target["RetryPolicy"] == {
        "MaximumRetryAttempts": 185,
        "MaximumEventAgeInSeconds": 86_400,
    }
    assert "InputPath" not in target
    assert "InputTransformer" not in target


def test_a_second_rule_hears_of_changed_tags(deploy: Deploy, moto_endpoint: str) -> None:
    stack, events = deploy(**FARGATE), client("events", moto_endpoint)
    rule = events.describe_rule(Name=f"{stack.name}-tags")
    assert json.loads(rule["EventPattern"]) == shipped("deploy/eventbridge/tag-change-pattern.json")
    [target] = events.list_targets_by_rule(Rule=f"{stack.name}-tags")["Targets"]
    assert target["Arn"] == stack.outputs["QueueArn"]
    assert target["DeadLetterConfig"] == {"Arn": stack.outputs["UndeliveredEventsQueueArn"]}
    rules = {name: stack.resolved(name)["Name"] for name in ("Rule", "TagChangeRule")}
    for policy in ("QueuePolicy", "UndeliveredEventsQueuePolicy"):
        [allowed] = [
            statement["Condition"]["ArnEquals"]["aws:SourceArn"]
            for statement in stack.resolved(policy)["PolicyDocument"]["Statement"]
            if statement["Effect"] == "Allow"
        ]
        assert [arn.partition(":rule/")[2] for arn in allowed] == list(rules.values())


def test_a_changed_tag_of_a_training_job_comes_to_the_queue_and_is_understood(
    deploy: Deploy, moto_endpoint: str
) -> None:
    stack = deploy(**EXTERNAL, TagModelDBSync="OUR_SYNC")
    events, sqs = client("events", moto_endpoint), client("sqs", moto_endpoint)
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/late"

    def received(**changes: Any) -> list[str]:
        detail = {
            "changed-tag-keys": ["OUR_SYNC"],
            "service": "sagemaker",
            "resource-type": "training-job",
            "version": 1,
            "tags": {"OUR_SYNC": "true"},
        } | {member.replace("_", "-"): value for member, value in changes.items()}
        entry = {
            "Source": "aws.tag",
            "DetailType": "Tag Change on Resource",
            "Resources": [arn],
            "Detail": json.dumps(detail),
        }
        assert events.put_events(Entries=[entry])["FailedEntryCount"] == 0
        found = sqs.receive_message(QueueUrl=stack.outputs["QueueUrl"]).get("Messages", [])
        return [message["Body"] for message in found]

    [body] = received()
    event = parse_event(body)
    assert isinstance(event, TrainingJobEvent)
    assert event.name == "late"
    assert event.changed_tags == frozenset({"OUR_SYNC"})
    assert not received(service="ec2")
    assert not received(changed_tag_keys=["team"])


def test_changes_of_tags_can_be_left_out(deploy: Deploy) -> None:
    stack = deploy(**EXTERNAL, TagChanges="false")
    assert list(stack.of_type("AWS::Events::Rule")) == ["Rule"]


def test_the_defaults_are_the_daemons(deploy: Deploy) -> None:
    settings = load_settings(
        None,
        environment(deploy(**FARGATE)),
        default_path=ROOT / "missing",
        secrets_dir=ROOT / "missing",
    )
    assert settings.jobs == JobSettings()
    assert settings.aws.region == REGION
    assert settings.aws.account_id == ACCOUNT
    assert isinstance(settings.target, ModelDbV2Settings)
    assert settings.target.url == FARGATE["ModelDBUrl"]
    assert settings.target.auth.kind == "none"
    read = template()["Parameters"]
    names = dict(
        zip(
            TagKeySettings.model_fields,
            [name for name in read if name.startswith("TagModelDB")],
            strict=True,
        )
    )
    assert names == {
        "sync": "TagModelDBSync",
        "project_name": "TagModelDBProjectName",
        "project_user": "TagModelDBProjectUser",
        "project_description": "TagModelDBProjectDesc",
        "model_name": "TagModelDBModelName",
        "model_type": "TagModelDBModelType",
    }


def test_statuses_and_tag_keys_reach_rule_and_daemon_alike(deploy: Deploy) -> None:
    keys = {
        name: f"OUR_{name}" for name in template()["Parameters"] if name.startswith("TagModelDB")
    }
    stack = deploy(**FARGATE, **keys, JobStatuses="Completed,Stopped")
    settings = load_settings(
        None, environment(stack), default_path=ROOT / "missing", secrets_dir=ROOT / "missing"
    )
    assert list(settings.jobs.tag_keys.model_dump().values()) == list(keys.values())
    assert settings.jobs.statuses == ("Completed", "Stopped")
    assert stack.resolved("Rule")["EventPattern"]["detail"]["TrainingJobStatus"] == [
        "Completed",
        "Stopped",
    ]


@pytest.mark.parametrize("kind", ["basic", "bearer", "verta"])
def test_a_login_comes_whole_and_out_of_the_secret(deploy: Deploy, kind: str) -> None:
    stack = deploy(**FARGATE, TargetAuth=kind, TargetSecretArn=SECRET)
    [container] = stack.resolved("TaskDefinition")["ContainerDefinitions"]
    secrets = {each["Name"]: each["ValueFrom"] for each in container["Secrets"]}
    values = environment(stack) | dict.fromkeys(secrets, "me@example.org")
    settings = load_settings(
        None, values, default_path=ROOT / "missing", secrets_dir=ROOT / "missing"
    )
    assert isinstance(settings.target, ModelDbV2Settings)
    assert settings.target.auth.kind == kind
    for variable, source in secrets.items():
        assert source == f"{SECRET}:{variable.rpartition('__')[2].lower()}::"
    assert "me@example.org" not in environment(stack).values()
    policies = {
        each["PolicyName"]: each["PolicyDocument"]["Statement"]
        for each in stack.resolved("ExecutionRole")["Policies"]
    }
    assert [(each["Action"], each["Resource"]) for each in policies["read-the-secret"]] == [
        ("secretsmanager:GetSecretValue", SECRET)
    ]


@pytest.mark.parametrize("uri", ["http://mlflow:5000", TRACKING_SERVER, APP])
def test_the_daemon_is_told_of_mlflow_and_may_write_to_a_managed_one(
    deploy: Deploy, uri: str
) -> None:
    stack = deploy(**MLFLOW | {"MlflowTrackingUri": uri, "MlflowRegisterModels": "false"})
    target = load_settings(
        None, environment(stack), default_path=ROOT / "missing", secrets_dir=ROOT / "missing"
    ).target
    assert isinstance(target, MlflowSettings)
    assert (target.tracking_uri, target.register_models) == (uri, False)
    statements = stack.resolved("TaskPolicy")["PolicyDocument"]["Statement"]
    granted = {
        (action, each["Resource"])
        for each in statements
        if each["Sid"] == "WriteToManagedMlflow"
        for action in each["Action"]
    }
    shipped_actions = {
        action
        for name in ("mlflow-tracking-server", "mlflow-app")
        for action in shipped(f"deploy/iam/{name}-policy.json")["Statement"][0]["Action"]
    }
    managed = uri.startswith("arn:")
    assert granted == ({(action, uri) for action in shipped_actions} if managed else set())


def test_ecs_gets_no_more_permissions_than_the_parameters_ask_for(deploy: Deploy) -> None:
    def policies(stack: Stack) -> Mapping[str, list[Any]]:
        return {
            each["PolicyName"]: each["PolicyDocument"]["Statement"]
            for each in stack.resolved("ExecutionRole")["Policies"]
        }

    assert set(policies(deploy(**FARGATE))) == {"write-the-log"}
    everything = policies(deploy(**EVERYTHING))
    assert set(everything) == {"write-the-log", "pull-the-image", "read-the-secret"}
    assert [(each["Action"], each["Resource"]) for each in everything["read-the-secret"]][1:] == [
        ("kms:Decrypt", KEY)
    ]
    wide = {
        str(each["Action"])
        for statements in everything.values()
        for each in statements
        if each["Resource"] == "*"
    }
    assert wide == {"ecr:GetAuthorizationToken"}  # AWS takes no resource for it


def test_an_existing_cluster_is_used_and_otherwise_one_is_made(deploy: Deploy) -> None:
    assert deploy(**EVERYTHING).resolved("Service")["Cluster"] == "shared"
    made = deploy(**FARGATE)
    assert made.resolved("Service")["Cluster"] == made.outputs["ServiceCluster"] == made.name


def test_names_of_environment_variables_are_keys_of_the_configuration(deploy: Deploy) -> None:
    index = setting_keys()
    known = {index.variable(key) for key in index.fields} | {"MODELDB_SYNC_TARGET__AUTH__KIND"}
    assert set(environment(deploy(**FARGATE))) <= known


# Alarms


@pytest.mark.parametrize("mode", ["fargate", "external", "everything"])
def test_alarms_watch_metrics_that_exist_of_things_that_exist(
    deploy: Deploy, moto_endpoint: str, mode: str
) -> None:
    stack, cloudwatch = deploy(**MODES[mode]), client("cloudwatch", moto_endpoint)
    alarms = {name: stack.resolved(name) for name in stack.of_type("AWS::CloudWatch::Alarm")}
    expected = {"DeadLetterAlarm", "UndeliveredEventsAlarm", "OldestMessageAlarm"}
    assert set(alarms) == expected | ({"NoTaskAlarm"} if "Compute" not in MODES[mode] else set())
    there = {
        url.rpartition("/")[2]
        for output, url in stack.outputs.items()
        if output.endswith("QueueUrl")
    }
    there |= {stack.outputs.get("ServiceCluster", ""), stack.outputs.get("ServiceName", "")}
    for alarm in alarms.values():
        metrics, dimensions = METRICS[alarm["Namespace"]]
        assert alarm["MetricName"] in metrics
        assert {each["Name"] for each in alarm["Dimensions"]} == dimensions
        assert {each["Value"] for each in alarm["Dimensions"]} <= there
        assert (
            alarm.get("AlarmActions", [])
            == alarm.get("OKActions", [])
            == ([TOPIC] if mode == "everything" else [])
        )
        cloudwatch.put_metric_alarm(**alarm)  # botocore checks its names, types and words


def test_each_alarm_watches_its_own_queue(deploy: Deploy) -> None:
    stack = deploy(**FARGATE)
    watched = {
        name: stack.resolved(name)["Dimensions"][0]["Value"]
        for name in stack.of_type("AWS::CloudWatch::Alarm")
    }
    assert stack.as_shipped(watched) == {
        "DeadLetterAlarm": "modeldb-sync-dead-letters",
        "UndeliveredEventsAlarm": "modeldb-sync-undelivered-events",
        "OldestMessageAlarm": "modeldb-sync",
        "NoTaskAlarm": "modeldb-sync",
    }


def test_a_daemon_that_was_stopped_on_purpose_alarms_nobody_and_a_lost_one_does(
    deploy: Deploy,
) -> None:
    assert "NoTaskAlarm" not in deploy(**FARGATE, DesiredCount="0").resources
    alarm = deploy(**FARGATE).resolved("NoTaskAlarm")
    assert (alarm["Statistic"], alarm["ComparisonOperator"], alarm["Threshold"]) == (
        "SampleCount",
        "LessThanThreshold",
        1,
    )
    assert alarm["TreatMissingData"] == "breaching"


def test_every_alarm_leads_to_its_entry_in_the_readme_and_every_entry_is_an_alarms() -> None:
    given = README.read_text(encoding="utf-8").partition("\n## Alarms\n")[2]
    parts = re.split(r"(?m)^### (.+)$", given)
    entries = dict(zip(parts[1::2], parts[2::2], strict=True))
    alarms = [
        each["Properties"]
        for each in template()["Resources"].values()
        if each["Type"] == "AWS::CloudWatch::Alarm"
    ]
    names = [alarm["AlarmName"]["Fn::Sub"].removeprefix("${Name}-") for alarm in alarms]
    assert names == list(entries)
    for name, alarm in zip(names, alarms, strict=True):
        assert alarm["AlarmDescription"].endswith(
            f" https://github.com/OWNER/sagemaker-modeldb-sync/blob/main/deploy/cloudformation/README.md#{name}"
        )
        assert len(alarm["AlarmDescription"]) <= 1024  # PutMetricAlarm
        assert re.findall(r"\*\*(.+?)\*\*", entries[name]) == ["Why.", "How to see.", "What to do."]


# The README beside it


def test_what_its_readme_names_is_there() -> None:
    text, read = README.read_text(encoding="utf-8"), template()
    commands = re.findall(r"--parameter-overrides (.+)$", text, flags=re.MULTILINE)
    modes = [dict(pair.split("=", 1) for pair in command.split()) for command in commands]
    assert [values.get("Compute", "fargate") for values in modes] == read["Parameters"]["Compute"][
        "AllowedValues"
    ]
    assert [refused_by_rules(values) for values in modes] == [[], []]
    rows = re.findall(r"^\| (`.+`) \| ", text, flags=re.MULTILINE)
    parameters = {name for row in rows for name in re.findall(r"`(\w+)`", row)} | {
        name for values in modes for name in values
    }
    assert len(parameters) > 10
    assert parameters <= set(read["Parameters"])
    outputs = set(re.findall(r"`(\w+(?:Url|Arn))`", text)) - set(read["Parameters"])
    assert outputs == {"QueueUrl", "TaskRoleArn", "InstanceProfileArn", "TaskPolicyArn"}
    assert outputs <= set(read["Outputs"])


@pytest.mark.slow  # starts the AWS CLI for each call
def test_its_loop_puts_undelivered_events_into_the_queue(
    deployer: Deployer, moto_endpoint: str
) -> None:
    tools = [shutil.which(name) for name in ("aws", "jq")]
    if None in tools:
        pytest.skip("aws and jq are not both on PATH: pipx install awscli; apt-get install jq")
    stack, sqs = deployer.deploy(**EXTERNAL), client("sqs", moto_endpoint)
    source, queue = stack.outputs["UndeliveredEventsQueueUrl"], stack.outputs["QueueUrl"]
    events = [
        Job(f"undelivered-{number}", tags={"note": "it's \\n $HOME `id`"}).event
        for number in range(3)
    ]
    for event in events:
        sqs.send_message(QueueUrl=source, MessageBody=event)
    [loop] = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    # version 1 does not read AWS_ENDPOINT_URL
    here = f'aws() {{ command aws --endpoint-url {moto_endpoint} "$@"; }}\n'
    done = subprocess.run(
        [
            "sh",
            "-euc",
            here + loop.replace("UNDELIVERED_EVENTS_QUEUE_URL", source).replace("QUEUE_URL", queue),
        ],
        env=CREDENTIALS | {"PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": REGION},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    received = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    assert sorted(message["Body"] for message in received) == sorted(events)
    left = sqs.get_queue_attributes(QueueUrl=source, AttributeNames=["All"])["Attributes"]
    assert (left["ApproximateNumberOfMessages"], left["ApproximateNumberOfMessagesNotVisible"]) == (
        "0",
        "0",
    )


# The service


@pytest.mark.parametrize("mode", ["fargate", "everything"])
def test_task_definition_and_service_are_what_the_api_takes(
    deploy: Deploy, moto_endpoint: str, mode: str
) -> None:
    stack, ecs, ec2 = (
        deploy(**MODES[mode]),
        client("ecs", moto_endpoint),
        client("ec2", moto_endpoint),
    )
    task = as_request(stack.resolved("TaskDefinition"))
    assert ecs_objections("RegisterTaskDefinition", task) == ""
    registered = ecs.register_task_definition(**task)["taskDefinition"]
    assert registered["networkMode"] == "awsvpc"
    assert "FARGATE" in registered["compatibilities"]
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    service = as_request(stack.resolved("Service")) | {"serviceName": f"again-{mode}"}
    assert ecs_objections("CreateService", service) == ""
    network = {
        "awsvpcConfiguration": {
            "subnets": [subnet],
            "securityGroups": [group],
            "assignPublicIp": "DISABLED",
        }
    }
    made = ecs.create_service(**service | {"networkConfiguration": network})["service"]
    assert (made["desiredCount"], made["launchType"]) == (1, "FARGATE")


def test_one_daemon_at_a_time(deploy: Deploy) -> None:
    service = deploy(**FARGATE).resolved("Service")
    deployment = service["DeploymentConfiguration"]
    assert (deployment["MinimumHealthyPercent"], deployment["MaximumPercent"]) == (0, 100)
    assert deployment["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert service["AvailabilityZoneRebalancing"] == "DISABLED"
    assert int(template()["Parameters"]["DesiredCount"]["Default"]) == 1
    for several in ({"DesiredCount": "2"}, {"MaxCount": "2"}):
        refusal = "More than one task needs CheckpointKind dynamodb"
        assert refused_by_rules(FARGATE | several) == [refusal]
        assert refused_by_rules(FARGATE | several | {"CheckpointKind": "dynamodb"}) == []


def test_tasks_that_share_a_table_take_over_without_a_gap(deploy: Deploy) -> None:
    stack = deploy(**FARGATE, CheckpointKind="dynamodb", DesiredCount="2", Name="shared")
    service = stack.resolved("Service")
    deployment = service["DeploymentConfiguration"]
    assert (deployment["MinimumHealthyPercent"], deployment["MaximumPercent"]) == (100, 200)
    assert int(service["DesiredCount"]) == 2
    assert service["AvailabilityZoneRebalancing"] == "ENABLED"
    [container] = stack.resolved("TaskDefinition")["ContainerDefinitions"]
    environment = {each["Name"]: each["Value"] for each in container["Environment"]}
    assert environment["MODELDB_SYNC_CHECKPOINT__KIND"] == "dynamodb"
    assert environment["MODELDB_SYNC_CHECKPOINT__TABLE"] == "shared"
    assert "ScalableTarget" not in stack.resources


async def test_the_table_of_the_template_is_the_checkpoints(
    deploy: Deploy, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the daemon's own `check` sees it, whose words would name each difference."""
    set_credentials(monkeypatch)
    name = f"table-{uuid.uuid4().hex[:8]}"
    deploy(**FARGATE, CheckpointKind="dynamodb", Name=name)
    place = DynamoDbPlace(table=name, region=REGION, endpoint_url=moto_endpoint)
    async with open_dynamodb(place) as dynamodb:
        setup = await TableAdministration(dynamodb, place).setup()
    assert setup is not None
    assert setup.differences == []
    assert setup.capacity is None
    table = template()["Resources"]["CheckpointTable"]
    assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Retain", "Retain")
    ttl = table["Properties"]["TimeToLiveSpecification"]  # which moto does not set
    assert ttl == {"AttributeName": EXPIRES_AT, "Enabled": True}
    assert table["Properties"]["DeletionProtectionEnabled"]
    assert table["Properties"]["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"]


def test_the_permissions_for_the_table_are_the_shipped_ones(deploy: Deploy) -> None:
    shipped = json.loads((ROOT / "deploy/iam/dynamodb-policy.json").read_text(encoding="utf-8"))
    stack = deploy(**FARGATE, CheckpointKind="dynamodb", Name="modeldb-sync")
    statements = stack.resolved("TaskPolicy")["PolicyDocument"]["Statement"]
    ours = [each for each in statements if "dynamodb" in json.dumps(each)]
    assert json.dumps(ours) == json.dumps(shipped["Statement"]).replace("REGION", REGION).replace(
        "ACCOUNT", ACCOUNT
    )
    without = deploy(**FARGATE, Name="alone").resolved("TaskPolicy")["PolicyDocument"]["Statement"]
    assert "dynamodb" not in json.dumps(without)


def test_tasks_follow_the_backlog_and_one_always_stays(deploy: Deploy) -> None:
    wanted = FARGATE | {"CheckpointKind": "dynamodb", "MaxCount": "4", "BacklogPerTask": "200"}
    stack = deploy(**wanted)
    target = stack.resolved("ScalableTarget")
    assert (int(target["MinCapacity"]), int(target["MaxCapacity"])) == (1, 4)
    assert "DesiredCount" not in stack.resolved("Service")
    policy = stack.resolved("ScalingPolicy")["TargetTrackingScalingPolicyConfiguration"]
    assert int(policy["TargetValue"]) == 200
    metrics = {each["Id"]: each for each in policy["CustomizedMetricSpecification"]["Metrics"]}
    assert metrics["backlog"]["Expression"] == "visible / FILL(tasks, 1)"
    assert [each["Id"] for each in metrics.values() if each["ReturnData"]] == ["backlog"]
    assert metrics["tasks"]["MetricStat"]["Stat"] == "SampleCount"
    stopped = deploy(**wanted | {"DesiredCount": "0"})
    assert "ScalableTarget" not in stopped.resources
    assert int(stopped.resolved("Service")["DesiredCount"]) == 0


def test_prometheus_finds_the_task_by_name_only_where_a_namespace_is_given(
    deploy: Deploy, moto_endpoint: str
) -> None:
    """The service of Cloud Map is handed to the API, because moto makes none of a template."""
    assert not list(deploy(**FARGATE).of_type("AWS::ServiceDiscovery::Service"))
    assert "ServiceRegistries" not in deploy(**FARGATE).resolved("Service")
    assert not list(
        deploy(**EXTERNAL, CloudMapNamespaceId="ns-1").of_type("AWS::ServiceDiscovery::Service")
    )

    cloud_map, ec2 = client("servicediscovery", moto_endpoint), client("ec2", moto_endpoint)
    cloud_map.create_private_dns_namespace(
        Name="internal.example", Vpc=ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    )
    [namespace] = cloud_map.list_namespaces()["Namespaces"]
    stack = deploy(**FARGATE, CloudMapNamespaceId=namespace["Id"])
    service = stack.resolved("DiscoveryService")
    dns = service["DnsConfig"] | {
        "DnsRecords": [
            each | {"TTL": int(each["TTL"])} for each in service["DnsConfig"]["DnsRecords"]
        ]
    }
    made = cloud_map.create_service(**service | {"DnsConfig": dns})["Service"]
    assert (made["Name"], made["NamespaceId"]) == (stack.name, namespace["Id"])
    assert made["DnsConfig"]["RoutingPolicy"] == "MULTIVALUE"
    assert made["DnsConfig"]["DnsRecords"] == [{"Type": "A", "TTL": 10}]
    assert made["HealthCheckCustomConfig"] == {"FailureThreshold": 1}
    assert stack.resolved("Service")["ServiceRegistries"] == [{"RegistryArn": REGISTRY}]
    [_, registries, _] = template()["Resources"]["Service"]["Properties"]["ServiceRegistries"][
        "Fn::If"
    ]
    assert registries == [{"RegistryArn": {"Fn::GetAtt": ["DiscoveryService", "Arn"]}}]
    pattern = template()["Parameters"]["CloudMapNamespaceId"]["AllowedPattern"]
    assert all(re.fullmatch(pattern, value) for value in ("", "ns-bjbxkd7yrxcbk5oi"))
    assert not re.fullmatch(pattern, "internal.example")


def test_a_slow_log_does_not_stop_the_daemon(deploy: Deploy) -> None:
    [container] = deploy(**FARGATE).resolved("TaskDefinition")["ContainerDefinitions"]
    options = container["LogConfiguration"]["Options"]
    assert (options["mode"], options["max-buffer-size"]) == ("non-blocking", "4m")


# An event, from the bus to ModelDB


def event_entry(job: Job, **detail: str) -> dict[str, Any]:
    event = json.loads(job.event)
    return {
        "Source": event["source"],
        "DetailType": event["detail-type"],
        "Detail": json.dumps(event["detail"] | detail),
        "Resources": event["resources"],
    }


@pytest.mark.parametrize("mode", ["fargate", "external"])
async def test_an_event_on_the_bus_becomes_a_run(
    deployer: Deployer, moto_endpoint: str, tmp_path: Path, free_port: Callable[[], int], mode: str
) -> None:
    async with (
        ModelDbV2StandIn() as modeldb,
        daemon_scene(moto_endpoint, modeldb.url, tmp_path) as scene,
    ):
        stack = deployer.deploy(
            **MODES[mode] | ({"ModelDBUrl": modeldb.url} if mode == "fargate" else {})
        )
        scene.queue_url, scene.dead_letter_url = (
            stack.outputs["QueueUrl"],
            stack.outputs["DeadLetterQueueUrl"],
        )
        job, half = Job("through-the-rule"), Job("half-tagged", tags={"MODEL_DB_SYNC": ""})
        scene.finish_jobs([job, half])
        entries = [
            event_entry(job, TrainingJobStatus="InProgress"),
            event_entry(job),
            event_entry(half),
        ]
        assert client("events", moto_endpoint).put_events(Entries=entries)["FailedEntryCount"] == 0

        port = free_port()
        # as the task: all from its variables, but for this machine's addresses and paths
        if mode == "fargate":
            daemon = DaemonProcess(
                local_config(tmp_path, port, moto_endpoint, scene.sagemaker.url),
                port,
                CREDENTIALS | environment(stack),
            )
        else:
            daemon = scene.daemon(port)
        try:
            await daemon.start()
            await daemon.outcomes(1, outcome="synced")
            await daemon.outcomes(1, outcome="rejected", reason="tags_incomplete")
            await scene.drained()
            assert [mark_of(run)[0] for run in modeldb.runs()] == [job.arn]
            assert len(await scene.dead_letters()) == 1
            # the rule kept the third away
            assert (await daemon.metrics())["modeldb_sync_messages_received_total"] == 2
            assert await daemon.stop() == 0
        finally:
            await daemon.kill()


def local_config(home: Path, port: int, sqs: str, sagemaker: str) -> Path:
    config = home / "config.yaml"
    settings = {
        "aws": {"sqs_endpoint_url": sqs, "sagemaker_endpoint_url": sagemaker},
        "queue": {"wait_seconds": 1},
        "checkpoint": {"path": str(home / "checkpoint.db")},
        "http": {"host": "127.0.0.1", "port": port},
    }
    config.write_text(json.dumps(settings), encoding="utf-8")
    return config


@pytest.fixture
def tag_filter(deployer: Deployer, moto_endpoint: str) -> Iterator[Callable[[Job], bool]]:
    """Whether the rule with ``FilterByTag`` lets a job's event through.

    moto takes a pattern in text from its API only, not from a template.
    """
    events, sqs = client("events", moto_endpoint), client("sqs", moto_endpoint)
    plain = deployer.deploy(**EXTERNAL)
    events.remove_targets(Rule=plain.name, Ids=["queue"])
    pattern = filtered_pattern(plain)
    events.put_rule(Name=f"{plain.name}-tag", EventPattern=pattern)
    events.put_targets(
        Rule=f"{plain.name}-tag", Targets=[{"Id": "queue", "Arn": plain.outputs["QueueArn"]}]
    )

    def lets_through(job: Job) -> bool:
        events.put_events(Entries=[event_entry(job)])
        return bool(sqs.receive_message(QueueUrl=plain.outputs["QueueUrl"]).get("Messages"))

    yield lets_through
    events.remove_targets(Rule=f"{plain.name}-tag", Ids=["queue"])


def filtered_pattern(stack: Stack) -> str:
    [_, text, _] = template()["Resources"]["Rule"]["Properties"]["EventPattern"]["Fn::If"]
    return str(stack.evaluated(text))


def test_a_filter_by_tag_lets_only_tagged_events_in_and_loses_those_without_their_tags(
    tag_filter: Callable[[Job], bool],
) -> None:
    assert template()["Parameters"]["FilterByTag"]["Default"] == "false"
    assert tag_filter(Job("tagged"))
    assert tag_filter(Job("tagged-with-nothing", tags=FULL_TAGS | {"MODEL_DB_SYNC": ""}))
    assert not tag_filter(Job("other", tags={"team": "fraud"}))
    assert not tag_filter(Job("tagged-but-not-in-the-event", tags={}))
    assert not tag_filter(Job("stopped", status="Stopped"))


def test_the_pattern_with_the_tag_takes_both_forms_of_tags_and_any_key(deploy: Deploy) -> None:
    stack = deploy(**EXTERNAL, TagModelDBSync="team:sync/on", JobStatuses="Completed,Failed")
    detail = json.loads(filtered_pattern(stack))["detail"]
    assert detail == {
        "TrainingJobStatus": ["Completed", "Failed"],
        "$or": [
            {"Tags": {"team:sync/on": [{"exists": True}]}},
            {"Tags": {"Key": ["team:sync/on"]}},
        ],
    }


# The way over from the AWS sample

GUIDE = ROOT / "docs/coming-from-the-sample.md"


def test_every_parameter_of_the_sample_has_its_counterpart() -> None:
    rows = re.findall(
        r"^\| `(ModelDBInstance\w+|TagModelDB\w+)` \| (.+) \| (.+) \|$",
        GUIDE.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    tags = ("Sync", "ProjectName", "ProjectUser", "ProjectDesc", "ModelName", "ModelType")
    assert [row[0] for row in rows] == [
        "ModelDBInstanceUrl",
        "ModelDBInstancePort",
        *(f"TagModelDB{tag}" for tag in tags),
    ]
    parameters, keys = template()["Parameters"], setting_keys().fields
    for sample, ours, where in rows:
        [parameter] = re.findall(r"`((?:ModelDB|Tag)\w+)`", ours)
        assert parameter in parameters
        named = re.findall(r"`([\w.]+)`", where)
        assert named
        assert set(named) <= set(keys)
        assert sample == parameter or sample.startswith("ModelDBInstance")


def test_what_the_guide_names_is_there() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    read = template()
    for parameter in re.findall(
        r"`(Compute|DesiredCount|AlarmTopicArn|JobStatuses|SubnetIds|SecurityGroupIds)`", text
    ):
        assert parameter in read["Parameters"]
    assert "LogGroupName" in read["Outputs"]
    assert "thirteen permissions" in text
    assert len(granted(shipped("deploy/iam/task-policy.json"))) == 13


def test_the_guides_message_by_hand_is_an_event() -> None:
    [body] = re.findall(
        r"--message-body '(\{.*?\})'$", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    job = Job("of-before")
    event = parse_event(body.replace("'\"$NAME\"'", job.name).replace("'\"$ARN\"'", job.arn))
    assert isinstance(event, TrainingJobEvent)
    assert event.name == job.name
    assert event.arn == JobArn.parse(job.arn)
