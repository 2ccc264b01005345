"""The poller: it receives when every edge is available and a slot is free; messages that arrive
after the stop are returned at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from daemon.errors import EdgeFault
from daemon.intake.in_flight import InFlight, Slots
from daemon.intake.poller import RECEIVE_DEADLINE_SECONDS, RECEIVE_MARGIN_SECONDS, Poller
from daemon.observability.watchdog import Pulse
from daemon.reasons import Edge, Reason
from tests.support.checkpoint_calls import FakeClock
from tests.support.flow_scene import MemoryQueue, a_while, edge_fault, message, until
from tests.support.log_lines import log_lines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from daemon.aws.ports import Message
    from daemon.pipeline.delivery import Delivery

WAIT_SECONDS = 20


class PollerScene:
    """A running poller.

    Attributes:
        open: whether every edge works.
    """

    def __init__(self, slots: int = 12) -> None:
        self.queue = MemoryQueue()
        self.in_flight = InFlight()
        self.slots = Slots(max(slots, 1))
        self.all_taken = slots == 0
        self.open = asyncio.Event()
        self.open.set()
        self.stop = asyncio.Event()
        self.pulse = Pulse()
        self.started: list[Delivery] = []
        self.received: list[int] = []
        self.faults: list[EdgeFault] = []

    async def gate(self) -> None:
        await self.open.wait()

    async def __aenter__(self) -> Self:
        if self.all_taken:
            await self.slots.take(1)
        poller = Poller(
            self.queue,
            self.in_flight,
            self.slots,
            wait_seconds=WAIT_SECONDS,
            gate=self.gate,
            visibility_seconds=lambda: 30,
            start=self.started.append,
            on_receive=self.received.append,
            on_fault=self.faults.append,
        )
        self.task = asyncio.create_task(poller.run(self.stop, self.pulse))
        await a_while()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def answer(self, answer: Sequence[Message] | EdgeFault) -> None:
        self.queue.answers.put_nowait(answer)
        await a_while()

    async def free(self) -> int:
        """The number of free slots."""
        return await self.slots.take(1000) if self.slots._free else 0


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.intake.poller.RETRY_SECONDS", 0.0)
    monkeypatch.setattr("daemon.intake.poller.LEAST_PERIOD_SECONDS", 0.0)


async def test_what_is_received_is_entered_and_begun() -> None:
    async with PollerScene() as scene:
        await scene.answer([message(message_id="m-1"), message(message_id="m-2")])
        assert [delivery.message.message_id for delivery in scene.started] == ["m-1", "m-2"]
        assert list(scene.in_flight) == scene.started
        assert scene.received == [2]


async def test_no_more_is_asked_for_than_there_are_slots_and_never_more_than_ten() -> None:
    async with PollerScene(slots=12) as scene:
        assert scene.queue.receives == [10]
        await scene.answer([message(message_id=f"m-{number}") for number in range(9)])
        assert scene.queue.receives == [10, 3]
        await scene.answer([message(message_id=f"n-{number}") for number in range(3)])
        assert scene.queue.receives == [10, 3]  # all slots are taken
        scene.slots.give_back(1)
        await a_while()
        assert scene.queue.receives == [10, 3, 1]


async def test_a_slot_is_taken_before_the_receive() -> None:
    async with PollerScene(slots=4) as scene:
        assert scene.queue.receives == [4]
        assert await scene.free() == 0


async def test_slots_without_a_message_are_given_back() -> None:
    async with PollerScene(slots=4) as scene:
        await scene.answer([])
        await scene.answer([message(message_id="m-1")])
        # joins: no slot of its own
        await scene.answer([message(message_id="m-1", receive_count=2)])
        assert len(scene.started) == 1
        assert scene.queue.receives == [4, 4, 3, 3]
        assert next(iter(scene.in_flight)).receipt_handle == "m-1/2"


async def test_nothing_is_received_while_an_edge_does_not_work() -> None:
    scene = PollerScene()
    scene.open.clear()
    async with scene:
        assert not scene.queue.receives
        scene.open.set()
        await a_while()
        assert scene.queue.receives == [10]
        scene.open.clear()
        await scene.answer([message()])
        assert scene.queue.receives == [10]


async def test_a_receive_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    # a response that trickles in byte by byte hits no timeout of the client
    monkeypatch.setattr("daemon.intake.poller.RECEIVE_DEADLINE_SECONDS", 0.05 - WAIT_SECONDS)
    async with PollerScene(slots=4) as scene:
        await until(lambda: len(scene.faults) == 2)
        assert {(fault.edge, fault.reason) for fault in scene.faults} == {
            (Edge.QUEUE, Reason.UNREACHABLE)
        }
        assert set(scene.queue.receives) == {4}  # its slots were given back each time


async def test_giving_up_comes_before_the_loop_counts_as_hanging() -> None:
    assert 60 < RECEIVE_DEADLINE_SECONDS < RECEIVE_MARGIN_SECONDS


async def test_an_outage_of_the_queue_is_reported_and_does_not_end_the_poller() -> None:
    async with PollerScene(slots=4) as scene:
        await scene.answer(edge_fault(Edge.QUEUE))
        await scene.answer(edge_fault(Edge.QUEUE))
        assert [fault.edge for fault in scene.faults] == [Edge.QUEUE]
        assert scene.queue.receives == [4, 4, 4]
        await scene.answer([message()])
        assert len(scene.started) == 1


async def test_a_single_failed_receive_is_no_outage() -> None:
    async with PollerScene(slots=4) as scene:
        for _ in range(10):
            await scene.answer(edge_fault(Edge.QUEUE))
            await scene.answer([])
        assert not scene.faults
        assert scene.received == [0] * 10


@pytest.mark.parametrize("reason", [Reason.CREDENTIALS, Reason.NOT_FOUND, Reason.NOT_THE_API])
async def test_a_fault_that_never_is_single_is_reported_at_once(reason: Reason) -> None:
    async with PollerScene(slots=4) as scene:
        await scene.answer(EdgeFault(Edge.QUEUE, reason, "what happened"))
        assert [fault.reason for fault in scene.faults] == [reason]


async def test_an_empty_queue_is_not_asked_at_full_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    # with WaitTimeSeconds 0 every receive returns at once
    monkeypatch.setattr("daemon.intake.poller.LEAST_PERIOD_SECONDS", 60.0)
    async with PollerScene(slots=4) as scene:
        await scene.answer([message(message_id="m-1")])
        assert scene.queue.receives == [4, 3]  # a queue with messages is asked again at once
        await scene.answer([])
        assert scene.queue.receives == [4, 3]
        scene.stop.set()
        await a_while()
        assert scene.task.done()  # the pause does not outlive the stop


async def test_a_running_poll_is_not_cancelled_and_its_messages_are_returned_at_once() -> None:
    async with PollerScene(slots=4) as scene:
        scene.stop.set()
        await a_while()
        assert not scene.task.done()
        await scene.answer([message(message_id="m-1"), message(message_id="m-2")])
        assert scene.task.done()
        assert scene.queue.hidden == [("m-1/1", 0), ("m-2/1", 0)]
        assert not scene.started
        assert len(scene.in_flight) == 0
        assert await scene.free() == 4


async def test_what_cannot_be_returned_after_the_stop_is_left_to_its_visibility_timeout() -> None:
    async with PollerScene(slots=4) as scene:
        scene.stop.set()
        scene.queue.faults["hide"] = deque([edge_fault(Edge.QUEUE)])
        await scene.answer([message()])
        assert scene.task.done()
        assert not scene.faults
        assert await scene.free() == 4


async def test_a_poll_that_brings_nothing_after_the_stop_returns_nothing() -> None:
    async with PollerScene() as scene:
        scene.stop.set()
        await scene.answer([])
        assert scene.task.done()
        assert not scene.queue.batches


async def test_a_poller_that_waits_for_an_edge_ends_with_the_stop() -> None:
    scene = PollerScene(slots=4)
    scene.open.clear()
    async with scene:
        scene.stop.set()
        await until(scene.task.done)
        scene.open.set()
        await a_while()
        assert not scene.queue.receives
        assert await scene.free() == 4


async def test_a_poller_that_waits_for_a_slot_ends_with_the_stop() -> None:
    async with PollerScene(slots=0) as scene:
        scene.stop.set()
        await until(scene.task.done)
        scene.slots.give_back(1)
        assert await scene.free() == 1


async def test_a_slot_that_comes_with_the_stop_is_given_back() -> None:
    async with PollerScene(slots=0) as scene:
        scene.slots.give_back(3)
        scene.stop.set()
        await until(scene.task.done)
        assert not scene.queue.receives
        assert await scene.free() == 3


async def test_a_waiting_poller_is_alive_and_a_poll_beyond_its_time_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeClock()
    monkeypatch.setattr("daemon.observability.watchdog.monotonic", clock)
    async with PollerScene(slots=1) as scene:
        clock.now += WAIT_SECONDS + RECEIVE_MARGIN_SECONDS
        assert scene.pulse.overdue_seconds == 0
        clock.now += 5
        assert scene.pulse.overdue_seconds == 5
        await scene.answer([message()])  # takes the only slot
        clock.now += 3600
        assert scene.pulse.overdue_seconds == 0


async def test_the_visibility_is_counted_from_before_the_answer_but_never_below_half() -> None:
    async with PollerScene() as scene:
        await scene.answer([message()])
        [delivery] = scene.started
        assert 29 < delivery.visible_at - delivery.received_at <= 30


async def test_a_message_received_again_while_in_flight_is_logged_without_a_warning() -> None:
    async with PollerScene() as scene:
        with capture_logs() as logs:
            await scene.answer([message()])
            await scene.answer([message(receive_count=2)])
    [line] = log_lines(logs, "message received again while in flight")
    assert (line["log_level"], line["receive_count"]) == ("info", 2)


async def test_a_slot_that_comes_free_during_an_outage_leads_to_no_receive() -> None:
    """All slots were taken when the breaker opened; the poller had passed the gate before it waited
    for one.
    """
    async with PollerScene(slots=1) as scene:
        await scene.answer([message()])
        scene.open.clear()
        scene.slots.give_back(1)
        await a_while()
        assert scene.queue.receives == [1]
