"""Races and half-done things around one job: each was a defect once, found by reading the code
against the promise.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from daemon.checkpoint.ports import Claim, HistoryFilter
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.errors import JobFault
from daemon.outcome import Deferred, Edge, Reason
from tests.support.flow_doubles import (
    TAGS,
    a_while,
    arn_of,
    edge_fault,
    event_body,
    flow_scene,
    mark_of,
    message,
)
from tests.unit.intake.test_poller import Polling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.flow_doubles import FlowScene

UNTAGGED_EVENT = event_body(Tags=None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.db"


@pytest_asyncio.fixture
async def scene(path: Path) -> AsyncIterator[FlowScene]:
    async with flow_scene(path) as made:
        yield made


async def test_a_slot_that_comes_free_during_an_outage_leads_to_no_receive() -> None:
    """All slots were taken when the breaker opened; the poller had passed the gate before it waited
    for one.
    """
    async with Polling(slots=1) as polling:
        await polling.answer([message()])
        polling.open.clear()
        polling.slots.give_back(1)
        await a_while()
        assert polling.queue.receives == [1]


@pytest.mark.parametrize("ended", ["deferred", "rejected", "skipped"])
async def test_a_row_of_a_job_that_was_never_written_vouches_for_nothing(
    path: Path, ended: str
) -> None:
    """A young checkpoint got a row at the first delivery; at the second it still cannot know what a
    lost one knew.
    """
    async with flow_scene(path, age_seconds=60) as scene:
        match ended:
            case "deferred":
                scene.target.then_raise(JobFault(Reason.TARGET_FAULT, "the look-up failed"))
            case "rejected":
                scene.jobs.put("churn-1", tags={"MODEL_DB_SYNC": ""})
            case "skipped":
                scene.jobs.put("churn-1", tags={})
        await scene.process(message(UNTAGGED_EVENT))
        scene.jobs.put("churn-1", tags=TAGS)
        await scene.process(message(UNTAGGED_EVENT, receive_count=2))
        unanswered, looks_first = scene.target.told[-1]
        assert (unanswered, looks_first) == (0, True)


async def test_what_another_process_began_while_the_lease_was_lost_is_known(
    scene: FlowScene, path: Path
) -> None:
    """Held, lease gone, another process began a create and died: its unanswered write is in the
    row, not in our memory.
    """
    scene.target.then_raise(edge_fault(), begun=1, answered=1)
    delivery = scene.receive()
    assert (await scene.flow.process(delivery)).kind == "held"
    scene.clock.now += 61
    other = await open_sqlite_checkpoint(path, clock=scene.clock)
    claim = await other.claim(arn_of("churn-1"), 60.0)
    assert isinstance(claim, Claim)
    await other.begin_write(
        claim, mark_of("churn-1"), "churn-1", target="modeldb-v2", lock_name="run/x"
    )
    await other.aclose()
    delivery.lose_claim()
    await scene.flow.process(delivery)
    unanswered, _ = scene.target.told[-1]
    assert unanswered > 0


async def test_a_run_that_could_not_be_recorded_is_looked_up_before_it_is_written_again(
    scene: FlowScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The create was answered, then the disk was full: meanwhile a person may have renamed the run
    or changed the project's tag.
    """
    record = scene.checkpoint.record_synced

    async def disk_full(*_arguments: Any, **_members: Any) -> None:
        monkeypatch.setattr(scene.checkpoint, "record_synced", record)
        raise edge_fault(Edge.CHECKPOINT, Reason.STORAGE)

    monkeypatch.setattr(scene.checkpoint, "record_synced", disk_full)
    delivery = scene.receive()
    assert (await scene.flow.process(delivery)).kind == "held"
    await scene.flow.process(delivery)
    _, looks_first = scene.target.told[-1]
    assert looks_first


async def test_a_bug_while_an_outcome_is_recorded_costs_the_message_a_retry(
    scene: FlowScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_arguments: Any, **_members: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(scene.checkpoint, "record_synced", broken)
    outcome = await scene.process()
    assert isinstance(outcome, Deferred)
    assert outcome.reason is Reason.INTERNAL_ERROR


async def test_a_joined_rejection_is_one_row_of_one_job(scene: FlowScene) -> None:
    scene.jobs.put("churn-1", tags={"MODEL_DB_SYNC": ""})
    await asyncio.gather(
        *(scene.start(message(UNTAGGED_EVENT, f"m-{number}"))[1] for number in range(2))
    )
    assert len(await scene.checkpoint.history(HistoryFilter())) == 1


async def test_a_job_claimed_elsewhere_during_a_hold_waits_for_the_others_lease(
    scene: FlowScene, path: Path
) -> None:
    scene.target.then_raise(edge_fault())
    delivery = scene.receive()
    await scene.flow.process(delivery)
    scene.clock.now += 61
    other = await open_sqlite_checkpoint(path, clock=scene.clock)
    await other.claim(arn_of("churn-1"), 42.0)
    outcome = await scene.flow.process(delivery)
    await other.aclose()
    assert isinstance(outcome, Deferred)
    assert (outcome.reason, outcome.delay_seconds) == (Reason.CLAIMED_ELSEWHERE, 42.0)


async def test_a_lease_lost_in_a_hold_and_claimed_again_is_given_back_at_the_stop(
    scene: FlowScene, path: Path
) -> None:
    scene.back[Edge.TARGET].clear()
    scene.target.then_raise(edge_fault())
    second_attempt = scene.target.then_wait(begun=False)
    delivery, handling = scene.start()
    await scene.waiting_for(Edge.TARGET)
    delivery.lose_claim()
    scene.back[Edge.TARGET].set()
    await second_attempt.reached.wait()
    delivery.give_back()
    async with asyncio.timeout(5):
        await handling
    _, outcome = scene.outcomes[-1]
    assert outcome.reason is Reason.STOPPING
    assert scene.queue.hidden == [("m-1/1", 0)]
    assert not await scene.is_claimed(path)


async def test_a_dead_letter_that_cannot_be_sent_is_one_outcome(scene: FlowScene) -> None:
    scene.queue.faults["send"] = deque([edge_fault(Edge.QUEUE)])
    await scene.handle(message("no event"))
    assert [(outcome.kind, outcome.reason) for _, outcome in scene.outcomes] == [
        ("deferred", Reason.DEAD_LETTER_FAILED)
    ]


async def test_a_foreign_job_is_remembered_by_its_arn(scene: FlowScene) -> None:
    await scene.process(message(event_body(arn=arn_of("churn-1", account="999999999999"))))
    [row] = await scene.checkpoint.history(HistoryFilter())
    assert (row.job_arn, row.reason) == (
        arn_of("churn-1", account="999999999999"),
        Reason.FOREIGN_ACCOUNT,
    )
