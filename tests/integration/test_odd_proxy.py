"""The daemon as a process behind a proxy that gives odd answers: it lives, keeps its messages, uses
up no receive, and goes on by itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemon_process import jobs_named
from tests.support.mlflow_stand_in import MlflowStandIn
from tests.support.odd_answers import HTTP_ODDITIES
from tests.support.odd_proxy import OddProxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.daemon_process import DaemonScene
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

JOBS = 4
BEFORE, AFTER = jobs_named("before", 1), jobs_named("after", JOBS)
NAMES = sorted(job.name for job in (*BEFORE, *AFTER))


@pytest.mark.slow  # waits for probes of each edge
@pytest.mark.parametrize("edge", ["queue", "sagemaker", "target"])
async def test_a_daemon_behind_an_odd_proxy_loses_nothing_and_goes_on(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int], edge: str
) -> None:
    await go_on_behind_an_odd_proxy(scene, free_port, edge)
    assert sorted(run["name"] for run in modeldb.runs()) == NAMES


@pytest.mark.slow  # a daemon process and 200 probes of two calls each
async def test_mlflow_behind_an_odd_proxy_gets_each_run_once_and_whole(
    scene: DaemonScene, free_port: Callable[[], int]
) -> None:
    async with MlflowStandIn() as server:
        scene.target = {"kind": "mlflow", "tracking_uri": server.url}
        await go_on_behind_an_odd_proxy(scene, free_port, "target")
        runs, versions = server.model.runs(), server.model.model_versions()
    assert sorted(run["info"]["run_name"] for run in runs) == NAMES
    assert {run["info"]["status"] for run in runs} == {"FINISHED"}
    [params] = {tuple(map(str, run["data"]["params"])) for run in runs}
    assert params
    assert sorted(version["run_id"] for version in versions) == sorted(
        run["info"]["run_id"] for run in runs
    )


async def go_on_behind_an_odd_proxy(
    scene: DaemonScene, free_port: Callable[[], int], edge: str
) -> None:
    """Syncs `BEFORE`, gives all odd answers, and syncs `AFTER`."""
    address = "tracking_uri" if scene.target.get("kind") == "mlflow" else "url"
    behind = {
        "queue": scene.sqs_endpoint,
        "sagemaker": scene.sagemaker.url,
        "target": str(scene.target[address]),
    }[edge]
    scene.program = "tests.support.daemon_with_quick_probes"
    scene.finish_jobs([*BEFORE, *AFTER])
    async with OddProxy(behind) as proxy:
        sections: dict[str, dict[str, Any]] = {
            "queue": {"aws": {"sqs_endpoint_url": proxy.url}},
            "sagemaker": {"aws": {"sagemaker_endpoint_url": proxy.url}},
            "target": {"target": {**scene.target, address: proxy.url}},
        }[edge]
        sections["target"] = sections.get("target", {}) | {"settle_seconds": 1}
        aws = {
            "region": "eu-west-1",
            "account_id": "123456789012",
            "sqs_endpoint_url": scene.sqs_endpoint,
            "sagemaker_endpoint_url": scene.sagemaker.url,
        }
        sections["aws"] = aws | sections.get("aws", {})
        daemon = scene.daemon(free_port(), **sections)
        await daemon.start()
        await scene.send(job.event for job in BEFORE)
        await daemon.outcomes(1, outcome="synced")
        await scene.drained()  # its acknowledgement must not meet the odd answers
        giving = asyncio.create_task(proxy.give(HTTP_ODDITIES.values()))
        await asyncio.sleep(0)
        await scene.send(job.event for job in AFTER)
        async with asyncio.timeout(60):
            await giving
        await daemon.outcomes(1 + JOBS, outcome="synced")
        await scene.drained()
        metrics = await daemon.metrics()
        assert await daemon.stop() == 0
    assert metrics["modeldb_sync_messages_received_total"] == 1 + JOBS
    counted = {name for name, count in metrics.items() if "jobs_total{" in name and count}
    assert not [name for name in counted if "synced" not in name and "held" not in name]
    assert await scene.dead_letters() == []
