"""A job that another process hands over: taken by the writer, held, answered, withdrawn.

The two processes are two checkpoints on one file.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.errors import DaemonError, EdgeFault, JobFault
from daemon.observability.watchdog import Pulse
from daemon.operations import hand_over, handed_over
from daemon.operations.hand_over import HandOver, NobodyTakesIt, NotYet
from daemon.operations.handed_over import HandedOver
from daemon.operations.sync_one import SyncOne
from daemon.reasons import Edge, Reason
from daemon.story import StoryEvent
from tests.support.checkpoint_calls import TARGET
from tests.support.flow_scene import a_while, arn_of, edge_fault, flow_scene, message, until
from tests.support.log_lines import log_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from daemon.checkpoint.sqlite.store import SqliteCheckpoint
    from daemon.operations.sync_one import SyncResult
    from tests.support.flow_scene import FlowScene


class Writer:
    """Whether the daemon is the writer, as the test says."""

    def __init__(self) -> None:
        self._held = asyncio.Event()
        self._held.set()

    @property
    def holds(self) -> bool:
        return self._held.is_set()

    @holds.setter
    def holds(self, holds: bool) -> None:
        if holds:
            self._held.set()
        else:
            self._held.clear()

    async def wait_held(self) -> None:
        await self._held.wait()


@dataclass
class Handing:
    """A daemon that serves requests, and the checkpoint of those who ask."""

    flow: FlowScene
    asker: SqliteCheckpoint
    writer: Writer
    served: HandedOver
    said: list[str] = field(default_factory=list)

    def ask(
        self, job: str = "churn-1", *, force: bool = False, **seconds: float
    ) -> asyncio.Task[SyncResult]:
        """Another process hands a job over."""
        over = HandOver(self.asker, say=self.said.append, **seconds)
        return asyncio.create_task(over.sync(job, force=force))

    async def left(self, job: str = "churn-1") -> list[Any]:
        """The requests about a job that have no answer."""
        found = await self.asker.requests_about(job)
        return [each for each in found if each.answer is None]


@pytest.fixture
async def handing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Handing]:
    monkeypatch.setattr(handed_over, "AGAIN_SECONDS", (0.005, 0.005))
    monkeypatch.setattr(hand_over, "POLL_SECONDS", 0.005)
    path = tmp_path / "checkpoint.db"
    async with flow_scene(path) as scene:
        asker = await open_sqlite_checkpoint(path, TARGET)
        writer, tasks = Writer(), set[asyncio.Task[None]]()
        served = HandedOver(
            scene.checkpoint,
            scene.breakers,
            writer,
            outcome_of=scene.worker.outcome_of,
            make_work=partial(
                SyncOne,
                scene.flow,
                scene.jobs,
                scene.checkpoint,
                scene.in_flight,
                patience_seconds=inf,
            ),
            start=lambda work: tasks.add(asyncio.ensure_future(work)),
            on_fault=scene.fault,
            look_seconds=0.005,
        )
        loop = asyncio.create_task(served.run(Pulse()))
        yield Handing(scene, asker, writer, served)
        served.stop()
        loop.cancel()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(loop, *tasks, return_exceptions=True)
        await asker.aclose()
        assert [each for each in results if isinstance(each, Exception)] == []


async def result(task: asyncio.Task[SyncResult]) -> SyncResult:
    async with asyncio.timeout(5):
        return await task


async def test_a_request_is_run_without_a_message_and_answered(handing: Handing) -> None:
    answer = await result(handing.ask())
    assert (answer.outcome, answer.reason) == ("synced", "created")
    assert answer.target_ids == {"run_id": "id-of-churn-1"}
    assert handing.flow.target.created == ["churn-1"]
    assert handing.flow.queue.batches == [], "there is nothing to acknowledge"
    assert len(handing.flow.in_flight) == 0
    story = await handing.flow.checkpoint.story(arn_of("churn-1"))
    assert [entry.what for entry in story].count(StoryEvent.HANDED_OVER) == 1
    again = await result(handing.ask(arn_of("churn-1")))
    assert (again.outcome, again.reason) == ("duplicate", "already_synced")


async def test_the_answer_comes_after_the_durable_outcome(handing: Handing, tmp_path: Path) -> None:
    seen: list[str] = []
    real = handing.flow.checkpoint.answer_request

    async def witness(request_id: str, answer: str) -> bool:
        other = await open_sqlite_checkpoint(tmp_path / "checkpoint.db", TARGET)
        seen.extend(row.state for row in await other.described(arn_of("churn-1")))
        await other.aclose()
        return await real(request_id, answer)

    handing.flow.checkpoint.answer_request = witness  # type: ignore[method-assign]
    await result(handing.ask())
    assert seen == ["synced"]


async def test_a_rejection_makes_no_dead_letter(handing: Handing) -> None:
    handing.flow.jobs.put("churn-1", tags={"MODEL_DB_SYNC": ""})
    answer = await result(handing.ask())
    assert (answer.outcome, answer.reason) == ("rejected", "tags_incomplete")
    assert handing.flow.queue.dead_letters == []


async def test_a_request_waits_for_a_message_of_the_same_job(handing: Handing) -> None:
    waiting = handing.flow.target.then_wait(begun=True)
    _, working = handing.flow.start(message())
    await waiting.reached.wait()
    asked = handing.ask()
    await until(lambda: len(handing.flow.in_flight) == 2)
    waiting.go_on.set()
    assert (await result(asked)).outcome == "duplicate"
    await working
    assert handing.flow.target.created == ["churn-1"]


async def test_only_the_writer_takes_requests(handing: Handing) -> None:
    handing.writer.holds = False
    await asyncio.sleep(0.02)  # its loop waits for the lease now
    with pytest.raises(NobodyTakesIt) as caught:
        await result(handing.ask(take_seconds=0.05))
    assert "start it (`run`)" in str(caught.value)
    assert await handing.left() == [], "it is withdrawn"
    handing.writer.holds = True
    assert (await result(handing.ask())).outcome == "synced"


async def test_an_outage_is_waited_for_and_said(handing: Handing) -> None:
    handing.flow.back[Edge.TARGET].clear()
    handing.flow.fault(EdgeFault(Edge.TARGET, Reason.UNREACHABLE, "connection refused"))
    asked = handing.ask()
    await until(lambda: handing.said)
    [sentence] = handing.said
    assert sentence.startswith("ModelDB is unreachable since ")
    assert sentence.endswith(" UTC: waiting (connection refused)")
    assert handing.flow.jobs.asked == [], "nothing is begun"
    handing.flow.back[Edge.TARGET].set()
    assert (await result(asked)).outcome == "synced"


async def test_the_caller_waits_only_as_long_as_it_likes(handing: Handing) -> None:
    handing.flow.back[Edge.TARGET].clear()
    handing.flow.fault(edge_fault())
    with pytest.raises(NotYet) as caught:
        await result(handing.ask(patience_seconds=0.05))
    assert "is not synced after 0.05 s: ModelDB is unavailable since" in str(caught.value)
    assert "with a longer `--wait`" in str(caught.value)
    assert await handing.left() == []


async def test_a_forced_request_does_not_take_an_unforced_outcome(handing: Handing) -> None:
    waiting = handing.flow.target.then_wait(begun=True)
    _, working = handing.flow.start(message())
    await waiting.reached.wait()
    asked = handing.ask(force=True)
    await until(lambda: len(handing.flow.in_flight) == 2)
    waiting.go_on.set()
    assert (await result(asked)).outcome == "synced"
    await working
    assert len(handing.flow.target.runs) == 2, "the second one is the repair"


async def test_a_fault_in_the_middle_holds_the_request_as_a_message(handing: Handing) -> None:
    handing.flow.back[Edge.TARGET].clear()
    handing.flow.target.then_raise(edge_fault(), begun=1)
    asked = handing.ask()
    await until(lambda: handing.said)
    assert "ModelDB is unavailable since" in handing.said[0]
    assert [fault.edge for fault in handing.flow.faults] == [Edge.TARGET]
    handing.flow.back[Edge.TARGET].set()
    assert (await result(asked)).outcome == "synced"


@pytest.mark.parametrize("call", ["describe", "tags"])
async def test_a_fault_of_sagemaker_opens_its_breaker(handing: Handing, call: str) -> None:
    handing.flow.jobs.faults[call] = deque([edge_fault(Edge.SAGEMAKER, Reason.THROTTLED)])
    assert (await result(handing.ask())).outcome == "synced"
    assert [fault.edge for fault in handing.flow.faults] == [Edge.SAGEMAKER]


async def test_a_job_that_another_process_works_on_is_tried_again(
    handing: Handing, tmp_path: Path
) -> None:
    other = await open_sqlite_checkpoint(tmp_path / "checkpoint.db", TARGET)
    claim: Any = await other.claim(arn_of("churn-1"), 60)
    asked = handing.ask()
    await until(lambda: handing.said)
    assert "works on churn-1" in handing.said[0]
    await other.release(claim)
    assert (await result(asked)).outcome == "synced"
    await other.aclose()


async def test_a_failure_of_the_job_itself_is_the_answer(handing: Handing) -> None:
    handing.flow.target.then_raise(JobFault(Reason.TARGET_FAULT, "no such column"))
    answer = await result(handing.ask())
    assert (answer.outcome, answer.reason) == ("deferred", "target_fault")
    assert "no such column" in answer.text


async def test_a_bug_fails_one_request_only(handing: Handing) -> None:
    async def broken(_name: str) -> Any:
        raise ZeroDivisionError

    real = handing.flow.jobs.describe
    handing.flow.jobs.describe = broken  # type: ignore[method-assign, assignment]
    with capture_logs() as logged:
        answer = await result(handing.ask())
    assert (answer.outcome, answer.reason) == ("deferred", "internal_error")
    assert log_lines(logged, "internal error")
    handing.flow.jobs.describe = real  # type: ignore[method-assign]
    assert (await result(handing.ask())).outcome == "synced"


async def test_no_longer_the_writer_it_gives_the_request_back(handing: Handing) -> None:
    handing.flow.target.then_raise(JobFault(Reason.STANDING_BY, "another process is the writer"))
    asked = handing.ask()
    assert (await result(asked)).outcome == "synced", "the next writer, here the same, takes it"
    assert len(handing.flow.target.runs) == 2


async def test_at_the_stop_what_waits_is_given_back(handing: Handing) -> None:
    handing.flow.back[Edge.TARGET].clear()
    handing.flow.fault(edge_fault())
    asked = handing.ask()
    await until(lambda: handing.said)
    handing.served.stop()
    async with asyncio.timeout(5):
        await handing.served.wait_idle()
    [request] = await handing.left()
    assert (request.taken_by, request.begun) == ("", False)
    asked.cancel()


async def test_what_is_taken_while_the_daemon_stops_is_given_back(
    handing: Handing, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = handing.flow.checkpoint
    take, asked_for, go_on = checkpoint.take_request, asyncio.Event(), asyncio.Event()

    async def slow(**seconds: float) -> Any:
        asked_for.set()
        await go_on.wait()
        return await take(**seconds)

    monkeypatch.setattr(checkpoint, "take_request", slow)
    asked = handing.ask()
    await asked_for.wait()
    while not await handing.left():
        await a_while()
    handing.served.stop()
    idle = asyncio.create_task(handing.served.wait_idle())
    await a_while()
    assert not idle.done()
    go_on.set()
    async with asyncio.timeout(5):
        await idle
    [request] = await handing.left()
    assert (request.taken_by, request.begun) == ("", False)
    asked.cancel()


async def test_what_is_given_back_and_taken_again_while_the_daemon_stops_is_given_back(
    handing: Handing, monkeypatch: pytest.MonkeyPatch
) -> None:
    handing.flow.back[Edge.TARGET].clear()
    handing.flow.fault(edge_fault())
    asked = handing.ask()
    await until(lambda: handing.said)
    checkpoint = handing.flow.checkpoint
    take, asked_for, go_on = checkpoint.take_request, asyncio.Event(), asyncio.Event()

    async def slow(**seconds: float) -> Any:
        asked_for.set()
        await go_on.wait()
        return await take(**seconds)

    monkeypatch.setattr(checkpoint, "take_request", slow)
    await asked_for.wait()
    handing.served.stop()
    idle = asyncio.create_task(handing.served.wait_idle())
    while (await handing.left())[0].taken_by:
        await a_while()
    await a_while()
    assert not idle.done()
    go_on.set()
    async with asyncio.timeout(5):
        await idle
    [request] = await handing.left()
    assert (request.taken_by, request.begun) == ("", False)
    asked.cancel()


async def test_at_the_stop_a_write_under_way_is_finished_and_answered(handing: Handing) -> None:
    waiting = handing.flow.target.then_wait(begun=True)
    asked = handing.ask()
    await waiting.reached.wait()
    handing.served.stop()
    await a_while()
    assert not waiting.cancelled
    waiting.go_on.set()
    async with asyncio.timeout(5):
        await handing.served.wait_idle()
    assert (await result(asked)).outcome == "synced"


async def test_at_the_stop_what_has_not_begun_to_write_is_given_back(handing: Handing) -> None:
    waiting = handing.flow.target.then_wait(begun=False)
    asked = handing.ask()
    await waiting.reached.wait()
    handing.served.stop()
    async with asyncio.timeout(5):
        await handing.served.wait_idle()
    assert waiting.cancelled
    [request] = await handing.left()
    assert (request.taken_by, request.begun) == ("", True)
    asked.cancel()


async def test_leaving_withdraws_what_is_not_begun(handing: Handing) -> None:
    handing.flow.back[Edge.TARGET].clear()
    handing.flow.fault(edge_fault())
    asked = handing.ask()
    await until(lambda: handing.said)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert await handing.left() == []
    handing.flow.back[Edge.TARGET].set()
    async with asyncio.timeout(5):
        await handing.served.wait_idle()
    assert handing.flow.target.created == []


async def test_leaving_does_not_stop_what_is_begun(handing: Handing) -> None:
    waiting = handing.flow.target.then_wait(begun=True)
    asked = handing.ask()
    await waiting.reached.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert handing.said == [
        "the daemon has begun with churn-1 and finishes it: see `history --job churn-1`"
    ]
    waiting.go_on.set()
    async with asyncio.timeout(5):
        await handing.served.wait_idle()
    assert handing.flow.target.created == ["churn-1"]


async def test_a_request_stays_with_its_daemon_however_long_it_takes(
    handing: Handing, tmp_path: Path
) -> None:
    other = await open_sqlite_checkpoint(tmp_path / "checkpoint.db", TARGET)
    waiting = handing.flow.target.then_wait(begun=True)
    asked = handing.ask()
    await waiting.reached.wait()
    for _ in range(5):
        handing.flow.clock.now += 0.6 * handed_over.REQUEST_LEASE_SECONDS
        for serving in handing.served._serving.values():
            serving.renewed_at -= 0.6 * handed_over.REQUEST_LEASE_SECONDS
        await asyncio.sleep(0.05)
        assert await other.take_request(lease_seconds=20) is None
    waiting.go_on.set()
    await other.aclose()
    assert (await result(asked)).outcome == "synced"


async def test_what_a_daemon_that_ended_had_begun_is_waited_for(
    handing: Handing, tmp_path: Path
) -> None:
    handing.writer.holds = False
    await asyncio.sleep(0.02)
    ended = await open_sqlite_checkpoint(tmp_path / "checkpoint.db", TARGET)
    asked = handing.ask(take_seconds=0.05)
    while (taken := await ended.take_request(lease_seconds=20)) is None:
        await asyncio.sleep(0.005)
    await ended.renew_request(taken.request_id, lease_seconds=20, begun=True)
    handing.flow.clock.now += 21
    await until(lambda: handing.said)
    assert handing.said == [hand_over.LEFT]
    handing.writer.holds = True
    assert (await result(asked)).outcome == "synced"
    await ended.aclose()


async def test_a_request_that_nobody_goes_on_with_is_not_waited_for_for_ever(
    handing: Handing, tmp_path: Path
) -> None:
    handing.writer.holds = False
    await asyncio.sleep(0.02)
    ended = await open_sqlite_checkpoint(tmp_path / "checkpoint.db", TARGET)
    asked = handing.ask(next_seconds=0.05)
    while (taken := await ended.take_request(lease_seconds=20)) is None:
        await asyncio.sleep(0.005)
    await ended.renew_request(taken.request_id, lease_seconds=20, begun=True)
    handing.flow.clock.now += 21
    with pytest.raises(NobodyTakesIt) as caught:
        await result(asked)
    assert "It goes on with the job by itself" in str(caught.value)
    assert len(await handing.left()) == 1
    await ended.aclose()


async def test_a_fault_of_the_checkpoint_leaves_the_request_to_its_lease(
    handing: Handing,
) -> None:
    storage = edge_fault(Edge.CHECKPOINT, Reason.STORAGE)
    handing.flow.fail_checkpoint("renew_request", storage)
    asked = handing.ask()
    await until(lambda: handing.flow.faults)
    assert handing.flow.faults == [storage]
    await asyncio.sleep(0.05)
    handing.flow.clock.now += handed_over.REQUEST_LEASE_SECONDS + 1
    assert (await result(asked)).outcome == "synced"


async def test_an_answer_waits_for_the_checkpoint(handing: Handing) -> None:
    handing.flow.fail_checkpoint("answer_request", edge_fault(Edge.CHECKPOINT, Reason.STORAGE))
    assert (await result(handing.ask())).outcome == "synced"
    assert handing.flow.target.created == ["churn-1"]


async def test_a_request_that_is_gone_is_said(handing: Handing) -> None:
    handing.writer.holds = False
    await asyncio.sleep(0.02)
    asked = handing.ask()
    await asyncio.sleep(0.02)
    for each in await handing.left():
        await handing.asker.withdraw(each.request_id)
    with pytest.raises(DaemonError, match="is gone from the checkpoint"):
        await result(asked)


async def test_many_requests_are_served_at_once_but_not_all(handing: Handing) -> None:
    names = [f"job-{number}" for number in range(handed_over.MOST_AT_ONCE + 2)]
    waitings = []
    for name in names:
        handing.flow.jobs.put(name)
        waitings.append(handing.flow.target.then_wait(begun=True))
    asked = [handing.ask(name) for name in names]
    await until(lambda: len(handing.flow.in_flight) == handed_over.MOST_AT_ONCE)
    await asyncio.sleep(0.05)
    assert len(handing.flow.in_flight) == handed_over.MOST_AT_ONCE
    for waiting in waitings:
        waiting.go_on.set()
    for task in asked:
        with contextlib.suppress(DaemonError):
            await result(task)
    assert sorted(handing.flow.target.created) == sorted(names)
