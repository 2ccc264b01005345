"""Commands of the runbook, and of the other guides, name what is there: queues, labels, addresses,
tasks.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from daemon.cli import VERBS
from tests.deploy.stacks import ecs_objections

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
GUIDES = sorted(
    [*(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md"), ROOT / "README.md"]
)


def commands(text: str, beginning: str) -> list[list[str]]:
    """The words of each indented command with this beginning, continued lines joined."""
    joined = re.sub(r"\\\n\s+", " ", text)
    return [shlex.split(line) for line in re.findall(rf"(?m)^ +({beginning} .*)$", joined)]


def test_every_move_of_messages_names_its_destination() -> None:
    """SQS knows the source only of messages that it moved itself, and the daemon's rejected ones
    were sent.
    """
    moves = {
        guide: commands(guide.read_text(encoding="utf-8"), "aws sqs start-message-move-task")
        for guide in GUIDES
    }
    assert {guide.name for guide, found in moves.items() if found} == {
        "README.md",
        "coming-from-the-sample.md",
        "runbook.md",
    }
    for found in moves.values():
        for words in found:
            options = dict(zip(words[3::2], words[4::2], strict=True))
            assert options == {
                "--source-arn": "arn:aws:sqs:REGION:ACCOUNT:modeldb-sync-dead-letters",
                "--destination-arn": "arn:aws:sqs:REGION:ACCOUNT:modeldb-sync",
            }


def test_labels_that_the_runbook_selects_by_are_on_the_manifests() -> None:
    selectors = set(re.findall(r"kubectl .*-l (\S+)=(\S+)", RUNBOOK))
    assert selectors
    stateful_set = yaml.safe_load(
        (ROOT / "deploy/kubernetes/base/stateful-set.yaml").read_text(encoding="utf-8")
    )
    on_both = (
        stateful_set["metadata"]["labels"].items()
        & stateful_set["spec"]["template"]["metadata"]["labels"].items()
    )
    assert selectors <= on_both


def test_kubectl_is_told_the_namespace_and_names_the_daemons_objects() -> None:
    called = [
        line for line in RUNBOOK.splitlines() if "kubectl " in line and "`kubectl" not in line
    ]
    assert called
    namespace = yaml.safe_load(
        (ROOT / "deploy/kubernetes/base/namespace.yaml").read_text(encoding="utf-8")
    )["metadata"]["name"]
    stateful_set = yaml.safe_load(
        (ROOT / "deploy/kubernetes/base/stateful-set.yaml").read_text(encoding="utf-8")
    )["metadata"]["name"]
    for line in called:
        assert f"kubectl -n {namespace} " in line
        assert (
            f"statefulset/{stateful_set}" in line
            or f"{stateful_set}-0" in line
            or "get statefulset" in line
        )


def test_addresses_that_the_runbook_asks_are_published_ones() -> None:
    """Names of compose's services lead somewhere inside its network only."""
    asked = re.findall(r"https?://([^/\s:`\"]+):(\d+)", RUNBOOK)
    assert {host for host, _ in asked} == {"localhost"}
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    published = {
        found
        for service in services.values()
        for port in service.get("ports", ())
        for found in re.findall(r":-(\d+)\}", port)
    }
    assert {port for _, port in asked} <= published


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: str(guide.relative_to(ROOT)))
def test_no_guide_asks_for_ecs_exec(guide: Path) -> None:
    """It needs a root file system that can be written, and is not turned on in what is shipped."""
    assert "execute-command" not in guide.read_text(encoding="utf-8")


def test_check_on_ecs_is_the_daemons_task_with_another_command() -> None:
    [words] = commands(RUNBOOK, "aws ecs run-task")
    options = dict(zip(words[3::2], words[4::2], strict=True))
    task = json.loads((ROOT / "deploy/ecs/task-definition.json").read_text(encoding="utf-8"))
    overrides = json.loads(options["--overrides"])
    [override] = overrides["containerOverrides"]
    [container] = task["containerDefinitions"]
    assert (options["--task-definition"], override["name"]) == (task["family"], container["name"])
    assert override["command"][0] in VERBS
    assert (
        ecs_objections("RunTask", {"taskDefinition": task["family"], "overrides": overrides}) == ""
    )
    log = container["logConfiguration"]["options"]
    assert (
        f"--log-group-name {log['awslogs-group']} --log-stream-names "
        f"{log['awslogs-stream-prefix']}/{container['name']}/TASK_ID" in RUNBOOK
    )
