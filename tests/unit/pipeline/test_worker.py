"""The worker: a message is acknowledged only after its outcome is durable, held while an edge is
down, and given back in good order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from daemon.checkpoint.ports import Claim, HistoryFilter, JobState
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.errors import JobFault, JobRefused
from daemon.intake.in_flight import LONGEST_IN_FLIGHT_SECONDS, RELEASE_AFTER_SECONDS
from daemon.outcome import Deferred, Duplicate, Edge, Reason
from tests.support.flow_doubles import (
    DEAD_LETTER_URL,
    SETTLE_SECONDS,
    TAGS,
    Waiting,
    a_while,
    arn_of,
    bench,
    edge_fault,
    event_body,
    mark_of,
    message,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from daemon.checkpoint.ports import JobRecord
    from daemon.errors import EdgeFault
    from daemon.intake.in_flight import Entry
    from tests.support.flow_doubles import Bench

MARK = mark_of("churn-1")
STORAGE = edge_fault(Edge.CHECKPOINT, Reason.STORAGE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.db"


@pytest_asyncio.fixture
async def stage(path: Path) -> AsyncIterator[Bench]:
    async with bench(path) as made:
        yield made


async def row(stage: Bench) -> JobRecord:
    record = await stage.checkpoint.job(MARK)
    assert record is not None
    return record


def fail(stage: Bench, call: str, monkeypatch: pytest.MonkeyPatch, times: int = 1) -> None:
    """The next calls of the checkpoint fail as on a full disk."""
    real = getattr(stage.checkpoint, call)
    left = [STORAGE] * times

    async def failing(*args: object, **kwargs: object) -> object:
        if left:
            raise left.pop()
        return await real(*args, **kwargs)

    monkeypatch.setattr(stage.checkpoint, call, failing)


async def ended(task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(5):
        await task


# Order
# ---


async def test_a_message_is_deleted_after_its_outcome_is_durable(stage: Bench, path: Path) -> None:
    seen: list[tuple[str, JobState]] = []

    async def witness(call: str) -> None:
        other = await open_sqlite_checkpoint(
            path, clock=stage.clock
        )  # as another process would find it
        record = await other.job(MARK)
        await other.aclose()
        assert record is not None
        seen.append((call, record.state))

    stage.queue.witness = witness
    assert (await stage.handle()).kind == "synced"
    assert seen == [("delete", JobState.SYNCED)]
    assert stage.queue.deleted == ["m-1/1"]


async def test_a_rejection_is_recorded_then_sent_then_deleted(stage: Bench) -> None:
    seen: list[tuple[str, str]] = []

    async def witness(call: str) -> None:
        [kept] = await stage.checkpoint.rejected_messages()
        seen.append((call, kept.reason))

    stage.queue.witness = witness
    stage.jobs.put("churn-1", tags={"MODEL_DB_SYNC": ""})
    body = event_body(Tags=None)
    outcome = await stage.handle(message(body))
    assert seen == [("send", "tags_incomplete"), ("delete", "tags_incomplete")]
    [(url, sent, attributes)] = stage.queue.dead_letters
    assert (url, sent) == (DEAD_LETTER_URL, body)
    assert attributes == {"reason": "tags_incomplete", "detail": outcome.detail}
    assert stage.queue.deleted == ["m-1/1"]


@pytest.mark.parametrize("call", ["record_synced", "record_rejected", "record_skipped"])
async def test_a_record_that_fails_holds_the_message(
    stage: Bench, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = {"record_rejected": {"MODEL_DB_SYNC": ""}, "record_skipped": {}}.get(call, TAGS)
    stage.jobs.put("churn-1", tags=tags)
    fail(stage, call, monkeypatch)
    stage.back[Edge.CHECKPOINT].clear()
    _, task = stage.start(message(event_body(Tags=None)))
    await stage.waiting_for(Edge.CHECKPOINT)
    await a_while()
    assert not stage.queue.batches
    stage.back[Edge.CHECKPOINT].set()
    await ended(task)
    assert stage.queue.deleted == ["m-1/1"]
    assert [outcome.kind for _, outcome in stage.outcomes] == ["held", call.removeprefix("record_")]


async def test_a_duplicate_and_a_skipped_message_are_deleted(stage: Bench) -> None:
    await stage.handle()
    assert (await stage.handle(message(message_id="m-2"))).kind == "duplicate"
    assert (await stage.handle(message('{"Event": "s3:TestEvent"}', "m-3"))).kind == "skipped"
    assert stage.queue.deleted == ["m-1/1", "m-2/1", "m-3/1"]


# Dead letters
# ---


@pytest.mark.parametrize(
    ("reason", "opens"),
    [
        (Reason.UNREACHABLE, True),
        (Reason.THROTTLED, True),
        (Reason.CREDENTIALS, True),
        (Reason.ACCESS_DENIED, False),
        (Reason.NOT_FOUND, False),
    ],
)
async def test_a_dead_letter_that_cannot_be_sent_defers(
    stage: Bench, reason: Reason, *, opens: bool
) -> None:
    stage.queue.faults["send"] = deque([edge_fault(Edge.QUEUE, reason)])
    outcome = await stage.handle(message("no event", receive_count=3))
    assert isinstance(outcome, Deferred)
    assert outcome.reason is Reason.DEAD_LETTER_FAILED
    assert not stage.queue.deleted
    [(handle, seconds)] = stage.queue.hidden
    assert handle == "m-1/3"
    assert 20 <= seconds <= 40
    assert [fault.edge for fault in stage.faults] == ([Edge.QUEUE] if opens else [])
    await stage.handle(message("no event", receive_count=4))
    assert stage.queue.deleted == ["m-1/4"]


async def test_without_a_dead_letter_queue_the_body_is_kept_without_what_is_private(
    stage: Bench,
) -> None:
    stage.dead_letter_url = None
    stage.jobs.put("churn-1", tags={"MODEL_DB_SYNC": ""})
    await stage.handle(
        message(
            event_body(
                Tags=None,
                HyperParameters={"db_password": "hunter2"},
                Environment={"KEY": "hunter3"},
            )
        )
    )
    [kept] = await stage.checkpoint.rejected_messages()
    assert kept.body is not None
    assert "churn-1" in kept.body
    assert "hunter" not in kept.body
    assert stage.queue.deleted == ["m-1/1"]
    assert not stage.queue.dead_letters


@pytest.mark.parametrize("refused_by", ["us", "sqs"])
async def test_a_body_that_cannot_be_a_dead_letter_is_kept(stage: Bench, refused_by: str) -> None:
    if refused_by == "sqs":
        stage.queue.faults["send"] = deque([JobRefused(Reason.MALFORMED_BODY, "characters")])
    body = "no event \x00" if refused_by == "us" else "no event"
    await stage.handle(message(body))
    [kept] = await stage.checkpoint.rejected_messages()
    assert (kept.reason, kept.body) == ("malformed_body", body)
    assert stage.queue.deleted == ["m-1/1"]
    assert not stage.faults


async def test_a_body_that_cannot_be_kept_leaves_the_message(
    stage: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.dead_letter_url = None
    fail(stage, "keep_body", monkeypatch)
    assert (await stage.handle(message("no event"))).reason is Reason.DEAD_LETTER_FAILED
    assert not stage.queue.deleted
    assert len(stage.queue.hidden) == 1
    assert stage.faults == [STORAGE]


# Deferred
# ---


@pytest.mark.parametrize(
    ("receive_count", "longest"), [(1, 10), (2, 20), (4, 80), (12, 900), (100, 900)]
)
async def test_a_deferred_message_is_hidden_by_its_receive_count_with_jitter(
    stage: Bench, receive_count: int, longest: int
) -> None:
    stage.jobs.put("churn-1", TrainingJobStatus="InProgress")
    for number in range(8):
        await stage.handle(message(message_id=f"m-{number}", receive_count=receive_count))
    delays = [seconds for _, seconds in stage.queue.hidden]
    assert longest / 2 - 1 <= min(delays) < max(delays) <= longest
    assert not stage.queue.deleted


async def test_no_message_is_hidden_beyond_12_hours_from_its_receive(stage: Bench) -> None:
    stage.jobs.put("churn-1", TrainingJobStatus="InProgress")
    entry, task = stage.start(message(receive_count=20))
    entry.received_at -= LONGEST_IN_FLIGHT_SECONDS - 100
    await ended(task)
    [(_, seconds)] = stage.queue.hidden
    assert 80 <= seconds <= 90


async def test_what_another_process_works_on_is_hidden_until_its_lease_ends(
    stage: Bench, path: Path
) -> None:
    other = await open_sqlite_checkpoint(path, clock=stage.clock)
    assert isinstance(await other.claim(arn_of("churn-1"), 42.0), Claim)
    assert (await stage.handle(message(receive_count=9))).reason is Reason.CLAIMED_ELSEWHERE
    assert stage.queue.hidden == [("m-1/9", 42)]
    await other.aclose()


async def test_the_newest_receipt_handle_is_used(stage: Bench) -> None:
    waiting = stage.target.then_wait(begun=False)
    _, task = stage.start()
    await waiting.reached.wait()
    assert stage.in_flight.add(message(receive_count=2), 30) is None
    waiting.go_on.set()
    await ended(task)
    assert stage.queue.deleted == ["m-1/2"]


# Held
# ---


@pytest.mark.parametrize("edge", [Edge.TARGET, Edge.SAGEMAKER, Edge.CHECKPOINT])
async def test_a_held_message_stays_with_its_claim_and_is_tried_again_when_the_edge_is_back(
    stage: Bench, path: Path, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    if edge is Edge.TARGET:
        stage.target.then_raise(edge_fault(edge))
    elif edge is Edge.SAGEMAKER:
        stage.jobs.faults["describe"] = deque([edge_fault(edge)])
    else:
        fail(stage, "begin_write", monkeypatch)
    stage.back[edge].clear()
    entry, task = stage.start()
    await stage.waiting_for(edge)
    await a_while()
    assert [fault.edge for fault in stage.faults] == [edge]
    assert list(stage.in_flight) == [entry]
    assert not stage.queue.batches
    assert await stage.is_claimed(path)
    assert not stage.target.created
    stage.back[edge].set()
    await ended(task)
    assert stage.queue.deleted == ["m-1/1"]
    assert stage.target.created == ["churn-1"]
    assert [outcome.kind for _, outcome in stage.outcomes] == ["held", "synced"]


async def test_a_message_held_too_long_is_given_back(stage: Bench, path: Path) -> None:
    entry, task = await held(stage, edge_fault())
    entry.received_at -= RELEASE_AFTER_SECONDS + 1
    entry.give_back()
    await ended(task)
    assert stage.outcomes[-1][1].reason is Reason.HELD_TOO_LONG
    assert stage.queue.hidden == [("m-1/1", 0)]
    assert not await stage.is_claimed(path)


async def test_a_held_message_is_given_back_at_once_when_the_daemon_stops(
    stage: Bench, path: Path
) -> None:
    entry, task = await held(stage, edge_fault())
    entry.give_back()
    await ended(task)
    assert stage.outcomes[-1][1].reason is Reason.STOPPING
    assert stage.queue.hidden == [("m-1/1", 0)]
    assert not await stage.is_claimed(path)
    assert len(stage.target.runs) == 1


async def test_a_held_message_with_an_open_write_stays_hidden_for_the_settle_time(
    stage: Bench,
) -> None:
    entry, task = await held(stage, edge_fault(), begun=1)
    entry.give_back()
    await ended(task)
    assert stage.queue.hidden == [("m-1/1", SETTLE_SECONDS)]
    assert ((await row(stage)).state, (await row(stage)).unanswered_writes) == (JobState.WRITING, 1)


# Own faults
# ---


@pytest.mark.parametrize(
    ("edge", "step", "reason"),
    [
        (Edge.TARGET, "sync", Reason.TARGET_FAULT),
        (Edge.SAGEMAKER, "describe", Reason.SAGEMAKER_FAULT),
        (Edge.SAGEMAKER, "tags", Reason.SAGEMAKER_FAULT),
    ],
)
async def test_a_message_that_fails_three_times_while_the_step_works_for_others_is_at_fault_itself(
    stage: Bench, path: Path, edge: Edge, step: str, reason: Reason
) -> None:
    fail_often(stage, edge, step, 4)
    stage.back[edge].clear()
    _, task = stage.start(message(event_body(Tags=None), receive_count=2))
    for failures in (1, 2, 3):  # the first one was met before the step worked for anybody
        await held_times(stage, failures)
        stage.succeeded(step, "another message")
        await let_back(stage, edge)
    await ended(task)
    assert [outcome.kind for _, outcome in stage.outcomes] == ["held", "held", "held", "deferred"]
    assert stage.outcomes[-1][1].reason is reason
    assert not await stage.is_claimed(path)
    [recorded] = await stage.checkpoint.history(HistoryFilter())
    assert (recorded.state, recorded.reason, recorded.attempts) == (JobState.RELEASED, reason, 1)
    [(_, seconds)] = stage.queue.hidden
    assert 10 <= seconds <= 20


@pytest.mark.parametrize(
    ("who", "step", "after"),
    [
        ("nobody", "sync", ()),
        ("another message", "find", range(7)),
        ("m-1", "sync", range(7)),
        ("another message", "sync", (1,)),  # once is not each time
        ("another message", "sync", (0, 1, 2)),  # the first was before the message began
    ],
)
async def test_a_message_is_not_at_fault_while_the_step_works_for_nobody_else(
    stage: Bench, who: str, step: str, after: Sequence[int]
) -> None:
    def others(failures: int) -> None:
        if failures in after:
            stage.breakers[Edge.TARGET].succeeded(step, who)

    others(0)
    fail_often(stage, Edge.TARGET, "sync", 6)
    stage.back[Edge.TARGET].clear()
    _, task = stage.start()
    for failures in range(1, 7):
        await held_times(stage, failures)
        others(failures)
        await let_back(stage, Edge.TARGET)
    await ended(task)
    assert [outcome.kind for _, outcome in stage.outcomes] == ["held"] * 6 + ["synced"]


async def test_a_checkpoint_that_fails_is_never_the_messages_fault(
    stage: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(stage, "record_synced", monkeypatch, times=5)
    stage.back[Edge.CHECKPOINT].clear()
    _, task = stage.start()
    for failures in range(1, 6):
        await held_times(stage, failures)
        stage.succeeded("record", "another message")
        await let_back(stage, Edge.CHECKPOINT)
    await ended(task)
    assert [outcome.kind for _, outcome in stage.outcomes] == ["held"] * 5 + ["synced"]


# Given back, abandoned, lost
# ---


async def test_what_has_not_begun_to_write_is_given_back_at_once(stage: Bench, path: Path) -> None:
    waiting = stage.target.then_wait(begun=False)
    entry, task = stage.start()
    await waiting.reached.wait()
    entry.give_back()
    await ended(task)
    assert waiting.cancelled
    assert stage.outcomes[-1][1].reason is Reason.STOPPING
    assert stage.queue.hidden == [("m-1/1", 0)]
    assert not await stage.is_claimed(path)
    assert not stage.target.created


async def test_a_create_under_way_is_let_finish(stage: Bench) -> None:
    waiting = stage.target.then_wait(begun=True)
    entry, task = stage.start()
    await waiting.reached.wait()
    entry.give_back()
    await a_while()
    assert not task.done()
    waiting.go_on.set()
    await ended(task)
    assert stage.outcomes[-1][1].kind == "synced"
    assert stage.queue.deleted == ["m-1/1"]


async def test_a_record_under_way_is_let_finish(
    stage: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, real = Waiting(), stage.checkpoint.record_synced

    async def slow(*args: object, **kwargs: object) -> None:
        await waiting.pause()
        await real(*args, **kwargs)  # type: ignore[arg-type] # passed on as they came

    monkeypatch.setattr(stage.checkpoint, "record_synced", slow)
    entry, task = stage.start()
    await waiting.reached.wait()
    entry.give_back()
    await a_while()
    waiting.go_on.set()
    await ended(task)
    assert (await row(stage)).state is JobState.SYNCED
    assert stage.queue.deleted == ["m-1/1"]


async def test_a_message_whose_create_fails_during_the_stop_is_not_held(stage: Bench) -> None:
    stage.back[Edge.TARGET].clear()
    waiting = stage.target.then_wait(begun=True, then=edge_fault())
    entry, task = stage.start()
    await waiting.reached.wait()
    entry.give_back()
    waiting.go_on.set()
    await ended(task)
    assert stage.outcomes[-1][1].reason is Reason.STOPPING
    assert stage.queue.hidden == [("m-1/1", SETTLE_SECONDS)]


async def test_an_abandoned_create_keeps_its_row_and_its_message_hidden_for_the_settle_time(
    stage: Bench, path: Path
) -> None:
    waiting = stage.target.then_wait(begun=True)
    entry, task = stage.start()
    await waiting.reached.wait()
    entry.abandon()
    await ended(task)
    assert waiting.cancelled
    assert stage.queue.hidden == [("m-1/1", SETTLE_SECONDS)]
    assert ((await row(stage)).state, (await row(stage)).unanswered_writes) == (JobState.WRITING, 1)
    assert not await stage.is_claimed(path)


async def test_a_message_given_back_before_it_is_begun_is_not_begun(stage: Bench) -> None:
    entry = stage.receive()
    entry.give_back()
    await ended(asyncio.create_task(stage.worker.handle(entry)))
    assert not stage.jobs.asked
    assert stage.queue.hidden == [("m-1/1", 0)]


async def test_a_lost_lease_ends_the_attempt_and_nothing_more_is_written(
    stage: Bench, path: Path
) -> None:
    waiting = stage.target.then_wait(begun=True)
    entry, task = stage.start()
    await waiting.reached.wait()
    stage.clock.now += 61
    other = await open_sqlite_checkpoint(path, clock=stage.clock)
    assert isinstance(await other.claim(arn_of("churn-1"), 60.0), Claim)
    before = await row(stage)
    entry.lose_lease()
    assert entry.claim is None  # nothing to renew or to give back any more
    await ended(task)
    assert waiting.cancelled
    assert stage.outcomes[-1][1].reason is Reason.LEASE_LOST
    assert await row(stage) == before
    assert not stage.queue.deleted
    [(_, seconds)] = stage.queue.hidden
    assert 5 <= seconds <= 10
    await other.aclose()
    assert not await stage.is_claimed(path)


# Joins
# ---


@pytest.mark.parametrize("fate", ["synced", "rejected", "deferred"])
async def test_two_messages_of_one_job_share_one_attempt_and_its_outcome(
    stage: Bench, fate: str
) -> None:
    if fate == "rejected":
        stage.jobs.put("churn-1", tags={"MODEL_DB_SYNC": ""})
    waiting = Waiting()
    real = stage.jobs.describe

    async def describe(name: str) -> object:
        await waiting.pause()
        if fate == "deferred":
            raise JobFault(Reason.SAGEMAKER_FAULT, "odd", delay_seconds=7.0)
        return await real(name)

    stage.jobs.describe = describe  # type: ignore[assignment, method-assign] # waits first
    body = event_body(Tags=None)
    _, first = stage.start(message(body, "m-1"))
    await waiting.reached.wait()
    _, second = stage.start(message(body, "m-2"))
    await a_while()
    assert not second.done()
    waiting.go_on.set()
    await ended(first)
    await ended(second)
    outcomes = dict(stage.outcomes)
    assert len(stage.jobs.asked) == (0 if fate == "deferred" else 2)
    match fate:
        case "synced":
            assert outcomes["m-2"] == Duplicate(Reason.JOINED, {"run_id": "id-of-churn-1"})
            assert sorted(stage.queue.deleted) == ["m-1/1", "m-2/1"]
            assert stage.target.created == ["churn-1"]
        case "rejected":
            assert outcomes["m-2"] == outcomes["m-1"]
            assert len(stage.queue.dead_letters) == 2
            assert len(await stage.checkpoint.rejected_messages()) == 2
        case _:
            assert (
                outcomes["m-2"] == outcomes["m-1"] == Deferred(Reason.SAGEMAKER_FAULT, "odd", 7.0)
            )
            assert sorted(stage.queue.hidden) == [("m-1/1", 7), ("m-2/1", 7)]


async def test_who_joins_a_held_message_waits_with_it(stage: Bench) -> None:
    _, first = await held(stage, edge_fault())
    _, second = stage.start(message(message_id="m-2"))
    await a_while()
    assert len(stage.in_flight) == 2
    assert not stage.queue.batches
    stage.back[Edge.TARGET].set()
    await ended(first)
    await ended(second)
    assert sorted(stage.queue.deleted) == ["m-1/1", "m-2/1"]
    assert stage.target.created == ["churn-1"]


async def test_when_the_first_message_of_a_job_is_given_back_the_second_is_too(
    stage: Bench,
) -> None:
    waiting = stage.target.then_wait(begun=False)
    first, one = stage.start()
    await waiting.reached.wait()
    second, two = stage.start(message(message_id="m-2"))
    await a_while()
    first.give_back()
    second.give_back()
    await ended(one)
    await ended(two)
    assert sorted(stage.queue.hidden) == [("m-1/1", 0), ("m-2/1", 0)]
    assert len(stage.target.runs) == 1


# Ends
# ---


async def test_slot_and_ledger_are_free_after_the_acknowledgement_and_not_before(
    stage: Bench,
) -> None:
    waiting = Waiting()

    async def witness(_call: str) -> None:
        await waiting.pause()

    stage.queue.witness = witness
    _, task = stage.start()
    async with asyncio.timeout(5):
        await waiting.reached.wait()
    taking = asyncio.create_task(stage.slots.take(10))
    await a_while()
    assert not taking.done()
    assert len(stage.in_flight) == 1
    waiting.go_on.set()
    await ended(task)
    assert await taking == 1
    assert len(stage.in_flight) == 0


async def test_a_worker_that_is_cancelled_leaves_nothing_behind(stage: Bench) -> None:
    waiting = stage.target.then_wait(begun=False)
    entry, task = stage.start()
    await waiting.reached.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert waiting.cancelled
    assert entry.attempt is not None
    assert entry.attempt.done()
    assert len(stage.in_flight) == 0
    assert await stage.slots.take(10) == 1
    assert not stage.queue.batches


async def held(
    stage: Bench, fault: EdgeFault, *, begun: int = 0
) -> tuple[Entry, asyncio.Task[None]]:
    """A message that waits for an edge."""
    stage.back[fault.edge].clear()
    stage.target.then_raise(fault, begun=begun)
    entry, task = stage.start()
    await stage.waiting_for(fault.edge)
    return entry, task


async def held_times(stage: Bench, times: int) -> None:
    """Until the message has been held so often, and waits."""
    await until(
        lambda: (
            len(stage.faults) == times
            and any(breaker.is_open for breaker in stage.breakers.values())
        )
    )


async def let_back(stage: Bench, edge: Edge) -> None:
    """The edge's next probe passes, and only that one."""
    stage.back[edge].set()
    async with asyncio.timeout(5):
        await stage.breakers[edge].wait_closed()
    stage.back[edge].clear()


def fail_often(stage: Bench, edge: Edge, step: str, times: int) -> None:
    """The next attempts fail in a step."""
    for _ in range(times):
        if step == "sync":
            stage.target.then_raise(edge_fault(edge))
        else:
            stage.jobs.faults.setdefault(step, deque()).append(edge_fault(edge))
