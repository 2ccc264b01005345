"""Replicas as real processes on one DynamoDB table, as on several hosts: they know nothing of each
other but what the table says.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from daemon.operations import fleet
from daemon.operations.reconcile import YOUNG_SECONDS
from daemon.targets.modeldb_v1.mapping import mark_in
from tests.support.daemon_process import Job, jobs_named, mark_of
from tests.support.dynamodb_tables import SERVERS, aws_credentials, make_table, place_on
from tests.support.recent_jobs import ended

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from daemon.aws.dynamodb import DynamoDbPlace
    from tests.support.daemon_process import DaemonProcess, DaemonScene
    from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

__all__ = ["aws_credentials"]

pytestmark = [
    pytest.mark.usefixtures("aws_credentials"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

SHORT_LEASES = "tests.support.daemon_with_short_leases"
START_SECONDS = 120.0
"""Until a replica is ready, on a machine that is busy."""


@pytest.fixture(params=SERVERS)
async def table(request: pytest.FixtureRequest, moto_endpoint: str) -> DynamoDbPlace:
    place = place_on(request.param, moto_endpoint)
    await make_table(place)
    return place


def section(table: DynamoDbPlace) -> Mapping[str, Any]:
    return {
        "kind": "dynamodb",
        "table": table.table,
        "region": table.region,
        "endpoint_url": table.endpoint_url,
    }


async def test_a_replica_that_is_paused_in_a_create_makes_no_second_run(
    scene: DaemonScene,
    modeldb: ModelDbV2StandIn,
    table: DynamoDbPlace,
    free_port: Callable[[], int],
) -> None:
    scene.program = SHORT_LEASES
    target = {"settle_seconds": 1}
    held = modeldb.faults.hold_next(operation="createExperimentRun")
    job = Job("paused")
    scene.finish_jobs([job])
    first = scene.daemon(free_port(), checkpoint=section(table), target=target)
    await first.start()
    await first.ready(START_SECONDS)
    await scene.send([job.event])
    async with asyncio.timeout(START_SECONDS):
        await held.reached.wait()
    first.signal(signal.SIGSTOP)
    second = scene.daemon(free_port(), checkpoint=section(table), target=target)
    await second.start()
    await second.ready(START_SECONDS)
    await scene.send([job.event])
    await second.outcomes(1, outcome="synced", seconds=START_SECONDS)
    held.release()  # what the first one sent is carried out only now
    first.signal(signal.SIGCONT)
    await first.logged(
        lambda line: (
            line["event"]
            == "paused in a write until its lease had ended: the target is asked again"
        )
    )
    await first.outcomes(1)
    assert [mark_of(run)[0] for run in modeldb.runs()] == [job.arn]
    assert [await daemon.stop() for daemon in (first, second)] == [0, 0]


async def test_another_replica_writes_to_modeldb_v1_when_the_writer_is_killed(
    scene_v1: DaemonScene,
    modeldb_v1: ModelDbV1StandIn,
    table: DynamoDbPlace,
    free_port: Callable[[], int],
) -> None:
    scene_v1.program = SHORT_LEASES
    first, second = [scene_v1.daemon(free_port(), checkpoint=section(table)) for _ in range(2)]
    await first.start()
    await first.logged(lambda line: line["event"] == "this process is the writer")
    await second.start()
    await second.ready(START_SECONDS)
    jobs = jobs_named("taken-over", 30)
    scene_v1.finish_jobs(jobs)
    await scene_v1.send([job.event for job in jobs[:20]])
    await first.outcomes(5, outcome="synced", seconds=START_SECONDS)
    assert (await second.metrics())["modeldb_sync_standing_by"] == 1
    await first.kill()
    # by now, it may have synchronised all of those
    await scene_v1.send([job.event for job in jobs[20:]])
    await second.logged(lambda line: line["event"] == "this process is the writer")
    await scene_v1.drained()
    made = Counter(mark_in(run["description"]) for run in modeldb_v1.runs)
    assert len(made) == 30
    assert set(made.values()) == {1}
    assert await second.outcomes(10, outcome="synced")
    assert await second.stop() == 0


async def test_the_replicas_are_shown_until_they_stop(
    scene: DaemonScene, table: DynamoDbPlace, free_port: Callable[[], int]
) -> None:
    first, second = [scene.daemon(free_port(), checkpoint=section(table)) for _ in range(2)]
    await first.start()
    await first.ready(START_SECONDS)
    await second.start()
    await second.ready(START_SECONDS)

    shown = await replicas_seen_by(second, 2)
    assert [each["this"] for each in shown] == [True, False]
    assert [each["state"] for each in shown] == ["ready", "ready"]
    assert len({each["name"] for each in shown}) == 2
    assert len({each["host"] for each in shown}) == 1
    assert "Replicas" in (await second.get("/"))[1]
    assert await first.stop() == 0
    third = scene.daemon(free_port(), checkpoint=section(table))
    await third.start()
    await third.ready(START_SECONDS)
    names = {each["name"] for each in await replicas_seen_by(third, 2)}
    assert shown[0]["name"] in names
    assert shown[1]["name"] not in names
    assert [await daemon.stop() for daemon in (second, third)] == [0, 0]


async def test_one_replica_makes_a_pass_of_reconcile_for_all(
    scene: DaemonScene,
    modeldb: ModelDbV2StandIn,
    table: DynamoDbPlace,
    free_port: Callable[[], int],
) -> None:
    scene.program = SHORT_LEASES
    lost = [ended(f"lost-{number}", 2 * YOUNG_SECONDS) for number in range(6)]
    scene.finish_jobs(lost)
    replicas = [
        scene.daemon(free_port(), checkpoint=section(table), reconcile={"every_seconds": 3600})
        for _ in range(2)
    ]
    for replica in replicas:
        await replica.start()
    for replica in replicas:
        await replica.ready(START_SECONDS)

    async def look(replica: DaemonProcess) -> dict[str, float]:
        """Its metrics after its first look at the passes that were made, by whichever replica."""
        while True:
            metrics = await replica.metrics()
            if metrics.get("modeldb_sync_reconcile_last_success_timestamp_seconds"):
                return metrics
            await asyncio.sleep(0.2)

    async with asyncio.timeout(START_SECONDS):
        seen = [await look(replica) for replica in replicas]
    async with asyncio.timeout(START_SECONDS):
        while len(modeldb.runs()) < len(lost):
            await asyncio.sleep(0.2)
    judged = [
        sum(
            value
            for name, value in metrics.items()
            if name.startswith("modeldb_sync_reconcile_jobs_total")
        )
        for metrics in seen
    ]
    assert sorted(judged) == [0, len(lost)]
    assert [await replica.stop() for replica in replicas] == [0, 0]


async def replicas_seen_by(daemon: DaemonProcess, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(3 * fleet.CHANGE_SECONDS):
        while True:
            answer = json.loads((await daemon.get("/api/status"))[1])
            found: list[dict[str, Any]] = answer["replicas"]
            if len(found) == count and "starting" not in {each["state"] for each in found}:
                return found
            await asyncio.sleep(0.2)
