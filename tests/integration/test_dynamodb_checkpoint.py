"""The daemon as real processes on a checkpoint in DynamoDB: killed, throttled, without a table."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemon_process import jobs_named, mark_of
from tests.support.dynamodb_gate import THROTTLED, DynamoDbGate, Fault
from tests.support.dynamodb_tables import SERVERS, aws_credentials, make_table, place_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.aws.dynamodb import DynamoDbPlace
    from tests.support.daemon_process import DaemonScene
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

__all__ = ["aws_credentials"]

pytestmark = pytest.mark.usefixtures("aws_credentials")


@pytest.fixture(params=SERVERS)
def place(request: pytest.FixtureRequest, moto_endpoint: str) -> DynamoDbPlace:
    """Of a table that does not exist yet."""
    return place_on(request.param, moto_endpoint)


def section(place: DynamoDbPlace) -> dict[str, Any]:
    return {
        "kind": "dynamodb",
        "table": place.table,
        "region": place.region,
        "endpoint_url": place.endpoint_url,
    }


def gate_before(place: DynamoDbPlace) -> DynamoDbGate:
    assert place.endpoint_url is not None
    return DynamoDbGate(place.endpoint_url)


def gated(place: DynamoDbPlace, gate: DynamoDbGate) -> dict[str, Any]:
    """The section for a daemon behind the gate."""
    return section(replace(place, endpoint_url=gate.url))


@pytest.mark.slow  # the leases of a killed daemon end after 60 s, and count for 30 s more
@pytest.mark.timeout(400)
async def test_jobs_of_a_killed_daemon_end_once(
    scene: DaemonScene,
    modeldb: ModelDbV2StandIn,
    place: DynamoDbPlace,
    free_port: Callable[[], int],
) -> None:
    await make_table(place)
    jobs = jobs_named("killed", 20)
    scene.finish_jobs(jobs)
    # the settle time and the visibility timeout are what the next daemon waits for
    target = {"settle_seconds": 1}
    first = scene.daemon(free_port(), checkpoint=section(place), target=target)
    await first.start()
    await first.ready(60)
    await scene.send(job.event for job in jobs[:10])
    await first.outcomes(2, outcome="synced")
    await first.kill()
    await scene.send([job.event for job in jobs[10:]] + [job.event for job in jobs[:5]])

    second = scene.daemon(free_port(), checkpoint=section(place), target=target)
    await second.start()
    await scene.drained(300)

    assert sorted(mark_of(run)[0] for run in modeldb.runs()) == sorted(job.arn for job in jobs)
    counted = await second.metrics()
    assert counted["modeldb_sync_aws_requests_total{operation=PutItem,result=ok,service=dynamodb}"]
    status, page = await second.get("/api/jobs?limit=50")
    assert status == 200
    shown = [(job["name"], job["outcome"]) for job in json.loads(page)["jobs"]]
    assert sorted(shown) == sorted((job.name, "synced") for job in jobs)
    assert await second.stop() == 0


@pytest.mark.parametrize("place", ["moto"], indirect=True)
async def test_a_throttled_table_holds_every_job_and_loses_none(
    scene: DaemonScene,
    modeldb: ModelDbV2StandIn,
    place: DynamoDbPlace,
    free_port: Callable[[], int],
) -> None:
    await make_table(place)
    jobs = jobs_named("throttled", 10)
    scene.finish_jobs(jobs)
    scene.program = "tests.support.daemon_with_quick_probes"
    async with gate_before(place) as gate:
        daemon = scene.daemon(free_port(), checkpoint=gated(place, gate))
        await daemon.start()
        await daemon.ready(60)
        gate.fault = Fault(THROTTLED)
        await scene.send(job.event for job in jobs)
        [opened, *_] = await daemon.logged(
            lambda line: line.get("event") == "breaker opened" and line["edge"] == "checkpoint"
        )
        status, ready = await daemon.get("/readyz")
        gate.fault = None
        await daemon.outcomes(10, outcome="synced")
        await scene.drained()

    assert opened["reason"] == "throttled"
    assert "switch the table to on-demand" in opened["detail"]
    assert status == 503
    assert "throttled" in ready
    assert len(modeldb.runs()) == 10
    ended = {line["outcome"] for line in await daemon.outcomes(10)}
    assert ended == {"synced"}, "held is no end, and nothing was deferred or rejected"


@pytest.mark.slow  # waits for a time-out
@pytest.mark.parametrize("place", ["moto"], indirect=True)
async def test_a_table_that_cannot_be_asked_at_the_start_is_waited_for(
    scene: DaemonScene, place: DynamoDbPlace, free_port: Callable[[], int]
) -> None:
    await make_table(place)
    async with gate_before(place) as gate:
        gate.fault = Fault("InternalServerError", status=500)
        daemon = scene.daemon(free_port(), checkpoint=gated(place, gate))
        await daemon.start()
        await daemon.logged(lambda line: line.get("event") == "probe failed", seconds=60)
        assert (await daemon.get("/healthz"))[0] == 200
        assert (await daemon.get("/readyz"))[0] == 503
        gate.fault = None
        await daemon.ready(60)

        assert await daemon.stop() == 0


@pytest.mark.parametrize("place", ["moto"], indirect=True)
async def test_a_daemon_without_a_table_ends_and_says_how_to_make_one(
    scene: DaemonScene, place: DynamoDbPlace, free_port: Callable[[], int]
) -> None:
    daemon = scene.daemon(free_port(), checkpoint=section(place))
    await daemon.start()

    assert await daemon.ended(90) == 2

    assert "checkpoint create-table" in daemon.log[-1]["event"]


@pytest.mark.parametrize("place", ["moto"], indirect=True)
async def test_a_stop_that_cannot_delete_its_note_is_clean(
    scene: DaemonScene, place: DynamoDbPlace, free_port: Callable[[], int]
) -> None:
    """Nothing decides anything by the note, and the others say that its replica has vanished."""
    await make_table(place)
    async with gate_before(place) as gate:
        daemon = scene.daemon(free_port(), checkpoint=gated(place, gate))
        await daemon.start()
        await daemon.ready(60)
        gate.fault = Fault(operations=("DeleteItem",), silent_seconds=5)

        assert await daemon.stop() == 0

    [line] = await daemon.logged(lambda line: line.get("event") == "a part did not close in time")
    assert line["part"] == "note of this replica"
    [stopped] = await daemon.logged(lambda line: line.get("event") == "stopped")
    assert stopped["unclean"] == []
