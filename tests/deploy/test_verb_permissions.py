"""The permissions of each verb in docs/operations.md are those of the calls that it makes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from daemon.clock import wall
from tests.deploy.aws_calls import DEAD_LETTERS, QUEUE, ROOT
from tests.integration.test_cli import config_of, verb_process
from tests.support.aws_gate import AwsGate
from tests.support.daemon_process import ACCOUNT, REGION, DaemonScene, Job

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.slow,  # a real daemon, and a process for each verb
    pytest.mark.timeout(400),  # on a loaded machine
]

SAGEMAKER = "SageMaker"
MOVE_TASKS = {"StartMessageMoveTask", "ListMessageMoveTasks", "CancelMessageMoveTask"}
"""moto has none of them: tests/integration tests those of ElasticMQ."""


def documented() -> dict[str, set[tuple[str, str]]]:
    """(where, operation) of each verb in the document's table."""
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    table = text.partition("\n## Permissions of each verb\n")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| `([a-z-]+(?: [a-z]+)?)` \| (.*?) \| (.*?) \| (.*?) \|$", table)
    return {
        verb: {
            (where, operation)
            for where, cell in zip((QUEUE, DEAD_LETTERS, SAGEMAKER), cells, strict=True)
            for operation in re.findall(r"`(?:sqs|sagemaker):(\w+)`", cell)
        }
        for verb, *cells in rows
    }


async def test_each_verb_calls_what_the_table_says_and_nothing_else(
    scene: DaemonScene, free_port: Callable[[], int]
) -> None:
    child = Job("perm-child", created=wall() - 600, description_file="hpo-child.json")
    half = Job("perm-half", {"MODEL_DB_SYNC": "x"}, wall() - 500)
    lost = Job("perm-lost", created=wall() - 400)
    scene.finish_jobs([child, half, lost])
    daemon = scene.daemon(free_port())
    await daemon.start()
    await scene.send([half.event, half.event.replace("perm-half", "perm-gone")])
    await daemon.outcomes(2, outcome="rejected")
    assert await daemon.stop() == 0

    made: dict[str, set[tuple[str, str]]] = {}
    async with AwsGate(scene.sqs_endpoint) as sqs, AwsGate(scene.sagemaker.url) as sagemaker:
        queue_path = scene.queue_url.partition("//")[2].partition("/")[2]
        aws = {
            "region": REGION,
            "account_id": ACCOUNT,
            "sqs_endpoint_url": sqs.url,
            "sagemaker_endpoint_url": sagemaker.url,
            "sagemaker_metrics_endpoint_url": scene.sagemaker.url,
            "sts_endpoint_url": scene.sagemaker.url,
        }
        config = config_of(scene, aws=aws, jobs={"metric_series": True})
        for name, command in (
            ("check", ["check"]),
            ("history", ["history"]),
            ("explain", ["explain", "perm-half"]),
            ("sync", ["sync", "perm-child"]),
            ("backfill", ["backfill", "--since", "1d"]),
            ("dead-letters list", ["dead-letters", "list"]),
            ("dead-letters redrive", ["dead-letters", "redrive", "--job", "perm-half"]),
            ("dead-letters purge", ["dead-letters", "purge", "--all", "--yes"]),
        ):
            sqs.called.clear()
            sagemaker.called.clear()
            scene.sagemaker.requests.clear()
            done = await verb_process(*command, "--config", config)
            assert done.returncode == 0, done.stdout + done.stderr
            made[name] = {
                (QUEUE if url.endswith(queue_path) else DEAD_LETTERS, operation)
                for operation, url in sqs.called
            } | {(SAGEMAKER, operation) for operation, _ in sagemaker.called}
            if scene.sagemaker.count("BatchGetMetrics"):
                made[name].add((SAGEMAKER, "BatchGetMetrics"))
            made[name] = {
                (where, operation.removesuffix("Batch")) for where, operation in made[name]
            }
    told = {
        verb: {(where, operation) for where, operation in calls if operation not in MOVE_TASKS}
        for verb, calls in documented().items()
    }
    assert made == told
