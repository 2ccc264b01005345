"""One job through the flow, now: what becomes of it, and what is said."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from daemon.checkpoint.ports import JobState
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.errors import EdgeFault, JobFault, JobRefused, SetupFault
from daemon.operations import sync_one
from daemon.operations.sync_one import JobName, SyncOne, SyncResult, renew_claims
from daemon.reasons import Edge, Reason
from daemon.story import StoryEvent
from daemon.training_job.identity import Home
from tests.support.flow_scene import (
    ACCOUNT,
    REGION,
    TAGS,
    arn_of,
    edge_fault,
    flow_scene,
    message,
    without,
)
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn
from tests.support.modeldb_v2_target import target_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.flow_scene import FlowScene

CHURN = JobName("churn-1")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_one, "PAUSE_SECONDS", 0.01)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[FlowScene]:
    async with flow_scene(tmp_path / "checkpoint.db") as made:
        yield made


def one_of(scene: FlowScene, **options: Any) -> SyncOne:
    options.setdefault("patience_seconds", 0.05)
    return SyncOne(scene.flow, scene.jobs, scene.checkpoint, scene.in_flight, **options)


async def sync(scene: FlowScene, wanted: JobName = CHURN, *, force: bool = False) -> SyncResult:
    async with asyncio.timeout(5):
        result = await one_of(scene).sync(wanted, force=force)
    assert len(scene.in_flight) == 0
    assert SyncResult.of_document(json.loads(json.dumps(result.as_document()))).text == result.text
    return result


async def test_a_new_job_is_synced_after_a_look_up(scene: FlowScene) -> None:
    result = await sync(scene)

    assert (result.outcome, result.reason, result.succeeded) == ("synced", "created", True)
    assert result.text == "churn-1 is synced: its run was created"
    assert result.target_ids == {"run_id": "id-of-churn-1"}
    assert scene.target.attempts == [(0, True)]  # the checkpoint vouches for no such message
    row = await scene.row()
    assert (row.state, row.message_id) == (JobState.SYNCED, result.message_id)
    assert result.message_id.startswith("sync-")


async def test_a_synced_job_is_left_alone(scene: FlowScene) -> None:
    await sync(scene)
    result = await sync(scene, JobName.parse(arn_of("churn-1")))

    assert (result.outcome, result.succeeded) == ("duplicate", True)
    assert "nothing was written" in result.text
    assert result.target_ids == {"run_id": "id-of-churn-1"}
    assert len(scene.target.attempts) == 1


@pytest.mark.parametrize(
    ("tags", "outcome", "reason", "state", "said"),
    [
        ({}, "skipped", "not_tagged", JobState.SKIPPED, "add the tag"),
        (
            without("MODEL_DB_MODEL_NAME"),
            "rejected",
            "tags_incomplete",
            JobState.REJECTED,
            "MODEL_DB_MODEL_NAME",
        ),
    ],
)
async def test_what_its_tags_lack_is_said_and_recorded(
    scene: FlowScene, tags: dict[str, str], outcome: str, reason: str, state: JobState, said: str
) -> None:
    scene.jobs.put("churn-1", tags=tags)
    result = await sync(scene)

    assert (result.outcome, result.reason, result.succeeded) == (outcome, reason, False)
    assert said in result.text + result.next_step
    assert (await scene.row()).state is state
    assert scene.queue.dead_letters == []
    scene.jobs.put("churn-1", tags=TAGS)
    assert (await sync(scene)).outcome == "synced"


async def test_an_unfinished_job_is_synced_by_the_event_of_its_end(scene: FlowScene) -> None:
    scene.jobs.put("churn-1", TrainingJobStatus="InProgress")
    result = await sync(scene)

    assert (result.outcome, result.reason) == ("deferred", "not_terminal")
    assert "InProgress" in result.text
    assert "the event of its end" in result.next_step


async def test_an_unknown_job_is_not_recorded(scene: FlowScene) -> None:
    scene.jobs.faults["describe"] = _deque(JobRefused(Reason.JOB_GONE, "not found"))
    result = await sync(scene)

    assert (result.outcome, result.succeeded) == ("unknown_job", False)
    assert f"does not know a training job churn-1 in account {ACCOUNT} in {REGION}" in result.text
    assert await scene.rows() == []


async def test_a_job_that_is_gone_but_recorded_is_there(scene: FlowScene) -> None:
    await sync(scene)
    scene.jobs.faults["describe"] = _deque(JobRefused(Reason.JOB_GONE, "not found"))
    result = await sync(scene)

    assert (result.outcome, result.target_ids) == ("duplicate", {"run_id": "id-of-churn-1"})
    assert "does not have churn-1 any more; it was synced on" in result.text


async def test_a_job_that_is_gone_with_an_unanswered_write_is_looked_for(scene: FlowScene) -> None:
    scene.target.then_raise(edge_fault(), begun=1)
    assert (await sync_within(scene, 0)).outcome == "held"
    scene.jobs.faults["describe"] = _deque(
        *(JobRefused(Reason.JOB_GONE, "not found") for _ in range(2))
    )
    result = await sync(scene)

    assert (result.outcome, result.reason) == ("rejected", "job_gone")
    assert (await scene.row()).state is JobState.REJECTED


@pytest.mark.parametrize(
    "arn", [arn_of("churn-1", account="999999999999"), arn_of("c", region="x-1")]
)
async def test_a_foreign_job_is_not_asked_for(scene: FlowScene, arn: str) -> None:
    result = await sync(scene, JobName.parse(arn))

    assert (result.outcome, result.reason) == ("rejected", "foreign_account")
    assert f"this configuration works for {ACCOUNT} in {REGION}" in result.text
    assert scene.jobs.asked == []
    assert await scene.rows() == []


@pytest.mark.parametrize("text", ["", "a b", "x" * 64, "arn:aws:s3:::bucket", "arn:aws:sagemaker"])
def test_what_is_no_job_is_an_error_of_usage(text: str) -> None:
    with pytest.raises(SetupFault, match="JOB: "):
        JobName.parse(text)


async def test_another_process_is_waited_for_and_then_named(
    scene: FlowScene, tmp_path: Path
) -> None:
    other = await open_sqlite_checkpoint(tmp_path / "checkpoint.db", scene.checkpoint.target)
    claim = await other.claim(arn_of("churn-1"), 60)
    said: list[str] = []
    result = await one_of(scene, say=said.append).sync(CHURN)

    assert (result.outcome, result.reason) == ("deferred", "claimed_elsewhere")
    assert claim.owner in result.text
    assert " until " in result.text
    assert any("another process" in each for each in said)
    assert scene.target.attempts == []
    syncing = asyncio.create_task(one_of(scene, patience_seconds=5).sync(CHURN))
    await asyncio.sleep(0.02)
    await other.aclose()  # its claims end with it
    assert (await syncing).outcome == "synced"


async def sync_within(scene: FlowScene, seconds: float) -> SyncResult:
    return await one_of(scene, patience_seconds=seconds).sync(CHURN)


async def test_a_fault_of_an_edge_is_waited_for(scene: FlowScene) -> None:
    scene.target.then_raise(edge_fault())
    scene.jobs.faults["describe"] = _deque(edge_fault(Edge.SAGEMAKER))
    result = await sync_within(scene, 5)

    assert result.outcome == "synced"


async def test_a_lasting_fault_is_said_and_the_claim_released(
    scene: FlowScene, tmp_path: Path
) -> None:
    for _ in range(100):
        scene.target.then_raise(edge_fault())
    result = await sync(scene)

    assert (result.outcome, result.reason) == ("held", "unavailable")
    assert result.text == (
        "churn-1 is not synced: the target did not work for 0.05 s (unavailable): the target does "
        "not work"
    )
    assert not await scene.is_claimed(tmp_path / "checkpoint.db")


async def test_what_waiting_cannot_cure_is_not_waited_for(scene: FlowScene) -> None:
    fault = EdgeFault(Edge.TARGET, Reason.NOT_THE_API, "a web page", curable=False)
    scene.target.then_raise(fault)
    assert (await sync_within(scene, 60)).reason == "not_the_api"
    scene.target.then_raise(JobFault(Reason.TARGET_FAULT, "a bad moment"))
    result = await sync_within(scene, 60)
    assert (result.outcome, result.reason) == ("deferred", "target_fault")


async def test_an_interrupted_job_is_released(scene: FlowScene, tmp_path: Path) -> None:
    waiting = scene.target.then_wait(begun=False)
    one = one_of(scene)
    syncing = asyncio.create_task(one.sync(CHURN))
    await waiting.reached.wait()
    one.stop()
    result = await syncing

    assert (result.outcome, waiting.cancelled) == ("interrupted", True)
    assert "nothing is half-written" in result.text
    assert not await scene.is_claimed(tmp_path / "checkpoint.db")


async def test_a_write_under_way_is_finished_first(scene: FlowScene) -> None:
    waiting = scene.target.then_wait(begun=True)
    one = one_of(scene)
    syncing = asyncio.create_task(one.sync(CHURN))
    await waiting.reached.wait()
    one.stop()
    waiting.go_on.set()

    assert (await syncing).outcome == "synced"


async def test_a_write_without_an_answer_keeps_its_row(scene: FlowScene) -> None:
    waiting = scene.target.then_wait(begun=True)
    one = one_of(scene)
    syncing = asyncio.create_task(one.sync(CHURN))
    await waiting.reached.wait()
    one.abandon()
    result = await syncing

    assert result.outcome == "interrupted"
    assert "a write had no answer, and the checkpoint keeps that" in result.text
    assert (await scene.row()).state is JobState.WRITING
    await sync(scene)
    assert scene.target.attempts[-1] == (1, True)


async def test_a_stop_ends_the_wait_for_sagemaker(scene: FlowScene) -> None:
    scene.jobs.faults["describe"] = _deque(*(edge_fault(Edge.SAGEMAKER) for _ in range(1000)))
    waiting: list[SyncOne] = []
    one = one_of(scene, patience_seconds=60, say=lambda _sentence: waiting[0].stop())
    waiting.append(one)

    assert (await one.sync(CHURN)).outcome == "interrupted"


async def test_a_message_in_flight_about_the_job_is_joined(scene: FlowScene) -> None:
    """Within a daemon, the ledger is shared: forced, its own turn comes afterwards."""
    waiting = scene.target.then_wait(begun=False)
    _, working = scene.start(message())
    await waiting.reached.wait()
    joining = asyncio.create_task(one_of(scene).sync(CHURN))
    forced = asyncio.create_task(one_of(scene).sync(CHURN, force=True))
    await asyncio.sleep(0.02)
    waiting.go_on.set()
    await working

    assert ((await joining).outcome, (await joining).reason) == ("duplicate", "joined")
    assert (await forced).outcome == "synced"
    assert len(scene.target.attempts) == 2


async def test_claims_are_renewed_until_one_is_lost(scene: FlowScene) -> None:
    waiting = scene.target.then_wait(begun=False)
    syncing = asyncio.create_task(one_of(scene).sync(CHURN))
    await waiting.reached.wait()
    renewals: list[int] = []

    async def renew(claims: Any, lease_seconds: float) -> Any:
        renewals.append(len(claims))
        if len(renewals) == 1:
            raise edge_fault(Edge.CHECKPOINT)
        if len(renewals) > 3:
            await asyncio.Event().wait()  # nothing shortens the lease of the next claim
        return claims if len(renewals) == 3 else ()

    scene.checkpoint.renew = renew  # type: ignore[method-assign]
    renewing = asyncio.create_task(renew_claims(scene.checkpoint, scene.in_flight, 0.01))
    result = await syncing
    renewing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await renewing

    assert renewals[:3] == [1, 1, 1]
    # the claim was taken for lost, so the attempt ended; the next one works
    assert (waiting.cancelled, result.outcome) == (True, "synced")


async def test_force_repairs_what_differs_and_makes_no_second_run(tmp_path: Path) -> None:
    async with ModelDbV2StandIn() as server, target_of(server.url) as target:
        async with flow_scene(tmp_path / "checkpoint.db", target=target) as scene:
            first = await sync(scene)
            unforced = await sync(scene)
            same = await sync(scene, force=True)
            scene.jobs.put("churn-1", tags={**TAGS, "MODEL_DB_MODEL_TYPE": "LightGBM"})
            forced = await sync(scene, force=True)
            row = await scene.row()
            story = await scene.checkpoint.story(row.job_arn)

        [run] = server.runs()
        assert unforced.outcome == "duplicate"
        assert (same.reason, same.changed) == ("found_in_target", ())
        assert (forced.outcome, forced.reason) == ("synced", "repaired")
        assert forced.text == "churn-1 is synced: its run was there, and was repaired"
        assert "tag 'LightGBM' (missing)" in forced.changed
        assert run["tags"] == ["sagemaker", "LightGBM"]
        assert (row.state, row.reason) == (JobState.SYNCED, "repaired")
        assert "tag 'LightGBM' (missing)" in row.detail
        told = [entry.what for entry in story]
        assert told[-2:] == [StoryEvent.REPAIRED, StoryEvent.OUTCOME]
        assert row.target_ids["run_id"] == run["id"] == (first.target_ids or {})["run_id"]


async def test_force_fails_without_unsyncing(tmp_path: Path) -> None:
    async with (
        ModelDbV2StandIn() as server,
        target_of(server.url) as target,
        flow_scene(tmp_path / "checkpoint.db", target=target) as scene,
    ):
        await sync(scene)
        scene.jobs.put("churn-1", tags={**TAGS, "MODEL_DB_MODEL_TYPE": "LightGBM"})
        server.faults.refuse_next(9, 503, {"code": 14, "message": "transport is closing"})
        forced = await one_of(scene, patience_seconds=0).sync(CHURN, force=True)

        assert (forced.outcome, forced.reason) == ("held", "unavailable")
        assert (await scene.row()).state is JobState.SYNCED


async def test_a_name_without_a_known_account_is_described(scene: FlowScene) -> None:
    scene.jobs.home = Home(None, REGION)

    assert (await sync(scene)).outcome == "synced"


def _deque(*faults: Exception) -> deque[Exception]:
    return deque(faults)
