"""The simulated loop: time that advances only when nothing is left to do, and processes that crash
at any step.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.simulation.loop import (
    START,
    HostClock,
    Process,
    StuckError,
    VirtualLoop,
    virtual,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    with virtual(made, random.Random(1)):
        yield made
    made.end()


def test_an_hour_of_waiting_costs_nothing(loop: VirtualLoop) -> None:
    begun = time.perf_counter()
    loop.run_until_complete(asyncio.sleep(3600))
    assert time.perf_counter() - begun < 5
    assert loop.time() == pytest.approx(3600)


def test_clocks_and_ids_follow_the_loop_and_the_seed(loop: VirtualLoop) -> None:
    loop.run_until_complete(asyncio.sleep(10))
    loop.wall_offset += 100
    assert time.monotonic() == pytest.approx(10)
    assert time.time() == pytest.approx(START + 110)
    assert time.time_ns() == pytest.approx((START + 110) * 1e9)
    first = uuid.uuid4()
    with virtual(loop, random.Random(1)):
        assert uuid.uuid4() == first


def test_a_killed_process_runs_nothing_more_not_even_a_finally(loop: VirtualLoop) -> None:
    ran: list[str] = []

    async def child() -> None:
        try:
            await asyncio.sleep(5)
        finally:
            ran.append("finally of the child")

    async def main() -> None:
        tasks = [asyncio.create_task(child())]
        loop.call_later(4, ran.append, "callback")
        try:
            await asyncio.wait(tasks)
        finally:
            ran.append("finally of the main task")

    killed: list[str] = []
    process = Process("daemon", lambda: killed.append("killed"))
    loop.start(process, main(), name="daemon")
    loop.run_until_complete(asyncio.sleep(3))
    process.crash()
    process.crash()
    loop.run_until_complete(asyncio.sleep(30))
    assert (ran, killed) == ([], ["killed"])


def test_a_paused_process_does_nothing_until_it_is_woken(loop: VirtualLoop) -> None:
    ran: list[tuple[str, float]] = []

    async def main() -> None:
        asyncio.get_running_loop().call_later(2, lambda: ran.append(("timer", loop.time())))
        ran.append((await sent, loop.time()))
        await asyncio.sleep(1)
        ran.append(("slept", loop.time()))

    sent: asyncio.Future[str] = loop.create_future()
    process = Process("daemon")
    loop.start(process, main(), name="daemon")
    loop.call_later(1, process.pause)
    loop.call_later(3, sent.set_result, "answer")
    loop.run_until_complete(asyncio.sleep(60))
    assert not ran
    assert process.is_paused
    process.wake(loop)
    loop.run_until_complete(asyncio.sleep(5))
    assert [(what, round(at)) for what, at in ran] == [("timer", 60), ("answer", 60), ("slept", 61)]


def test_a_process_can_be_paused_before_any_step_and_killed_while_it_sleeps(
    loop: VirtualLoop,
) -> None:
    ran: list[int] = []

    async def main() -> None:
        for number in range(5):
            ran.append(number)
            await asyncio.sleep(1)

    for woken, expected in ((True, [0, 1, 2, 3, 4]), (False, [0, 1])):
        ran.clear()
        process = Process("daemon")
        process.before_step = 4, process.pause
        loop.start(process, main(), name="daemon")
        loop.run_until_complete(asyncio.sleep(20))
        assert (ran, process.steps) == ([0, 1], 3)
        if not woken:
            process.crash()
        process.wake(loop)
        loop.run_until_complete(asyncio.sleep(20))
        assert ran == expected


def test_each_host_has_a_clock_of_its_own(loop: VirtualLoop) -> None:
    seen: dict[str, list[float]] = {}

    async def main(name: str) -> None:
        seen[name] = [time.time()]
        await asyncio.sleep(100)
        seen[name].append(time.time())

    for name, clock in (
        ("right", None),
        ("behind", HostClock(ahead=-10.0, drift=0.01, bound=15.0)),
        ("ahead", HostClock(ahead=14.5, drift=0.01, bound=15.0)),
    ):
        loop.start(Process(name, clock=clock), main(name), name=name)
    loop.run_until_complete(asyncio.sleep(200))
    assert seen == {
        "right": [pytest.approx(START), pytest.approx(START + 100)],
        "behind": [pytest.approx(START - 10), pytest.approx(START + 91)],
        "ahead": [pytest.approx(START + 14.5), pytest.approx(START + 115)],
    }
    assert time.time() == pytest.approx(START + 200)


def test_what_a_process_has_sent_goes_on_without_it(loop: VirtualLoop) -> None:
    done: list[str] = []

    async def server() -> None:
        await asyncio.sleep(5)
        done.append("carried out")

    async def client() -> None:
        await loop.spawn(server())
        done.append("answered")

    process = Process("daemon")
    loop.start(process, client(), name="daemon")
    loop.run_until_complete(asyncio.sleep(1))
    process.crash()
    loop.run_until_complete(asyncio.sleep(30))
    assert done == ["carried out"]


def test_each_step_of_a_process_is_a_point_at_which_it_can_die(loop: VirtualLoop) -> None:
    async def three_times() -> None:
        for _ in range(3):
            await asyncio.sleep(1)
            reached.append(len(reached))

    lives = []
    for step in range(1, 9):
        reached: list[int] = []
        process = Process("daemon")
        process.before_step = step, process.crash
        loop.start(process, three_times(), name="daemon")
        loop.run_until_complete(asyncio.sleep(10))
        lives.append(len(reached))
    assert lives[0] == 0
    assert sorted(lives) == lives
    assert set(lives) == {0, 1, 2, 3}


def test_a_call_to_a_thread_of_a_killed_process_happens_or_not_but_never_half(
    loop: VirtualLoop,
) -> None:
    loop.disk_seconds = lambda: 1.0
    written: list[int] = []
    given: list[int] = []

    async def write(number: int) -> None:
        await loop.run_in_executor(None, written.append, number)
        given.append(number)

    for number, killed_at in enumerate((0.5, 1.5, 2.5)):
        process = Process("daemon")
        loop.start(process, write(number), name="daemon")
        loop.call_later(killed_at, process.crash)
        loop.run_until_complete(asyncio.sleep(10))
    assert (written, given) == ([1, 2], [2])


def test_a_history_in_which_nothing_can_happen_any_more_says_so(loop: VirtualLoop) -> None:
    with pytest.raises(StuckError, match="nothing will ever happen"):
        loop.run_until_complete(loop.create_future())
