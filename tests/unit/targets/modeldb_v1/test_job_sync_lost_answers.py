"""Whichever answer is lost, each job becomes exactly one complete run."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support.modeldb_v1_fault_proxy import FaultProxy, fault_proxy
from tests.support.modeldb_v1_target import full_job, orphan_sets, target_on, until_synced, wrong
from tests.support.modeldb_v2_target import MemoryJournal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from daemon.targets.modeldb_v1.target import ModelDBV1Target
    from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn

FIRST_OF_A_PROJECT = 19
"""Calls of one job in a new project and of the probe before it, or one more than those."""
JOBS = [full_job(f"churn-{number}") for number in range(5)]


class Loss:
    """Loses answers, or calls on their way.

    Args:
        is_lost: called with the number of each call except those that search for a model: an
            interrupted search starts over, so a loss period shorter than it would never let it end.
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


@dataclass(frozen=True, slots=True)
class LossScene:
    """A target that reaches the server through a proxy that loses messages."""

    server: ModelDbV1StandIn
    proxy: FaultProxy
    metadata_store: bool

    def target(self) -> contextlib.AbstractAsyncContextManager[ModelDBV1Target]:
        return target_on(self.proxy.port, metadata_store=self.metadata_store)

    async def sync_all(self, *, attempts: int) -> None:
        """All jobs at once."""
        async with self.target() as target:
            await asyncio.gather(
                *(until_synced(target, each, MemoryJournal(), attempts) for each in JOBS)
            )

    def assert_complete(self, loss: Loss, jobs: int = len(JOBS)) -> None:
        assert wrong(self.server, JOBS[:jobs], metadata_store=self.metadata_store) == []
        assert len(self.server.projects) == 1
        assert len(self.server.fits) == len(self.server.models) == jobs
        assert orphan_sets(self.server) <= len(loss.lost)


@pytest.fixture(params=[True, False], ids=["with-store", "without-store"])
def metadata_store(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
async def scene(server: ModelDbV1StandIn, *, metadata_store: bool) -> AsyncIterator[LossScene]:
    async with fault_proxy(server.port) as proxy:
        yield LossScene(server, proxy, metadata_store)


async def test_a_job_has_so_many_calls(scene: LossScene) -> None:
    async with scene.target() as target:
        await target.sync(JOBS[0], MemoryJournal())
    assert len(scene.proxy.calls) == FIRST_OF_A_PROJECT - (1 if scene.metadata_store else 5)


@pytest.mark.parametrize("where", ["on_answer", "on_call"])
@pytest.mark.parametrize("number", range(1, FIRST_OF_A_PROJECT + 1))
async def test_one_answer_is_lost_or_one_call_is_cut_off_on_its_way(
    scene: LossScene, number: int, where: str
) -> None:
    """A call that is cut off may or may not be carried out."""
    loss = Loss(lambda passed: passed == number)
    setattr(scene.proxy, where, loss)
    async with scene.target() as target:
        await until_synced(target, JOBS[0], MemoryJournal(), attempts=2)
    scene.assert_complete(loss, 1)


@pytest.mark.parametrize("number", range(1, 31))
async def test_one_answer_is_lost_while_several_jobs_are_in_progress(
    scene: LossScene, number: int
) -> None:
    loss = scene.proxy.on_answer = Loss(lambda answer: answer == number)
    await scene.sync_all(attempts=3)
    scene.assert_complete(loss)


PERIODS = [
    *((period, True) for period in range(8, 21)),
    *((period, False) for period in range(8, 21)),
]
"""In answers. An attempt reads up to seven times before it can write, three times of it in a probe
(once without a metadata store); without a metadata store it writes all metrics in one go."""


@pytest.mark.parametrize(("period", "metadata_store"), PERIODS)
async def test_every_nth_answer_is_lost(scene: LossScene, period: int) -> None:
    loss = scene.proxy.on_answer = Loss(lambda answer: answer % period == 0)
    async with scene.target() as target:
        for each in JOBS:
            await until_synced(target, each, MemoryJournal())
    assert len(loss.lost) > 1
    scene.assert_complete(loss)


@pytest.mark.parametrize("mean", range(5, 21))
async def test_answers_are_lost_at_random_while_several_jobs_are_in_progress(
    scene: LossScene, mean: int
) -> None:
    """At random, because several jobs that start over in step could meet a fixed period at the same
    reads again and again.
    """
    chance = random.Random(100 + mean)
    loss = scene.proxy.on_answer = Loss(lambda _answer: chance.random() < 1 / mean)
    await scene.sync_all(attempts=500)
    assert loss.lost
    scene.assert_complete(loss)


@pytest.mark.parametrize("period", [9, 13])
async def test_answers_are_lost_and_each_attempt_is_another_process(
    scene: LossScene, period: int
) -> None:
    """The checkpoint of each process knows nothing of the attempts before."""
    loss = scene.proxy.on_answer = Loss(lambda answer: answer % period == 0)
    for each in JOBS:
        for _ in range(20):
            async with scene.target() as target:
                with contextlib.suppress(AssertionError):
                    await until_synced(target, each, MemoryJournal(look_up_first=True), attempts=1)
                    break
    scene.assert_complete(loss)
