"""How often a queue is asked that holds nothing but messages which are left to others."""

from __future__ import annotations

import asyncio
import random
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from daemon.intake.foreign_messages import ForeignMessages
from daemon.intake.in_flight import InFlight, Slots
from daemon.intake.poller import Poller
from daemon.observability.watchdog import Pulse
from tests.simulation.loop import VirtualLoop, virtual
from tests.support.flow_scene import MemoryQueue, message

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from daemon.aws.ports import Message
    from daemon.pipeline.delivery import Delivery


@contextmanager
def virtual_loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    with virtual(loop, random.Random(1)):
        yield loop
    loop.end()


class SharedQueue(MemoryQueue):
    """Gives each receive whatever is visible; what is left is visible at once."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.visible = [message("{}", name) for name in names]
        self.arrived = asyncio.Event()
        self.receive_times: list[float] = []

    async def receive(
        self, *, limit: int, wait_seconds: int, visibility_seconds: int
    ) -> Sequence[Message]:
        del visibility_seconds
        self.receive_times.append(asyncio.get_running_loop().time())
        if not self.visible:
            self.arrived.clear()
            try:
                async with asyncio.timeout(wait_seconds):
                    await self.arrived.wait()
            except TimeoutError:
                return []
        taken, self.visible = self.visible[:limit], self.visible[limit:]
        return taken

    def put(self, left: Message) -> None:
        self.visible.append(left)
        self.arrived.set()


async def poll(queue: SharedQueue, foreign: ForeignMessages, seconds: float, pollers: int) -> None:
    """Polls for a while. Every message but those called ours is left."""
    in_flight, slots = InFlight(), Slots(64)
    tasks: set[asyncio.Task[None]] = set()

    async def handle(delivery: Delivery) -> None:
        await asyncio.sleep(0.05)
        if delivery.message.message_id.startswith("ours"):
            foreign.ours()
        else:
            foreign.left(delivery.receive_count, "an order")
            queue.put(replace(delivery.message, receive_count=delivery.receive_count + 1))
        in_flight.remove(delivery)
        slots.give_back(1)

    def start(delivery: Delivery) -> None:
        task = asyncio.create_task(handle(delivery))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    stop = asyncio.Event()
    loops = [
        asyncio.create_task(
            Poller(
                queue,
                in_flight,
                slots,
                wait_seconds=20,
                gate=foreign.pause,
                visibility_seconds=lambda: 30,
                start=start,
                on_receive=lambda _count: None,
                on_fault=lambda _fault: None,
            ).run(stop, Pulse())
        )
        for _ in range(pollers)
    ]
    await asyncio.sleep(seconds)
    stop.set()
    await asyncio.wait(loops)


def test_a_message_that_nobody_takes_is_received_a_few_times_a_minute() -> None:
    with virtual_loop() as loop:
        queue = SharedQueue("order")
        loop.run_until_complete(poll(queue, ForeignMessages(), 3600, 1))
        assert 3600 / 30 - 5 <= len(queue.receive_times) <= 2 * 3600 / 30 + 20
        assert len(queue.visible) == 1


def test_many_messages_and_pollers_do_not_make_it_faster() -> None:
    with virtual_loop() as loop:
        queue = SharedQueue(*(f"order-{number}" for number in range(30)))
        loop.run_until_complete(poll(queue, ForeignMessages(), 3600, 3))
        assert len(queue.receive_times) <= 3 * (2 * 3600 / 30 + 20)
        assert len(queue.visible) == 30


def test_a_message_of_ours_is_found_among_them_in_time() -> None:
    with virtual_loop() as loop:
        queue, foreign = SharedQueue("order"), ForeignMessages()

        async def arrive() -> float:
            polling = asyncio.create_task(poll(queue, foreign, 1800, 1))
            await asyncio.sleep(1000)
            queue.put(message("{}", "ours-1"))
            arrived = loop.time()
            while any(each.message_id == "ours-1" for each in queue.visible):
                await asyncio.sleep(0.1)
            found = loop.time()
            await polling
            return found - arrived

        assert loop.run_until_complete(arrive()) <= 31


def test_messages_that_others_take_cost_one_second_at_most() -> None:
    """Received for the first time, they say nothing about whether anybody takes them."""
    with virtual_loop() as loop:
        foreign = ForeignMessages()

        async def first_receives() -> float:
            for _ in range(10):
                await foreign.pause()
                foreign.left(1, "an order")
            return loop.time()

        assert loop.run_until_complete(first_receives()) <= 9.1


def test_a_message_of_ours_makes_the_pauses_short_again() -> None:
    with virtual_loop() as loop:
        foreign = ForeignMessages()

        async def pauses() -> list[float]:
            found = []
            for number in range(8):
                begun = loop.time()
                await foreign.pause()
                found.append(round(loop.time() - begun, 3))
                if number == 5:
                    foreign.ours()
                foreign.left(3, "an order")
                foreign.left(3, "another")
            return found

        assert loop.run_until_complete(pauses()) == [0, 1, 2, 4, 8, 16, 1, 2]
