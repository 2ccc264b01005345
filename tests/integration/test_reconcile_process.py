"""A running daemon finds the jobs whose events are lost: a real process, SQS (moto), and a
SageMaker with its rate limit.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from daemon.operations.reconcile import YOUNG_SECONDS
from tests.support.recent_jobs import ended
from tests.support.sagemaker_stub import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.daemon_process import DaemonScene
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

pytestmark = pytest.mark.slow  # the first pass is made ten seconds after the start

DENIED = Answer(
    400,
    json.dumps(
        {
            "__type": "AccessDeniedException",
            "Message": "User: arn:aws:sts::123456789012:assumed-role/x/y is not authorized to "
            "perform: sagemaker:ListTrainingJobs because no identity-based policy allows it",
        }
    ).encode(),
)


async def test_lost_events_are_found_by_the_running_daemon(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    announced = [ended(f"announced-{number:03}", YOUNG_SECONDS / 3) for number in range(120)]
    lost = [ended(f"lost-{number}", 2 * YOUNG_SECONDS + 60 * number) for number in range(6)]
    scene.finish_jobs([*announced, *lost])
    await scene.send(job.event for job in announced)
    daemon = scene.daemon(free_port(), reconcile={"every_seconds": 60})
    await daemon.start()

    await daemon.outcomes(126, outcome="synced")
    await daemon.logged(lambda line: line.get("origin") == "reconcile", times=6)
    metrics = await daemon.metrics()
    assert metrics["modeldb_sync_reconcile_jobs_total{result=enqueued}"] == 6
    assert metrics["modeldb_sync_event_to_sync_seconds_count"] == 120
    await scene.send(job.event for job in lost)
    late = await daemon.outcomes(6, outcome="duplicate")

    assert {line["reason"] for line in late} == {"already_synced"}
    assert len(modeldb.runs()) == 126
    assert (await daemon.metrics())["modeldb_sync_event_to_sync_seconds_count"] == 120
    async with asyncio.timeout(30):  # the lost ones are on the first of two pages
        while scene.sagemaker.lists.requests < 2:
            await asyncio.sleep(0.05)
    assert await daemon.stop() == 0


async def test_a_missing_permission_stops_nothing_and_is_said(
    scene: DaemonScene, free_port: Callable[[], int]
) -> None:
    job = ended("announced", 60)
    scene.finish_jobs([job])
    daemon = scene.daemon(free_port(), reconcile={"every_seconds": 60})
    with scene.sagemaker.failing("ListTrainingJobs", DENIED):
        await daemon.start()
        [warning] = await daemon.logged(
            lambda line: str(line.get("event")).startswith("jobs whose event was lost are not")
        )
        status, body = await daemon.get("/readyz")
        await scene.send([job.event])
        await daemon.outcomes(1, outcome="synced")

    assert "permission sagemaker:ListTrainingJobs is missing" in warning["detail"]
    assert status == 200
    assert json.loads(body)["checks"]["reconcile"] == f"access_denied: {warning['detail']}"
    assert (await daemon.metrics())["modeldb_sync_reconcile_fault"] == 1
    assert await daemon.stop() == 0
