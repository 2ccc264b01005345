"""The poller: every edge works and a slot is free before it receives; what comes after the stop
goes back at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from daemon.intake.in_flight import InFlight, Slots
from daemon.intake.poller import RECEIVE_DEADLINE_SECONDS, RECEIVE_MARGIN_SECONDS, Poller
from daemon.observability.watchdog import Pulse
from daemon.outcome import Edge, Reason
from tests.support.checkpoint_calls import FakeClock
from tests.support.flow_doubles import MemoryQueue, a_while, edge_fault, message, until
from tests.support.log_lines import log_lines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    import pytest

    from daemon.aws.ports import Message
    from daemon.errors import EdgeFault
    from daemon.pipeline.delivery import Delivery

WAIT_SECONDS = 20


class Polling:
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
        self.returned: list[Message] = []
        self.received: list[int] = []
        self.faults: list[EdgeFault] = []

    async def gate(self) -> None:
        await self.open.wait()

    async def give_back(self, messages: Sequence[Message]) -> None:
        self.returned += messages

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
            return_unstarted=self.give_back,
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
        """Slots that nobody has."""
        return await self.slots.take(1000) if self.slots._free else 0


async def test_what_is_received_is_entered_and_begun() -> None:
    async with Polling() as polling:
        await polling.answer([message(message_id="m-1"), message(message_id="m-2")])
        assert [delivery.message.message_id for delivery in polling.started] == ["m-1", "m-2"]
        assert list(polling.in_flight) == polling.started
        assert polling.received == [2]


async def test_no_more_is_asked_for_than_there_are_slots_and_never_more_than_ten() -> None:
    async with Polling(slots=12) as polling:
        assert polling.queue.receives == [10]
        await polling.answer([message(message_id=f"m-{number}") for number in range(9)])
        assert polling.queue.receives == [10, 3]
        await polling.answer([message(message_id=f"n-{number}") for number in range(3)])
        assert polling.queue.receives == [10, 3]  # all slots are taken
        polling.slots.give_back(1)
        await a_while()
        assert polling.queue.receives == [10, 3, 1]


async def test_a_slot_is_taken_before_the_receive() -> None:
    async with Polling(slots=4) as polling:
        assert polling.queue.receives == [4]
        assert await polling.free() == 0


async def test_slots_without_a_message_are_given_back() -> None:
    async with Polling(slots=4) as polling:
        await polling.answer([])
        await polling.answer([message(message_id="m-1")])
        # joins: no slot of its own
        await polling.answer([message(message_id="m-1", receive_count=2)])
        assert len(polling.started) == 1
        assert polling.queue.receives == [4, 4, 3, 3]
        assert next(iter(polling.in_flight)).receipt_handle == "m-1/2"


async def test_nothing_is_received_while_an_edge_does_not_work() -> None:
    polling = Polling()
    polling.open.clear()
    async with polling:
        assert not polling.queue.receives
        polling.open.set()
        await a_while()
        assert polling.queue.receives == [10]
        polling.open.clear()
        await polling.answer([message()])
        assert polling.queue.receives == [10]


async def test_a_receive_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    # an answer that drips in byte by byte runs into no time-out of the client, and everything else
    # looks well
    monkeypatch.setattr("daemon.intake.poller.RECEIVE_DEADLINE_SECONDS", 0.05 - WAIT_SECONDS)
    async with Polling(slots=4) as polling:
        await until(lambda: len(polling.faults) == 2)
        assert {(fault.edge, fault.reason) for fault in polling.faults} == {
            (Edge.QUEUE, Reason.UNREACHABLE)
        }
        assert set(polling.queue.receives) == {4}  # its slots were given back each time


async def test_giving_up_comes_before_the_loop_counts_as_hanging() -> None:
    assert 60 < RECEIVE_DEADLINE_SECONDS < RECEIVE_MARGIN_SECONDS


async def test_an_outage_of_the_queue_is_told_and_does_not_end_the_poller() -> None:
    async with Polling(slots=4) as polling:
        await polling.answer(edge_fault(Edge.QUEUE))
        assert [fault.edge for fault in polling.faults] == [Edge.QUEUE]
        assert polling.queue.receives == [4, 4]
        await polling.answer([message()])
        assert len(polling.started) == 1


async def test_a_running_poll_is_let_finish_and_what_it_brings_goes_back_at_once() -> None:
    async with Polling(slots=4) as polling:
        polling.stop.set()
        await a_while()
        assert not polling.task.done()
        await polling.answer([message(message_id="m-1"), message(message_id="m-2")])
        assert polling.task.done()
        assert [back.message_id for back in polling.returned] == ["m-1", "m-2"]
        assert not polling.started
        assert len(polling.in_flight) == 0
        assert await polling.free() == 4


async def test_a_poll_that_brings_nothing_after_the_stop_returns_nothing() -> None:
    async with Polling() as polling:
        polling.stop.set()
        await polling.answer([])
        assert polling.task.done()
        assert not polling.returned


async def test_a_poller_that_waits_for_an_edge_ends_with_the_stop() -> None:
    polling = Polling(slots=4)
    polling.open.clear()
    async with polling:
        polling.stop.set()
        await until(polling.task.done)
        polling.open.set()
        await a_while()
        assert not polling.queue.receives
        assert await polling.free() == 4


async def test_a_poller_that_waits_for_a_slot_ends_with_the_stop() -> None:
    async with Polling(slots=0) as polling:
        polling.stop.set()
        await until(polling.task.done)
        polling.slots.give_back(1)
        assert await polling.free() == 1


async def test_a_slot_that_comes_with_the_stop_is_given_back() -> None:
    async with Polling(slots=0) as polling:
        polling.slots.give_back(3)
        polling.stop.set()
        await until(polling.task.done)
        assert not polling.queue.receives
        assert await polling.free() == 3


async def test_a_waiting_poller_is_alive_and_a_poll_beyond_its_time_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeClock()
    monkeypatch.setattr("daemon.observability.watchdog.monotonic", clock)
    async with Polling(slots=1) as polling:
        clock.now += WAIT_SECONDS + RECEIVE_MARGIN_SECONDS
        assert polling.pulse.overdue_seconds == 0
        clock.now += 5
        assert polling.pulse.overdue_seconds == 5
        await polling.answer([message()])  # takes the only slot
        clock.now += 3600
        assert polling.pulse.overdue_seconds == 0


async def test_the_visibility_is_counted_from_before_the_answer_but_never_below_half() -> None:
    async with Polling() as polling:
        await polling.answer([message()])
        [delivery] = polling.started
        assert 29 < delivery.visible_at - delivery.received_at <= 30


async def test_a_message_that_comes_again_while_in_flight_alarms_nobody() -> None:
    async with Polling() as polling:
        with capture_logs() as logs:
            await polling.answer([message()])
            await polling.answer([message(receive_count=2)])
    [line] = log_lines(logs, "message received again while in flight")
    assert (line["log_level"], line["receive_count"]) == ("info", 2)


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
