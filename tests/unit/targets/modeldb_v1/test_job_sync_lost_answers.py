"""Whichever answer is lost: each job becomes one complete run."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import pytest

from daemon.demo.modeldb_v1.server import ModelDbV1StandIn
from tests.support.modeldb_v1_connections import nothing_left_behind
from tests.support.modeldb_v1_fault_proxy import FaultProxy, fault_proxy
from tests.support.modeldb_v1_target import full_job, orphan_sets, target_on, until_synced, wrong
from tests.support.modeldb_v2_target import MemoryJournal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from daemon.targets.modeldb_v1.target import ModelDBV1Target

FIRST_OF_A_PROJECT = 14
"""Calls of one job in a new project."""
JOBS = [full_job(f"churn-{number}") for number in range(5)]


@pytest.fixture(autouse=True)
async def _nothing_is_left_behind() -> AsyncIterator[None]:
    async with nothing_left_behind():
        yield


@contextlib.asynccontextmanager
async def stage(
    *, metadata_store: bool
) -> AsyncIterator[tuple[ModelDbV1StandIn, FaultProxy, ModelDBV1Target]]:
    async with (
        ModelDbV1StandIn(metadata_store=metadata_store, mongo_timeout_seconds=0.0) as server,
        fault_proxy(server.port) as proxy,
        target_on(proxy.port, metadata_store=metadata_store) as target,
    ):
        yield server, proxy, target


class Loss:
    """Loses answers, or calls on their way.

    Args:
        is_lost: asked with the number of each but those of a search for a model, which begins anew
            when it is cut off: no period of less than its length would ever let it end.
    """

    def __init__(self, is_lost: Callable[[int], bool]) -> None:
        self.lost: list[str] = []
        self._is_lost = is_lost
        self._passed = 0

    async def __call__(self, _number: int, method: str) -> bool:
        if method == "computeModelAncestry":
            return True
        self._passed += 1
        if not self._is_lost(self._passed):
            return True
        self.lost.append(method)
        return False


def assert_complete(
    server: ModelDbV1StandIn, loss: Loss, jobs: int, *, metadata_store: bool
) -> None:
    assert wrong(server, JOBS[:jobs], metadata_store=metadata_store) == []
    assert len(server.projects) == 1
    assert len(server.fits) == len(server.models) == jobs
    assert orphan_sets(server) <= len(loss.lost)


@pytest.mark.parametrize("metadata_store", [True, False])
async def test_a_job_has_so_many_calls(*, metadata_store: bool) -> None:
    async with stage(metadata_store=metadata_store) as (_, proxy, target):
        await target.sync(JOBS[0], MemoryJournal())
        assert len(proxy.calls) == FIRST_OF_A_PROJECT - 1


@pytest.mark.parametrize("metadata_store", [True, False])
@pytest.mark.parametrize("number", range(1, FIRST_OF_A_PROJECT + 1))
async def test_one_answer_is_lost(number: int, *, metadata_store: bool) -> None:
    async with stage(metadata_store=metadata_store) as (server, proxy, target):
        loss = proxy.on_answer = Loss(lambda answer: answer == number)
        await until_synced(target, JOBS[0], MemoryJournal(), attempts=2)
        assert_complete(server, loss, 1, metadata_store=metadata_store)


@pytest.mark.parametrize("metadata_store", [True, False])
@pytest.mark.parametrize("number", range(1, FIRST_OF_A_PROJECT + 1))
async def test_one_call_is_cut_off_on_its_way(number: int, *, metadata_store: bool) -> None:
    """It may be carried out or not."""
    async with stage(metadata_store=metadata_store) as (server, proxy, target):
        loss = proxy.on_call = Loss(lambda call: call == number)
        await until_synced(target, JOBS[0], MemoryJournal(), attempts=2)
        assert_complete(server, loss, 1, metadata_store=metadata_store)


@pytest.mark.parametrize("metadata_store", [True, False])
@pytest.mark.parametrize("number", range(1, 31))
async def test_one_answer_is_lost_while_several_jobs_are_under_way(
    number: int, *, metadata_store: bool
) -> None:
    async with stage(metadata_store=metadata_store) as (server, proxy, target):
        loss = proxy.on_answer = Loss(lambda answer: answer == number)
        await asyncio.gather(
            *(until_synced(target, each, MemoryJournal(), attempts=3) for each in JOBS)
        )
        assert_complete(server, loss, len(JOBS), metadata_store=metadata_store)


PERIODS = [
    *((period, True) for period in range(5, 21)),
    *((period, False) for period in range(7, 21)),
]
"""In answers. An attempt reads up to four times before it can write; without a metadata store it
writes all metrics in one go."""


@pytest.mark.parametrize(("period", "metadata_store"), PERIODS)
async def test_every_so_manieth_answer_is_lost(period: int, *, metadata_store: bool) -> None:
    async with stage(metadata_store=metadata_store) as (server, proxy, target):
        loss = proxy.on_answer = Loss(lambda answer: answer % period == 0)
        for each in JOBS:
            await until_synced(target, each, MemoryJournal())
        assert len(loss.lost) > 1
        assert_complete(server, loss, len(JOBS), metadata_store=metadata_store)


@pytest.mark.parametrize("metadata_store", [True, False])
@pytest.mark.parametrize("mean", range(5, 21))
async def test_answers_are_lost_at_random_while_several_jobs_are_under_way(
    mean: int, *, metadata_store: bool
) -> None:
    """At random, as several jobs that begin anew in step could meet a fixed period at the same
    reads again and again.
    """
    async with stage(metadata_store=metadata_store) as (server, proxy, target):
        chance = random.Random(100 + mean)
        loss = proxy.on_answer = Loss(lambda _answer: chance.random() < 1 / mean)
        await asyncio.gather(
            *(until_synced(target, each, MemoryJournal(), attempts=500) for each in JOBS)
        )
        assert loss.lost
        assert_complete(server, loss, len(JOBS), metadata_store=metadata_store)


@pytest.mark.parametrize("metadata_store", [True, False])
@pytest.mark.parametrize("period", [7, 13])
async def test_answers_are_lost_and_each_attempt_is_another_process(
    period: int, *, metadata_store: bool
) -> None:
    """Of which the checkpoint knows what was noted, or nothing at all."""
    async with (
        ModelDbV1StandIn(metadata_store=metadata_store, mongo_timeout_seconds=0.0) as server,
        fault_proxy(server.port) as proxy,
    ):
        loss = proxy.on_answer = Loss(lambda answer: answer % period == 0)
        for each in JOBS:
            for _ in range(20):
                async with target_on(proxy.port, metadata_store=metadata_store) as target:
                    with contextlib.suppress(AssertionError):
                        await until_synced(
                            target, each, MemoryJournal(look_up_first=True), attempts=1
                        )
                        break
        assert_complete(server, loss, len(JOBS), metadata_store=metadata_store)
