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
    bench,
    edge_fault,
    event_body,
    mark_of,
    message,
)
from tests.unit.intake.test_poller import Polling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.flow_doubles import Bench

UNTAGGED_EVENT = event_body(Tags=None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.db"


@pytest_asyncio.fixture
async def stage(path: Path) -> AsyncIterator[Bench]:
    async with bench(path) as made:
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
    async with bench(path, age_seconds=60) as stage:
        match ended:
            case "deferred":
                stage.target.then_raise(JobFault(Reason.TARGET_FAULT, "the look-up failed"))
            case "rejected":
                stage.jobs.put("churn-1", tags={"MODEL_DB_SYNC": ""})
            case "skipped":
                stage.jobs.put("churn-1", tags={})
        await stage.process(message(UNTAGGED_EVENT))
        stage.jobs.put("churn-1", tags=TAGS)
        await stage.process(message(UNTAGGED_EVENT, receive_count=2))
        unanswered, looks_first = stage.target.told[-1]
        assert (unanswered, looks_first) == (0, True)


async def test_what_another_process_began_while_the_lease_was_lost_is_known(
    stage: Bench, path: Path
) -> None:
    """Held, lease gone, another process began a create and died: its unanswered write is in the
    row, not in our memory.
    """
    stage.target.then_raise(edge_fault(), begun=1, answered=1)
    entry = stage.receive()
    assert (await stage.flow.process(entry)).kind == "held"
    stage.clock.now += 61
    other = await open_sqlite_checkpoint(path, clock=stage.clock)
    claim = await other.claim(arn_of("churn-1"), 60.0)
    assert isinstance(claim, Claim)
    await other.begin_write(
        claim, mark_of("churn-1"), "churn-1", target="modeldb-v2", lock_name="run/x"
    )
    await other.aclose()
    entry.lose_lease()
    await stage.flow.process(entry)
    unanswered, _ = stage.target.told[-1]
    assert unanswered > 0


async def test_a_run_that_could_not_be_recorded_is_looked_up_before_it_is_written_again(
    stage: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The create was answered, then the disk was full: meanwhile a person may have renamed the run
    or changed the project's tag.
    """
    record = stage.checkpoint.record_synced

    async def disk_full(*_arguments: Any, **_members: Any) -> None:
        monkeypatch.setattr(stage.checkpoint, "record_synced", record)
        raise edge_fault(Edge.CHECKPOINT, Reason.STORAGE)

    monkeypatch.setattr(stage.checkpoint, "record_synced", disk_full)
    entry = stage.receive()
    assert (await stage.flow.process(entry)).kind == "held"
    await stage.flow.process(entry)
    _, looks_first = stage.target.told[-1]
    assert looks_first


async def test_a_bug_while_an_outcome_is_recorded_costs_the_message_a_retry(
    stage: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_arguments: Any, **_members: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(stage.checkpoint, "record_synced", broken)
    outcome = await stage.process()
    assert isinstance(outcome, Deferred)
    assert outcome.reason is Reason.INTERNAL_ERROR


async def test_a_joined_rejection_is_one_row_of_one_job(stage: Bench) -> None:
    stage.jobs.put("churn-1", tags={"MODEL_DB_SYNC": ""})
    await asyncio.gather(
        *(stage.start(message(UNTAGGED_EVENT, f"m-{number}"))[1] for number in range(2))
    )
    assert len(await stage.checkpoint.history(HistoryFilter())) == 1


async def test_a_job_claimed_elsewhere_during_a_hold_waits_for_the_others_lease(
    stage: Bench, path: Path
) -> None:
    stage.target.then_raise(edge_fault())
    entry = stage.receive()
    await stage.flow.process(entry)
    stage.clock.now += 61
    other = await open_sqlite_checkpoint(path, clock=stage.clock)
    await other.claim(arn_of("churn-1"), 42.0)
    outcome = await stage.flow.process(entry)
    await other.aclose()
    assert isinstance(outcome, Deferred)
    assert (outcome.reason, outcome.delay_seconds) == (Reason.CLAIMED_ELSEWHERE, 42.0)


async def test_a_lease_lost_in_a_hold_and_claimed_again_is_given_back_at_the_stop(
    stage: Bench, path: Path
) -> None:
    stage.back[Edge.TARGET].clear()
    stage.target.then_raise(edge_fault())
    second_attempt = stage.target.then_wait(begun=False)
    entry, handling = stage.start()
    await stage.waiting_for(Edge.TARGET)
    entry.lose_lease()
    stage.back[Edge.TARGET].set()
    await second_attempt.reached.wait()
    entry.give_back()
    async with asyncio.timeout(5):
        await handling
    _, outcome = stage.outcomes[-1]
    assert outcome.reason is Reason.STOPPING
    assert stage.queue.hidden == [("m-1/1", 0)]
    assert not await stage.is_claimed(path)


async def test_a_dead_letter_that_cannot_be_sent_is_one_outcome(stage: Bench) -> None:
    stage.queue.faults["send"] = deque([edge_fault(Edge.QUEUE)])
    await stage.handle(message("no event"))
    assert [(outcome.kind, outcome.reason) for _, outcome in stage.outcomes] == [
        ("deferred", Reason.DEAD_LETTER_FAILED)
    ]


async def test_a_foreign_job_is_remembered_by_its_arn(stage: Bench) -> None:
    await stage.process(message(event_body(arn=arn_of("churn-1", account="999999999999"))))
    [row] = await stage.checkpoint.history(HistoryFilter())
    assert (row.job_arn, row.reason) == (
        arn_of("churn-1", account="999999999999"),
        Reason.FOREIGN_ACCOUNT,
    )
