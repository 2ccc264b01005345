"""The worker: a message is acknowledged only after its outcome is durable, held while an edge is
unavailable, and given back at the stop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from daemon.checkpoint.journal import DOUBTFUL_WRITES
from daemon.checkpoint.ports import Claim, JobState
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.errors import JobFault, JobRefused
from daemon.outcome import Deferred, Duplicate
from daemon.pipeline.delivery import LONGEST_IN_FLIGHT_SECONDS, RELEASE_AFTER_SECONDS
from daemon.pipeline.step import Step
from daemon.reasons import Edge, Reason
from daemon.targets.ports import TargetRun
from tests.support.checkpoint_calls import TARGET
from tests.support.flow_scene import (
    DEAD_LETTER_URL,
    SETTLE_SECONDS,
    TAGS,
    CountingBackoff,
    Waiting,
    a_while,
    arn_of,
    edge_fault,
    event_body,
    mark_of,
    message,
    until,
)
from tests.support.log_lines import log_lines

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from daemon.checkpoint.sqlite.store import SqliteCheckpoint
    from daemon.errors import EdgeFault
    from daemon.pipeline.delivery import Delivery
    from daemon.targets.ports import WriteJournal
    from daemon.training_job.training_run import TrainingRun
    from tests.support.flow_scene import FlowScene

MARK = mark_of("churn-1")
STORAGE = edge_fault(Edge.CHECKPOINT, Reason.STORAGE)


def found_run(
    run_id: str,
) -> Callable[[TrainingRun, WriteJournal], Awaitable[TargetRun]]:
    """An attempt that finds the job's run."""

    async def attempt(_run: TrainingRun, journal: WriteJournal) -> TargetRun:
        journal.settled()
        return TargetRun(created=False, ids={"run_id": run_id})

    return attempt


async def recorded(other: SqliteCheckpoint, claim: Claim, ids: dict[str, str]) -> None:
    """Another process has written the job."""
    await other.record_synced(
        claim,
        MARK,
        "churn-1",
        reason=Reason.CREATED,
        detail="",
        target_ids=ids,
        message_id="m-1",
    )


async def ended(task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(5):
        await task


# Order
# ---


async def test_a_message_is_deleted_after_its_outcome_is_durable(
    scene: FlowScene, path: Path
) -> None:
    seen: list[tuple[str, JobState]] = []

    async def witness(call: str) -> None:
        # as another process would find it
        other = await open_sqlite_checkpoint(path, TARGET)
        record = await other.job(MARK)
        await other.aclose()
        assert record is not None
        seen.append((call, record.state))

    scene.queue.witness = witness
    assert (await scene.handle()).kind == "synced"
    assert seen == [("delete", JobState.SYNCED)]
    assert scene.queue.deleted == ["m-1/1"]


async def test_a_rejection_is_recorded_then_sent_then_deleted(scene: FlowScene) -> None:
    seen: list[tuple[str, str]] = []

    async def witness(call: str) -> None:
        [kept] = await scene.checkpoint.rejected_messages()
        seen.append((call, kept.reason))

    scene.queue.witness = witness
    scene.jobs.put("churn-1", tags={"MODEL_DB_SYNC": ""})
    body = event_body(Tags=None)
    outcome = await scene.handle(message(body))
    assert seen == [("send", "tags_incomplete"), ("delete", "tags_incomplete")]
    [(url, sent, attributes)] = scene.queue.dead_letters
    assert (url, sent) == (DEAD_LETTER_URL, body)
    assert attributes == {"reason": "tags_incomplete", "detail": outcome.detail}
    assert scene.queue.deleted == ["m-1/1"]


@pytest.mark.parametrize("call", ["record_synced", "record_rejected", "record_skipped"])
async def test_a_record_that_fails_holds_the_message(scene: FlowScene, call: str) -> None:
    tags = {"record_rejected": {"MODEL_DB_SYNC": ""}, "record_skipped": {}}.get(call, TAGS)
    scene.jobs.put("churn-1", tags=tags)
    scene.fail_checkpoint(call, STORAGE)
    scene.back[Edge.CHECKPOINT].clear()
    _, task = scene.start(message(event_body(Tags=None)))
    await scene.waiting_for(Edge.CHECKPOINT)
    await a_while()
    assert not scene.queue.batches
    scene.back[Edge.CHECKPOINT].set()
    await ended(task)
    assert scene.queue.deleted == ["m-1/1"]
    assert [outcome.kind for _, outcome in scene.outcomes] == ["held", call.removeprefix("record_")]


async def test_a_duplicate_and_a_skipped_message_are_deleted(scene: FlowScene) -> None:
    await scene.handle()
    assert (await scene.handle(message(message_id="m-2"))).kind == "duplicate"
    assert (await scene.handle(message('{"Event": "s3:TestEvent"}', "m-3"))).kind == "skipped"
    assert scene.queue.deleted == ["m-1/1", "m-2/1", "m-3/1"]


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
    scene: FlowScene, reason: Reason, *, opens: bool
) -> None:
    scene.queue.faults["send"] = deque([edge_fault(Edge.QUEUE, reason)])
    outcome = await scene.handle(message("no event", receive_count=3))
    assert isinstance(outcome, Deferred)
    assert outcome.reason is Reason.DEAD_LETTER_FAILED
    assert not scene.queue.deleted
    [(handle, seconds)] = scene.queue.hidden
    assert handle == "m-1/3"
    assert 20 <= seconds <= 40
    assert [fault.edge for fault in scene.faults] == ([Edge.QUEUE] if opens else [])
    await scene.handle(message("no event", receive_count=4))
    assert scene.queue.deleted == ["m-1/4"]


async def test_a_dead_letter_queue_that_is_not_found_is_not_taken_for_none(
    scene: FlowScene,
) -> None:
    """The body would then be in the local checkpoint alone."""
    scene.dead_letter_url = edge_fault(Edge.QUEUE, Reason.ACCESS_DENIED)
    outcome = await scene.handle(message("no event", receive_count=3))
    assert outcome.reason is Reason.DEAD_LETTER_FAILED
    assert not scene.queue.deleted
    [kept] = await scene.checkpoint.rejected_messages()
    assert kept.body is None
    assert not scene.faults


async def test_how_sending_a_dead_letter_ended_is_told(scene: FlowScene) -> None:
    denied = edge_fault(Edge.QUEUE, Reason.ACCESS_DENIED)
    throttled = edge_fault(Edge.QUEUE, Reason.THROTTLED)
    scene.queue.faults["send"] = deque([denied, throttled])
    for count in (1, 2, 3):
        await scene.handle(message("no event", receive_count=count))
    assert scene.dead_letter_answers == [denied, None]


async def test_without_a_dead_letter_queue_the_body_is_kept_without_what_is_private(
    scene: FlowScene,
) -> None:
    scene.dead_letter_url = None
    scene.jobs.put("churn-1", tags={"MODEL_DB_SYNC": ""})
    await scene.handle(
        message(
            event_body(
                Tags=None,
                HyperParameters={"db_password": "hunter2"},
                Environment={"KEY": "hunter3"},
            )
        )
    )
    [kept] = await scene.checkpoint.rejected_messages()
    assert kept.body is not None
    assert "churn-1" in kept.body
    assert "hunter" not in kept.body
    assert scene.queue.deleted == ["m-1/1"]
    assert not scene.queue.dead_letters


@pytest.mark.parametrize("refused_by", ["us", "sqs"])
async def test_a_body_that_cannot_be_a_dead_letter_is_kept(
    scene: FlowScene, refused_by: str
) -> None:
    if refused_by == "sqs":
        scene.queue.faults["send"] = deque([JobRefused(Reason.MALFORMED_BODY, "characters")])
    body = "no event \x00" if refused_by == "us" else "no event"
    await scene.handle(message(body))
    [kept] = await scene.checkpoint.rejected_messages()
    assert (kept.reason, kept.body) == ("malformed_body", body)
    assert scene.queue.deleted == ["m-1/1"]
    assert not scene.faults


async def test_a_body_that_cannot_be_kept_leaves_the_message(scene: FlowScene) -> None:
    scene.dead_letter_url = None
    scene.fail_checkpoint("keep_body", STORAGE)
    assert (await scene.handle(message("no event"))).reason is Reason.DEAD_LETTER_FAILED
    assert not scene.queue.deleted
    assert len(scene.queue.hidden) == 1
    assert scene.faults == [STORAGE]


# Deferred
# ---


@pytest.mark.parametrize(
    ("receive_count", "longest"), [(1, 10), (2, 20), (4, 80), (12, 900), (100, 900)]
)
async def test_a_deferred_message_is_hidden_by_its_receive_count_with_jitter(
    scene: FlowScene, receive_count: int, longest: int
) -> None:
    scene.jobs.put("churn-1", TrainingJobStatus="InProgress")
    for number in range(8):
        await scene.handle(message(message_id=f"m-{number}", receive_count=receive_count))
    delays = [seconds for _, seconds in scene.queue.hidden]
    assert longest / 2 - 1 <= min(delays) < max(delays) <= longest
    assert not scene.queue.deleted


async def test_no_message_is_hidden_beyond_12_hours_from_its_receive(scene: FlowScene) -> None:
    scene.jobs.put("churn-1", TrainingJobStatus="InProgress")
    delivery, task = scene.start(message(receive_count=20))
    delivery.received_at -= LONGEST_IN_FLIGHT_SECONDS - 100
    await ended(task)
    [(_, seconds)] = scene.queue.hidden
    assert 80 <= seconds <= 90


async def test_what_another_process_works_on_is_hidden_at_most_until_its_lease_ends(
    scene: FlowScene, path: Path
) -> None:
    other = await open_sqlite_checkpoint(path, TARGET)
    assert isinstance(await other.claim(arn_of("churn-1"), 42.0), Claim)
    assert (await scene.handle(message(receive_count=9))).reason is Reason.CLAIMED_ELSEWHERE
    assert scene.queue.hidden == [("m-1/9", 42)]
    await other.aclose()


async def test_what_another_process_works_on_is_asked_again_soon_and_with_jitter(
    scene: FlowScene, path: Path
) -> None:
    other = await open_sqlite_checkpoint(path, TARGET)
    for number in range(4):
        scene.jobs.put(f"churn-{number}")
        assert isinstance(await other.claim(arn_of(f"churn-{number}"), 60.0), Claim)
        duplicate = message(event_body(f"churn-{number}"), message_id=f"d-{number}")
        assert (await scene.handle(duplicate)).reason is Reason.CLAIMED_ELSEWHERE
    seconds = [hidden for _, hidden in scene.queue.hidden]
    assert all(5 <= each <= 10 for each in seconds)
    assert len(set(seconds)) > 1
    await other.aclose()


async def test_the_newest_receipt_handle_is_used(scene: FlowScene) -> None:
    waiting = scene.target.then_wait(begun=False)
    _, task = scene.start()
    await waiting.reached.wait()
    assert scene.in_flight.add(message(receive_count=2), 30) is None
    waiting.go_on.set()
    await ended(task)
    assert scene.queue.deleted == ["m-1/2"]


# Held
# ---


@pytest.mark.parametrize("edge", [Edge.TARGET, Edge.SAGEMAKER, Edge.CHECKPOINT])
async def test_a_held_message_stays_with_its_claim_and_is_tried_again_when_the_edge_is_back(
    scene: FlowScene, path: Path, edge: Edge
) -> None:
    if edge is Edge.TARGET:
        scene.target.then_raise(edge_fault(edge))
    elif edge is Edge.SAGEMAKER:
        scene.jobs.faults["describe"] = deque([edge_fault(edge)])
    else:
        scene.fail_checkpoint("begin_write", STORAGE)
    scene.back[edge].clear()
    delivery, task = scene.start()
    await scene.waiting_for(edge)
    await a_while()
    assert [fault.edge for fault in scene.faults] == [edge]
    assert list(scene.in_flight) == [delivery]
    assert not scene.queue.batches
    assert await scene.is_claimed(path)
    assert not scene.target.created
    scene.back[edge].set()
    await ended(task)
    assert scene.queue.deleted == ["m-1/1"]
    assert scene.target.created == ["churn-1"]
    assert [outcome.kind for _, outcome in scene.outcomes] == ["held", "synced"]


async def test_a_message_held_too_long_is_given_back(scene: FlowScene, path: Path) -> None:
    delivery, task = await held(scene, edge_fault())
    delivery.received_at -= RELEASE_AFTER_SECONDS + 1
    delivery.give_back()
    await ended(task)
    assert scene.outcomes[-1][1].reason is Reason.HELD_TOO_LONG
    assert scene.queue.hidden == [("m-1/1", 0)]
    assert not await scene.is_claimed(path)


async def test_a_held_message_is_given_back_at_once_when_the_daemon_stops(
    scene: FlowScene, path: Path
) -> None:
    delivery, task = await held(scene, edge_fault())
    delivery.give_back()
    await ended(task)
    assert scene.outcomes[-1][1].reason is Reason.STOPPING
    assert scene.queue.hidden == [("m-1/1", 0)]
    assert not await scene.is_claimed(path)
    assert len(scene.target.runs) == 1


async def test_a_held_message_with_an_open_write_stays_hidden_for_the_settle_time(
    scene: FlowScene,
) -> None:
    delivery, task = await held(scene, edge_fault(), begun=1)
    delivery.give_back()
    await ended(task)
    assert scene.queue.hidden == [("m-1/1", SETTLE_SECONDS)]
    assert ((await scene.row()).state, (await scene.row()).unanswered_writes) == (
        JobState.WRITING,
        1,
    )


# Own faults
# ---


@pytest.mark.parametrize(
    ("edge", "step", "reason"),
    [
        (Edge.TARGET, Step.SYNC, Reason.TARGET_FAULT),
        (Edge.SAGEMAKER, Step.DESCRIBE, Reason.SAGEMAKER_FAULT),
        (Edge.SAGEMAKER, Step.TAGS, Reason.SAGEMAKER_FAULT),
    ],
)
async def test_a_message_that_fails_three_times_while_the_step_works_for_others_is_at_fault_itself(
    scene: FlowScene, path: Path, edge: Edge, step: Step, reason: Reason
) -> None:
    fail_often(scene, edge, step, 4, Reason.ACCESS_DENIED)
    scene.back[edge].clear()
    _, task = scene.start(message(event_body(Tags=None), receive_count=2))
    for failures in (1, 2, 3):  # the first failed before the step had worked for anyone
        await held_times(scene, failures)
        scene.breakers.succeeded(step, "another message")
        await let_back(scene, edge)
    await ended(task)
    assert [outcome.kind for _, outcome in scene.outcomes] == ["held", "held", "held", "deferred"]
    assert scene.outcomes[-1][1].reason is reason
    assert not await scene.is_claimed(path)
    [recorded] = await scene.rows()
    assert (recorded.state, recorded.reason, recorded.attempts) == (JobState.RELEASED, reason, 1)
    [(_, seconds)] = scene.queue.hidden
    assert 10 <= seconds <= 20


@pytest.mark.parametrize(
    ("who", "step", "after"),
    [
        ("nobody", Step.SYNC, ()),
        ("another message", Step.DESCRIBE, range(7)),
        ("m-1", Step.SYNC, range(7)),
        ("another message", Step.SYNC, (1,)),  # once is not each time
        ("another message", Step.SYNC, (0, 1, 2)),  # the first was before the message began
    ],
)
async def test_a_message_is_not_at_fault_unless_the_step_works_for_others(
    scene: FlowScene, who: str, step: Step, after: Sequence[int]
) -> None:
    def others(failures: int) -> None:
        if failures in after:
            scene.breakers[Edge.TARGET].succeeded(step, who)

    others(0)
    fail_often(scene, Edge.TARGET, Step.SYNC, 6)
    scene.back[Edge.TARGET].clear()
    _, task = scene.start()
    for failures in range(1, 7):
        await held_times(scene, failures)
        others(failures)
        await let_back(scene, Edge.TARGET)
    await ended(task)
    assert [outcome.kind for _, outcome in scene.outcomes] == ["held"] * 6 + ["synced"]


@pytest.mark.parametrize(
    ("edge", "step"),
    [
        (Edge.TARGET, Step.SYNC),
        (Edge.SAGEMAKER, Step.DESCRIBE),
        (Edge.SAGEMAKER, Step.TAGS),
    ],
)
@pytest.mark.parametrize(
    "reason",
    [
        Reason.THROTTLED,
        Reason.CREDENTIALS,
        Reason.UNREACHABLE,
        Reason.UNAVAILABLE,
        Reason.NOT_THE_API,
    ],
)
async def test_what_says_nothing_about_the_job_never_becomes_its_own_fault(
    scene: FlowScene, edge: Edge, step: Step, reason: Reason
) -> None:
    backoff = CountingBackoff()

    def delay(attempt: int) -> float:
        asyncio.get_running_loop().call_soon(scene.breakers.succeeded, step, "another message")
        return backoff.delay(attempt)

    scene.worker._alone = SimpleNamespace(delay=delay)  # type: ignore[assignment]
    fail_often(scene, edge, step, 12, reason)
    scene.back[edge].clear()
    _, task = scene.start(message(event_body(Tags=None)))
    for failures in (1, 2, 3):
        await held_times(scene, failures)
        scene.breakers.succeeded(step, "another message")
        await let_back(scene, edge)
    await ended(task)
    assert [outcome.kind for _, outcome in scene.outcomes] == ["held"] * 12 + ["synced"]
    # from the third on that the step worked for others, it waits alone and longer each time
    assert len(scene.faults) == 3
    assert backoff.asked == list(range(1, 10))
    assert scene.queue.hidden == []


async def test_a_message_that_waits_alone_is_given_back_at_once_when_the_daemon_stops(
    scene: FlowScene,
) -> None:
    fail_often(scene, Edge.TARGET, Step.SYNC, 12, Reason.UNREACHABLE)
    scene.back[Edge.TARGET].clear()
    delivery, task = scene.start()
    for failures in (1, 2, 3):
        await held_times(scene, failures)
        scene.breakers.succeeded(Step.SYNC, "another message")
        await let_back(scene, Edge.TARGET)
    await until(lambda: len(scene.outcomes) == 4)
    delivery.give_back()
    await ended(task)
    assert scene.outcomes[-1][1].reason is Reason.STOPPING


async def test_a_checkpoint_that_fails_is_never_the_messages_fault(scene: FlowScene) -> None:
    scene.fail_checkpoint("record_synced", *[STORAGE] * 5)
    scene.back[Edge.CHECKPOINT].clear()
    _, task = scene.start()
    for failures in range(1, 6):
        await held_times(scene, failures)
        scene.breakers.succeeded(Step.RECORD, "another message")
        await let_back(scene, Edge.CHECKPOINT)
    await ended(task)
    assert [outcome.kind for _, outcome in scene.outcomes] == ["held"] * 5 + ["synced"]


# Given back, abandoned, lost
# ---


async def test_what_has_not_begun_to_write_is_given_back_at_once(
    scene: FlowScene, path: Path
) -> None:
    waiting = scene.target.then_wait(begun=False)
    delivery, task = scene.start()
    await waiting.reached.wait()
    delivery.give_back()
    await ended(task)
    assert waiting.cancelled
    assert scene.outcomes[-1][1].reason is Reason.STOPPING
    assert scene.queue.hidden == [("m-1/1", 0)]
    assert not await scene.is_claimed(path)
    assert not scene.target.created


async def test_a_create_under_way_is_not_cancelled(scene: FlowScene) -> None:
    waiting = scene.target.then_wait(begun=True)
    delivery, task = scene.start()
    await waiting.reached.wait()
    delivery.give_back()
    await a_while()
    assert not task.done()
    waiting.go_on.set()
    await ended(task)
    assert scene.outcomes[-1][1].kind == "synced"
    assert scene.queue.deleted == ["m-1/1"]


async def test_a_record_under_way_is_not_cancelled(
    scene: FlowScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, real = Waiting(), scene.checkpoint.record_synced

    async def slow(*args: object, **kwargs: object) -> None:
        await waiting.pause()
        await real(*args, **kwargs)  # type: ignore[arg-type] # passed on as they came

    monkeypatch.setattr(scene.checkpoint, "record_synced", slow)
    delivery, task = scene.start()
    await waiting.reached.wait()
    delivery.give_back()
    await a_while()
    waiting.go_on.set()
    await ended(task)
    assert (await scene.row()).state is JobState.SYNCED
    assert scene.queue.deleted == ["m-1/1"]


async def test_a_message_whose_create_fails_during_the_stop_is_not_held(scene: FlowScene) -> None:
    scene.back[Edge.TARGET].clear()
    waiting = scene.target.then_wait(begun=True, then=edge_fault())
    delivery, task = scene.start()
    await waiting.reached.wait()
    delivery.give_back()
    waiting.go_on.set()
    await ended(task)
    assert scene.outcomes[-1][1].reason is Reason.STOPPING
    assert scene.queue.hidden == [("m-1/1", SETTLE_SECONDS)]


async def test_an_abandoned_create_keeps_its_row_and_its_message_hidden_for_the_settle_time(
    scene: FlowScene, path: Path
) -> None:
    waiting = scene.target.then_wait(begun=True)
    delivery, task = scene.start()
    await waiting.reached.wait()
    delivery.abandon()
    await ended(task)
    assert waiting.cancelled
    assert scene.queue.hidden == [("m-1/1", SETTLE_SECONDS)]
    assert ((await scene.row()).state, (await scene.row()).unanswered_writes) == (
        JobState.WRITING,
        1,
    )
    assert not await scene.is_claimed(path)


async def test_a_message_given_back_before_it_is_begun_is_not_begun(scene: FlowScene) -> None:
    delivery = scene.receive()
    delivery.give_back()
    await ended(asyncio.create_task(scene.worker.handle(delivery)))
    assert not scene.jobs.asked
    assert scene.queue.hidden == [("m-1/1", 0)]


async def test_a_lost_lease_ends_the_attempt_and_nothing_more_is_written(
    scene: FlowScene, path: Path
) -> None:
    waiting = scene.target.then_wait(begun=True)
    delivery, task = scene.start()
    await waiting.reached.wait()
    scene.clock.now += 61
    other = await open_sqlite_checkpoint(path, TARGET)
    assert isinstance(await other.claim(arn_of("churn-1"), 60.0), Claim)
    before = await scene.row()
    delivery.lose_claim()
    assert delivery.job.claim is None  # nothing to renew or to give back any more
    await until(lambda: waiting.cancelled)
    for _ in range(3):
        await a_while()
    assert await scene.row() == before
    assert (scene.outcomes, scene.queue.deleted, scene.target.created) == ([], [], [])
    await other.aclose()
    await ended(task)  # the create that was cut off may have been carried out, so it was settled
    assert scene.outcomes[-1][1].reason is Reason.CREATED
    assert scene.target.attempts == [(0, False), (DOUBTFUL_WRITES, True)]
    assert not await scene.is_claimed(path)


@pytest.mark.parametrize("answer", ["cut off", "late"])
async def test_a_pause_in_a_create_is_settled_when_the_other_process_has_recorded_the_job(
    scene: FlowScene, path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    ahead = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr("daemon.checkpoint.lease_clock.wall", lambda: ahead.seconds)
    waiting = scene.target.then_wait(begun=True)
    delivery, task = scene.start()
    await waiting.reached.wait()
    ahead.seconds += 61
    scene.clock.now += 61
    other = await open_sqlite_checkpoint(path, TARGET)
    claim = await other.claim(arn_of("churn-1"), 60.0)
    assert isinstance(claim, Claim)
    await recorded(other, claim, {"run_id": "theirs"})
    if answer == "cut off":
        delivery.lose_claim()
    waiting.go_on.set()
    scene.target.script.append(found_run("theirs"))
    await ended(task)
    assert scene.target.attempts == [(0, False), (DOUBTFUL_WRITES, True)]
    assert scene.outcomes[-1][1] == Duplicate(Reason.ALREADY_SYNCED, {"run_id": "theirs"})
    row = await scene.row()
    assert (row.state, row.target_ids) == (JobState.SYNCED, {"run_id": "theirs"})
    assert scene.queue.deleted
    await other.aclose()


async def test_a_stop_before_a_doubt_is_settled_says_so(scene: FlowScene, path: Path) -> None:
    waiting = scene.target.then_wait(begun=True)
    delivery, task = scene.start()
    await waiting.reached.wait()
    scene.clock.now += 61
    other = await open_sqlite_checkpoint(path, TARGET)
    assert isinstance(await other.claim(arn_of("churn-1"), 60.0), Claim)
    delivery.lose_claim()
    await until(lambda: waiting.cancelled)
    with capture_logs() as logs:
        delivery.give_back()
        await ended(task)
    assert "given back before a write in doubt was settled" in str(logs)
    [(_, seconds)] = scene.queue.hidden
    assert seconds == SETTLE_SECONDS
    await other.aclose()


async def test_a_lost_lease_before_a_write_ends_the_attempt_and_the_message_comes_again(
    scene: FlowScene, path: Path
) -> None:
    waiting = scene.target.then_wait(begun=False)
    delivery, task = scene.start()
    await waiting.reached.wait()
    scene.clock.now += 61
    other = await open_sqlite_checkpoint(path, TARGET)
    assert isinstance(await other.claim(arn_of("churn-1"), 60.0), Claim)
    delivery.lose_claim()
    await ended(task)
    assert waiting.cancelled
    assert scene.outcomes[-1][1].reason is Reason.LEASE_LOST
    assert not scene.queue.deleted
    [(_, seconds)] = scene.queue.hidden
    assert 5 <= seconds <= 10
    await other.aclose()
    assert not await scene.is_claimed(path)


# Joins
# ---


@pytest.mark.parametrize("fate", ["synced", "rejected", "deferred"])
async def test_two_messages_of_one_job_share_one_attempt_and_its_outcome(
    scene: FlowScene, fate: str
) -> None:
    if fate == "rejected":
        scene.jobs.put("churn-1", tags={"MODEL_DB_SYNC": ""})
    waiting = Waiting()
    real = scene.jobs.describe

    async def describe(name: str) -> object:
        await waiting.pause()
        if fate == "deferred":
            raise JobFault(Reason.SAGEMAKER_FAULT, "odd", delay_seconds=7.0)
        return await real(name)

    scene.jobs.describe = describe  # type: ignore[assignment, method-assign] # waits first
    body = event_body(Tags=None)
    _, first = scene.start(message(body, "m-1"))
    await waiting.reached.wait()
    _, second = scene.start(message(body, "m-2"))
    await a_while()
    assert not second.done()
    waiting.go_on.set()
    await ended(first)
    await ended(second)
    outcomes = dict(scene.outcomes)
    assert len(scene.jobs.asked) == (0 if fate == "deferred" else 2)
    match fate:
        case "synced":
            assert outcomes["m-2"] == Duplicate(Reason.JOINED, {"run_id": "id-of-churn-1"})
            assert sorted(scene.queue.deleted) == ["m-1/1", "m-2/1"]
            assert scene.target.created == ["churn-1"]
        case "rejected":
            assert outcomes["m-2"] == outcomes["m-1"]
            assert len(scene.queue.dead_letters) == 2
            assert len(await scene.checkpoint.rejected_messages()) == 2
        case _:
            assert (
                outcomes["m-2"] == outcomes["m-1"] == Deferred(Reason.SAGEMAKER_FAULT, "odd", 7.0)
            )
            assert sorted(scene.queue.hidden) == [("m-1/1", 7), ("m-2/1", 7)]


async def test_a_message_that_joins_a_held_one_waits_with_it(scene: FlowScene) -> None:
    _, first = await held(scene, edge_fault())
    _, second = scene.start(message(message_id="m-2"))
    await a_while()
    assert len(scene.in_flight) == 2
    assert not scene.queue.batches
    scene.back[Edge.TARGET].set()
    await ended(first)
    await ended(second)
    assert sorted(scene.queue.deleted) == ["m-1/1", "m-2/1"]
    assert scene.target.created == ["churn-1"]


async def test_when_the_first_message_of_a_job_is_given_back_the_second_is_too(
    scene: FlowScene,
) -> None:
    waiting = scene.target.then_wait(begun=False)
    first, one = scene.start()
    await waiting.reached.wait()
    second, two = scene.start(message(message_id="m-2"))
    await a_while()
    first.give_back()
    second.give_back()
    await ended(one)
    await ended(two)
    assert sorted(scene.queue.hidden) == [("m-1/1", 0), ("m-2/1", 0)]
    assert len(scene.target.runs) == 1


# Ends
# ---


async def test_slot_and_ledger_are_free_after_the_acknowledgement_and_not_before(
    scene: FlowScene,
) -> None:
    waiting = Waiting()

    async def witness(_call: str) -> None:
        await waiting.pause()

    scene.queue.witness = witness
    _, task = scene.start()
    async with asyncio.timeout(5):
        await waiting.reached.wait()
    taking = asyncio.create_task(scene.slots.take(10))
    await a_while()
    assert not taking.done()
    assert len(scene.in_flight) == 1
    waiting.go_on.set()
    await ended(task)
    assert await taking == 1
    assert len(scene.in_flight) == 0


async def test_a_worker_that_is_cancelled_leaves_nothing_behind(scene: FlowScene) -> None:
    waiting = scene.target.then_wait(begun=False)
    _, task = scene.start()
    await waiting.reached.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert waiting.cancelled
    assert len(scene.in_flight) == 0
    assert await scene.slots.take(10) == 1
    assert not scene.queue.batches


async def held(
    scene: FlowScene, fault: EdgeFault, *, begun: int = 0
) -> tuple[Delivery, asyncio.Task[None]]:
    """A message that waits for an edge."""
    scene.back[fault.edge].clear()
    scene.target.then_raise(fault, begun=begun)
    delivery, task = scene.start()
    await scene.waiting_for(fault.edge)
    return delivery, task


async def held_times(scene: FlowScene, times: int) -> None:
    """Until the message has been held so often, and waits."""
    await until(
        lambda: len(scene.faults) == times and any(breaker.is_open for breaker in scene.breakers)
    )


async def let_back(scene: FlowScene, edge: Edge) -> None:
    """The edge's next probe passes, and only that one."""
    scene.back[edge].set()
    async with asyncio.timeout(5):
        await scene.breakers[edge].wait_closed()
    scene.back[edge].clear()


def fail_often(
    scene: FlowScene, edge: Edge, step: Step, times: int, reason: Reason = Reason.UNAVAILABLE
) -> None:
    """The next attempts fail in a step."""
    for _ in range(times):
        if step is Step.SYNC:
            scene.target.then_raise(edge_fault(edge, reason))
        else:
            scene.jobs.faults.setdefault(step, deque()).append(edge_fault(edge, reason))


@pytest.mark.parametrize(
    ("error", "event", "outcome"),
    [
        (
            JobRefused(Reason.MALFORMED_BODY, "characters"),
            "the dead-letter queue rejects the message; its body is kept in the checkpoint",
            "rejected",
        ),
        (
            edge_fault(Edge.QUEUE, Reason.ACCESS_DENIED),
            "the dead-letter queue failed; the message will be retried",
            "deferred",
        ),
    ],
)
async def test_a_dead_letter_that_is_not_taken_is_logged(
    scene: FlowScene, error: Exception, event: str, outcome: str
) -> None:
    scene.queue.faults["send"] = deque([error])
    with capture_logs() as logs:
        assert (await scene.handle(message("no event"))).kind == outcome
    [line] = log_lines(logs, event)
    assert line["log_level"] == "warning"
    assert line["detail"]


async def test_a_write_without_an_answer_is_still_known_when_its_message_was_held_too_long(
    scene: FlowScene,
) -> None:
    """The next receive, hours later, must not take the job for one that was never written."""
    scene.back[Edge.TARGET].clear()
    scene.target.then_raise(edge_fault(), begun=1)
    delivery, task = scene.start()
    await scene.waiting_for(Edge.TARGET)
    delivery.received_at -= RELEASE_AFTER_SECONDS + 1
    delivery.give_back()
    async with asyncio.timeout(5):
        await task
    assert scene.outcomes[-1][1].reason is Reason.HELD_TOO_LONG
    scene.back[Edge.TARGET].set()
    assert (await scene.handle(message(receive_count=2))).kind == "synced"
    assert [unanswered for unanswered, _ in scene.target.attempts] == [0, 1]


async def test_a_joined_rejection_is_one_row_of_one_job(scene: FlowScene) -> None:
    scene.jobs.put("churn-1", tags={"MODEL_DB_SYNC": ""})
    await asyncio.gather(
        *(scene.start(message(event_body(Tags=None), f"m-{number}"))[1] for number in range(2))
    )
    assert len(await scene.rows()) == 1


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
