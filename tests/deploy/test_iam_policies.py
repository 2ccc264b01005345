"""The shipped permissions are exactly those that the code needs."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from botocore.session import get_session

from tests.deploy.aws_calls import (
    OPERATORS,
    ROOT,
    WITH_ACCOUNTS,
    aws_calls,
    daemon_sources,
    granted,
    operator_calls,
    permissions,
    services_opened,
)
from tests.deploy.stacks import EXTERNAL, FARGATE, Deployer, leave_no_value_out
from tests.support.daemon_process import FULL_TAGS, Job, daemon_scene
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

# moto: of what it does not deploy
pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS:UserWarning")

ALL_SOURCES = daemon_sources()
SOURCES = {
    file: source for file, source in ALL_SOURCES.items() if file not in OPERATORS | WITH_ACCOUNTS
}
SERVICES = services_opened(SOURCES["daemon/aws/clients.py"])
CALLS = aws_calls(SOURCES, SERVICES)


ACTIONS_OF_MLFLOW = {
    "experiments/create": "CreateExperiment",
    "experiments/get": "GetExperiment",
    "experiments/get-by-name": "GetExperimentByName",
    "experiments/search": "SearchExperiments",
    "experiments/set-experiment-tag": "SetExperimentTag",
    "runs/create": "CreateRun",
    "runs/delete": "DeleteRun",
    "runs/delete-tag": "DeleteTag",
    "runs/get": "GetRun",
    "runs/log-batch": "LogBatch",
    "runs/log-inputs": "LogInputs",
    "runs/search": "SearchRuns",
    "runs/set-tag": "SetTag",
    "runs/update": "UpdateRun",
    "registered-models/create": "CreateRegisteredModel",
    "registered-models/get": "GetRegisteredModel",
    "model-versions/create": "CreateModelVersion",
    "model-versions/delete": "DeleteModelVersion",
    "model-versions/search": "SearchModelVersions",
    "model-versions/update": "UpdateModelVersion",
}
"""One for each call. The service authorization reference of sagemaker-mlflow was seen only in part:
some names follow from the others."""


def policy_file(name: str) -> Any:
    return json.loads((ROOT / "deploy/iam" / name).read_text(encoding="utf-8"))


def guide_policy() -> Any:
    guide = (ROOT / "docs/aws-setup.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```json\n(.*?)```", guide, flags=re.DOTALL)
    [policy] = [block for block in map(json.loads, blocks) if "Statement" in block]
    return policy


def test_the_code_calls_these_services_and_says_so_in_calls_that_can_be_read() -> None:
    assert {"sqs", "sagemaker", "sagemaker-metrics", "sts"} == SERVICES
    assert {call.service for call in CALLS} == SERVICES
    for name, source in SOURCES.items():
        found = re.findall(
            r"get_paginator|get_waiter|_make_api_call|generate_presigned|getattr\(.*client", source
        )
        assert found == [], f"{name} calls AWS in a way that is not looked for here"


def test_every_call_is_one_that_the_service_knows() -> None:
    for call in CALLS:
        shape = (
            get_session()
            .get_service_model(call.service)
            .operation_model(call.operation)
            .input_shape
        )
        assert shape is not None
        assert set(call.arguments) <= set(shape.members), call


def test_the_policy_for_the_task_is_what_the_code_calls() -> None:
    assert granted(policy_file("task-policy.json")) == permissions(CALLS)


def test_the_policy_for_operators_is_what_only_their_verbs_call() -> None:
    found = permissions(operator_calls(ALL_SOURCES, SERVICES))
    assert granted(policy_file("operator-policy.json")) == found
    # read through the queue's own adapter
    assert {"sqs:DeleteMessage", "sqs:ChangeMessageVisibility"} < {action for _, action in found}


def test_the_policy_for_accounts_is_what_only_their_roles_need() -> None:
    sources = {file: ALL_SOURCES[file] for file in WITH_ACCOUNTS}
    found = permissions(aws_calls(sources, SERVICES))
    assert granted(policy_file("accounts-policy.json")) == found
    assert {action for _, action in found} == {"sts:AssumeRole"}


def test_the_role_of_a_member_may_read_what_the_daemon_reads_of_its_own_account() -> None:
    def of_sagemaker(name: str) -> dict[str, tuple[list[str], str]]:
        return {
            each["Sid"]: (each["Action"], each["Resource"].replace("REGION:ACCOUNT", "*:MEMBER"))
            for each in policy_file(name)["Statement"]
            if each["Action"][0].startswith("sagemaker:")
        }

    member = policy_file("member-policy.json")["Statement"]
    assert len(member) == len(of_sagemaker("member-policy.json"))
    assert of_sagemaker("member-policy.json") == of_sagemaker("task-policy.json")


def test_the_policy_in_the_readme_is_what_the_code_calls() -> None:
    assert granted(guide_policy()) == permissions(CALLS)


@pytest.mark.parametrize(
    "parameters",
    [FARGATE, EXTERNAL | {"TrustedService": "ec2.amazonaws.com"}],
    ids=["fargate", "external"],
)
def test_the_policy_in_the_template_is_the_policy_file(
    moto_endpoint: str, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, str]
) -> None:
    leave_no_value_out(monkeypatch)
    stack = Deployer(moto_endpoint).deploy(**parameters, MetricSeries="true")
    policy = stack.as_shipped(stack.resolved("TaskPolicy")["PolicyDocument"])
    assert granted(policy) == permissions(CALLS)
    assert policy == policy_file("task-policy.json")


def test_the_template_grants_metric_series_only_where_they_are_wanted(
    moto_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_no_value_out(monkeypatch)
    stack = Deployer(moto_endpoint).deploy(**FARGATE)
    policy = stack.as_shipped(stack.resolved("TaskPolicy")["PolicyDocument"])
    unwanted = permissions(CALLS) - granted(policy)
    assert {action for _, action in unwanted} == {"sagemaker:BatchGetMetrics"}


def test_the_policy_of_a_managed_mlflow_has_an_action_for_each_call_of_the_client() -> None:
    source = ALL_SOURCES["daemon/targets/mlflow/client.py"]
    nouns = "experiments|runs|registered-models|model-versions"
    assert set(re.findall(rf'"((?:{nouns})/[a-z-]+)"', source)) == set(ACTIONS_OF_MLFLOW)
    [statement] = policy_file("mlflow-tracking-server-policy.json")["Statement"]
    assert statement["Action"] == sorted(
        f"sagemaker-mlflow:{action}" for action in ACTIONS_OF_MLFLOW.values()
    )
    [of_app] = policy_file("mlflow-app-policy.json")["Statement"]
    assert of_app["Action"] == ["sagemaker:CallMlflowAppApi"]


def test_a_new_call_in_the_code_asks_for_its_permission() -> None:
    more = {
        "daemon/aws/queue.py": SOURCES["daemon/aws/queue.py"]
        + "\n\nasync def f(c):\n    await c.purge_queue(QueueUrl=c.url)\n"
    }
    assert {
        action
        for _, action in permissions(aws_calls(SOURCES | more, SERVICES)) - permissions(CALLS)
    } == {"sqs:PurgeQueue"}


@pytest.mark.parametrize(
    "change",
    [
        {"Resource": "*"},
        {"Resource": "*::::::"},
        {"Resource": "arn:aws:sqs:REGION:ACCOUNT:*"},
        {"Effect": "Deny"},
        {"NotAction": []},
    ],
    ids=str,
)
def test_what_is_not_minimal_is_no_policy_of_ours(change: dict[str, Any]) -> None:
    [first, *_] = policy_file("task-policy.json")["Statement"]
    with pytest.raises(ValueError, match=r"^not (a|of)"):
        granted({"Statement": [first | change]})


async def test_a_running_daemon_makes_each_of_these_calls_and_no_other(
    moto_endpoint: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    half_tags = {key: value for key, value in FULL_TAGS.items() if key != "MODEL_DB_MODEL_TYPE"}
    done, half = (
        Job("calls-done", description_file="hpo-child.json"),
        Job("calls-half", tags=half_tags),
    )
    unfinished = Job("calls-unfinished")
    async with (
        ModelDbV2StandIn() as modeldb,
        daemon_scene(moto_endpoint, modeldb.url, tmp_path) as scene,
    ):
        await scene.make_queues(f"q-{uuid.uuid4().hex[:8]}")
        scene.finish_jobs([done, half, Job("calls-unfinished", status="InProgress")])
        scene.finish_jobs([Job("calls-lost", created=time.time() - 7200)])
        scene.program = "tests.support.daemon_with_quick_probes"
        await scene.send([done.event, half.event, unfinished.event])
        daemon = scene.daemon(
            free_port(),
            aws={
                "account_id": None,
                "sts_endpoint_url": scene.sagemaker.url,
                "sagemaker_metrics_endpoint_url": scene.sagemaker.url,
            },
            jobs={"metric_series": True},
            reconcile={"every_seconds": 3600},
        )
        await daemon.start()
        await daemon.outcomes(2, outcome="synced")
        await daemon.outcomes(1, outcome="rejected")
        await daemon.outcomes(1, outcome="deferred")
        expected = {(call.service.removesuffix("-metrics"), call.operation) for call in CALLS}
        async with asyncio.timeout(20):
            while (made := calls_counted(await daemon.metrics())) < expected:
                await asyncio.sleep(0.1)
        assert made == expected
        assert await daemon.stop() == 0


def calls_counted(samples: Mapping[str, float]) -> set[tuple[str, str]]:
    """(service, operation) of every counted call."""
    labels = re.compile(
        r"modeldb_sync_aws_requests_total\{operation=(\w+),result=\w+,service=(\w+)\}"
    )
    return {(found[2], found[1]) for found in map(labels.fullmatch, samples) if found}


def test_ecs_itself_gets_what_it_needs_for_the_log(
    moto_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_no_value_out(monkeypatch)
    stack = Deployer(moto_endpoint).deploy(**FARGATE)
    role = stack.as_shipped(stack.resolved("ExecutionRole"))
    [written] = role["Policies"]
    # AWS ends the ARN of a log group with ":*" where a template asks for it; moto does not
    document = json.loads(
        json.dumps(written["PolicyDocument"]).replace("/ecs/modeldb-sync", "/ecs/modeldb-sync:*")
    )
    assert document == policy_file("execution-policy.json")
    assert role["AssumeRolePolicyDocument"] == policy_file("ecs-tasks-trust.json")
