"""The heartbeat: what is past half of its visibility is renewed, ten per call; claims are renewed,
and lost ones end their attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from daemon.aws.ports import Failed
from daemon.checkpoint.ports import Claim
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.clock import monotonic
from daemon.intake import heartbeat
from daemon.intake.heartbeat import Heartbeat
from daemon.pipeline.delivery import RELEASE_AFTER_SECONDS
from daemon.reasons import Edge, Reason
from tests.support.checkpoint_calls import TARGET
from tests.support.flow_scene import CountingPulse, Waiting, arn_of, edge_fault, message, until
from tests.support.log_lines import log_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    import pytest

    from daemon.pipeline.delivery import Delivery
    from tests.support.flow_scene import FlowScene

VISIBILITY = 30
LEASE = 0.08
"""A hundredth of a second between beats; the checkpoint's clock stands still, so that no lease runs
out by itself."""


class HeartbeatScene:
    """A running heartbeat."""

    def __init__(self, scene: FlowScene) -> None:
        self.beats: Counter[str] = Counter()
        self.pulses = CountingPulse(), CountingPulse()
        made = Heartbeat(
            scene.queue,
            scene.checkpoint,
            scene.in_flight,
            visibility_seconds=lambda: VISIBILITY,
            lease_seconds=LEASE,
            on_beat=lambda result: self.beats.update([result]),
            on_fault=scene.fault,
        )
        messages, claims = self.pulses
        self.tasks = [
            asyncio.create_task(made.run_messages(messages)),
            asyncio.create_task(made.run_claims(claims)),
        ]

    async def rounds(self, more: int) -> None:
        """So many whole beats from now."""
        for pulse in self.pulses:
            wanted = pulse.rests + more + 1
            await until(lambda: pulse.rests >= wanted or self.ended)  # noqa: B023 - awaited at once
        assert not self.ended

    async def message_rounds(self, more: int) -> None:
        """`rounds` of the messages only."""
        pulse = self.pulses[0]
        wanted = pulse.rests + more + 1
        await until(lambda: pulse.rests >= wanted or self.ended)
        assert not self.ended

    @property
    def ended(self) -> bool:
        return any(task.done() for task in self.tasks)


@contextlib.asynccontextmanager
async def beating(scene: FlowScene) -> AsyncIterator[HeartbeatScene]:
    heart = HeartbeatScene(scene)
    try:
        yield heart
    finally:
        for task in heart.tasks:
            task.cancel()
        await asyncio.gather(*heart.tasks, return_exceptions=True)


def received(scene: FlowScene, number: int, *, visible_for: float = VISIBILITY / 2 - 1) -> Delivery:
    delivery = scene.receive(message(message_id=f"m-{number}"))
    delivery.visible_at = time.monotonic() + visible_for
    return delivery


async def test_only_what_is_past_half_of_its_time_is_renewed_and_for_the_whole_time(
    scene: FlowScene,
) -> None:
    due = received(scene, 1, visible_for=VISIBILITY / 2 - 1)
    received(scene, 2, visible_for=VISIBILITY / 2 + 5)
    async with beating(scene) as heart:
        await heart.rounds(4)
    assert scene.queue.hidden == [("m-1/1", VISIBILITY)]
    assert due.visible_at - time.monotonic() > VISIBILITY - 2
    assert heart.beats == {"renewed": 1}


async def test_ten_per_call(scene: FlowScene) -> None:
    for number in range(23):
        received(scene, number)
    async with beating(scene) as heart:
        await heart.rounds(2)
    assert sorted(scene.queue.batches) == [("hide", 3), ("hide", 10), ("hide", 10)]
    assert heart.beats == {"renewed": 23}


async def test_a_stale_handle_is_left_alone_until_a_newer_receive(scene: FlowScene) -> None:
    delivery, other = received(scene, 1), received(scene, 2)
    scene.queue.refusals["m-1/1"] = deque([Failed("ReceiptHandleIsInvalid", "stale", stale=True)])
    async with beating(scene) as heart:
        await heart.rounds(4)
        assert scene.queue.batches == [("hide", 2)]
        assert heart.beats == {"stale": 1, "renewed": 1}
        assert list(scene.in_flight) == [delivery, other]
        assert not delivery.released.is_set()
        scene.in_flight.add(message(message_id="m-1", receive_count=2), VISIBILITY / 2 - 1)
        await heart.rounds(2)
    assert scene.queue.hidden == [("m-2/1", VISIBILITY), ("m-1/2", VISIBILITY)]


async def test_a_newer_receive_during_the_call_is_not_taken_for_stale(scene: FlowScene) -> None:
    delivery = received(scene, 1)
    scene.queue.refusals["m-1/1"] = deque([Failed("ReceiptHandleIsInvalid", "stale", stale=True)])

    async def witness(_call: str) -> None:
        scene.in_flight.add(message(message_id="m-1", receive_count=2), VISIBILITY)

    scene.queue.witness = witness
    async with beating(scene) as heart:
        await heart.rounds(2)
    assert delivery.visible_at < time.monotonic() + VISIBILITY + 1


async def test_a_refused_entry_is_counted_and_tried_again(scene: FlowScene) -> None:
    received(scene, 1)
    received(scene, 2)
    scene.queue.refusals["m-1/1"] = deque([Failed("InternalError", "again", stale=False)])
    async with beating(scene) as heart:
        await heart.rounds(3)
    assert heart.beats == {"failed": 1, "renewed": 2}
    assert scene.queue.hidden == [("m-2/1", VISIBILITY), ("m-1/1", VISIBILITY)]


async def test_an_outage_of_the_queue_is_counted_reported_and_retried(scene: FlowScene) -> None:
    received(scene, 1)
    scene.queue.faults["hide"] = deque([edge_fault(Edge.QUEUE)])
    async with beating(scene) as heart:
        await heart.rounds(3)
    assert heart.beats == {"failed": 1, "renewed": 1}
    assert [fault.edge for fault in scene.faults] == [Edge.QUEUE]


async def test_after_eleven_and_a_half_hours_a_message_is_given_back_and_not_renewed(
    scene: FlowScene,
) -> None:
    old, young = received(scene, 1), received(scene, 2)
    old.received_at -= RELEASE_AFTER_SECONDS + 1
    young.received_at -= RELEASE_AFTER_SECONDS - 60
    async with beating(scene) as heart:
        await heart.rounds(2)
    assert old.released.is_set()
    assert not young.released.is_set()
    assert scene.queue.hidden == [("m-2/1", VISIBILITY)]


async def test_a_held_message_is_given_back_after_eleven_and_a_half_hours(scene: FlowScene) -> None:
    scene.back[Edge.TARGET].clear()
    scene.target.then_raise(edge_fault())
    delivery, task = scene.start()
    await scene.waiting_for(Edge.TARGET)
    delivery.received_at -= RELEASE_AFTER_SECONDS + 1
    async with beating(scene), asyncio.timeout(5):
        await task
    assert scene.outcomes[-1][1].reason is Reason.HELD_TOO_LONG
    assert scene.queue.hidden == [("m-1/1", 0)]


async def test_claims_are_renewed_as_long_as_they_are_held(scene: FlowScene, path: Path) -> None:
    waiting = scene.target.then_wait(begun=True)
    _, task = scene.start()
    await waiting.reached.wait()
    for _ in range(4):
        scene.clock.now += LEASE / 2  # two of them are a lease
        async with beating(scene) as heart:
            await heart.rounds(2)
    # the claim's first lease would have ended long ago, the heartbeat's shorter one has
    scene.clock.now += 59
    other = await open_sqlite_checkpoint(path, TARGET)
    assert isinstance(await other.claim(arn_of("churn-1"), 60.0), Claim)
    await other.aclose()
    assert not waiting.cancelled
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_lost_claim_ends_the_attempt(scene: FlowScene, path: Path) -> None:
    scene.jobs.put("churn-2")
    lost, kept = scene.target.then_wait(begun=True), scene.target.then_wait(begun=False)
    delivery, task = scene.start()
    await lost.reached.wait()
    scene.clock.now += 61
    other = await open_sqlite_checkpoint(path, TARGET)
    assert isinstance(await other.claim(arn_of("churn-1"), 60.0), Claim)
    other_entry, other_task = scene.start(message('{"TrainingJobName": "churn-2"}', "m-2"))
    await kept.reached.wait()
    async with beating(scene) as heart:
        await heart.rounds(3)
    assert (lost.cancelled, kept.cancelled) == (True, False)
    assert (delivery.claim_lost, other_entry.claim_lost) == (True, False)
    kept.go_on.set()
    async with asyncio.timeout(5):
        await other_task
    assert scene.target.created == ["churn-2"]
    assert [message_id for message_id, _ in scene.outcomes] == ["m-2"]
    await other.aclose()
    async with asyncio.timeout(5):
        await task  # when the other process has ended its claim, the write in doubt is settled
    assert scene.target.created == ["churn-2", "churn-1"]


async def test_a_checkpoint_that_fails_is_reported_and_retried(scene: FlowScene) -> None:
    waiting = scene.target.then_wait(begun=False)
    _, task = scene.start()
    await waiting.reached.wait()
    scene.fail_checkpoint("renew", edge_fault(Edge.CHECKPOINT, Reason.STORAGE))
    async with beating(scene) as heart:
        await until(lambda: scene.faults)
        await heart.rounds(2)
    assert [fault.edge for fault in scene.faults] == [Edge.CHECKPOINT]
    assert not waiting.cancelled
    waiting.go_on.set()
    async with asyncio.timeout(5):
        await task
    assert scene.target.created == ["churn-1"]


async def test_a_checkpoint_that_hangs_lets_no_message_become_visible(
    scene: FlowScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.jobs.put("churn-1")
    waiting = scene.target.then_wait(begun=True)
    delivery, task = scene.start()
    await waiting.reached.wait()
    hanging = Waiting()

    async def renew(_claims: Sequence[Claim], _lease_seconds: float) -> Sequence[Claim]:
        await hanging.pause()
        return ()

    monkeypatch.setattr(scene.checkpoint, "renew", renew)
    async with beating(scene) as heart:
        await hanging.reached.wait()
        delivery.visible_at = monotonic() + 1
        await heart.message_rounds(2)
        assert scene.queue.hidden == [("m-1/1", VISIBILITY)]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_silent_queue_lets_no_claim_expire(
    scene: FlowScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "_SHORTEST_CALL_SECONDS", 0.02)
    monkeypatch.setattr(heartbeat, "_LONGEST_CALL_SECONDS", 0.02)
    waiting = scene.target.then_wait(begun=True)
    delivery, task = scene.start()
    await waiting.reached.wait()
    silent = Waiting()

    async def witness(_call: str) -> None:
        await silent.pause()

    scene.queue.witness = witness
    renewed: list[Claim] = []
    renew = scene.checkpoint.renew

    async def noted(claims: Sequence[Claim], lease_seconds: float) -> Sequence[Claim]:
        renewed.extend(claims)
        return await renew(claims, lease_seconds)

    monkeypatch.setattr(scene.checkpoint, "renew", noted)
    async with beating(scene):
        delivery.visible_at = monotonic() + 1
        await silent.reached.wait()
        seen = len(renewed)
        await until(lambda: len(renewed) >= seen + 2)
        # a renewal that hangs is given up in time for another
        await until(lambda: len(scene.faults) >= 2)
        assert {(fault.edge, fault.reason) for fault in scene.faults} == {
            (Edge.QUEUE, Reason.UNREACHABLE)
        }
    silent.go_on.set()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_refused_heartbeat_is_logged_with_the_queues_words(scene: FlowScene) -> None:
    received(scene, 1)
    scene.queue.refusals["m-1/1"] = deque([Failed("AccessDenied", "not allowed", stale=False)])
    with capture_logs() as logs:
        async with beating(scene) as heart:
            await heart.rounds(2)
    [line] = log_lines(logs, "heartbeat refused")
    assert (line["log_level"], line["code"], line["message_id"]) == (
        "warning",
        "AccessDenied",
        "m-1",
    )
    assert heart.beats["failed"] == 1


async def test_a_lost_claim_is_logged_with_its_job(scene: FlowScene, path: Path) -> None:
    waiting = scene.target.then_wait(begun=True)
    _, task = scene.start()
    await waiting.reached.wait()
    scene.clock.now += 61
    other = await open_sqlite_checkpoint(path, TARGET)
    assert isinstance(await other.claim(arn_of("churn-1"), 60.0), Claim)
    with capture_logs() as logs:
        async with beating(scene):
            await until(lambda: waiting.cancelled)
    await other.aclose()
    async with asyncio.timeout(5):
        await task
    [line] = log_lines(logs, "claim lost")
    assert (line["log_level"], line["job"]) == ("warning", arn_of("churn-1"))
