"""The pace of requests, on the simulation's clock."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from daemon.clock import monotonic
from daemon.operations.pacing import Pace
from tests.simulation.loop import VirtualLoop, virtual

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

Result = TypeVar("Result")


def run_simulated(scene: Coroutine[Any, Any, Result]) -> Result:
    loop = VirtualLoop()
    try:
        with virtual(loop, random.Random(1)):
            return loop.run_until_complete(scene)
    finally:
        loop.end()


def starts(throttled: Sequence[bool]) -> list[float]:
    """Seconds from each request's start to the next one's."""

    async def scene() -> list[float]:
        pace = Pace(1.0, 10.0)
        times = []
        for is_throttled in throttled:
            await pace.wait()
            times.append(monotonic())
            (pace.throttled if is_throttled else pace.worked)()
        await pace.wait()
        times.append(monotonic())
        return [later - earlier for earlier, later in itertools.pairwise(times)]

    return run_simulated(scene())


def test_one_request_starts_per_second() -> None:
    assert starts([False] * 3) == pytest.approx([1.0, 1.0, 1.0])


def test_a_throttled_request_slows_down_up_to_a_limit() -> None:
    assert starts([True] * 5) == pytest.approx([2.0, 4.0, 8.0, 10.0, 10.0])


def test_what_works_again_becomes_faster_slowly() -> None:
    assert starts([True, *[False] * 8]) == pytest.approx(
        [2.0, 1.8, 1.62, 1.458, 1.3122, 1.18098, 1.062882, 1.0, 1.0]
    )


def test_a_slow_answer_costs_no_pause_of_its_own() -> None:
    async def scene() -> float:
        pace = Pace(1.0)
        await pace.wait()
        await asyncio.sleep(5)
        before = monotonic()
        await pace.wait()
        return monotonic() - before

    assert run_simulated(scene()) == 0
