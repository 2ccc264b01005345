"""The loop that makes passes of reconcile: when, in which process, and what becomes of a fault."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

import pytest
from structlog.testing import capture_logs

from daemon.errors import EdgeFault
from daemon.operations.reconcile import LEASE_SECONDS
from daemon.operations.reconcile_loop import AGAIN_SECONDS
from daemon.reasons import Edge, Reason
from tests.support.reconcile_scene import DENIED, EVERY, ReconcileScene, reconcile_scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

WARNING = "jobs whose event was lost are not found now; trying again later"


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[ReconcileScene]:
    async with reconcile_scene(tmp_path / "checkpoint.db") as scene:
        yield scene


async def test_a_pass_is_made_every_so_often_also_over_restarts(scene: ReconcileScene) -> None:
    scene.ended("lost")
    assert await scene.loop().turn() == EVERY
    scene.clock.now += EVERY - 1
    assert await scene.loop().turn() == 1
    scene.clock.now += 1
    assert await scene.loop().turn() == EVERY
    assert len(scene.sagemaker.lists) == 2
    assert scene.queue.jobs == ["lost"]
    assert scene.successes[-1] == scene.clock.now


async def test_a_pass_that_began_in_the_future_delays_none(scene: ReconcileScene) -> None:
    scene.clock.now += 86_400
    await scene.loop().turn()
    scene.clock.now -= 86_400
    assert await scene.loop().turn() == EVERY
    assert len(scene.sagemaker.lists) == 2


async def test_one_process_at_a_time_makes_a_pass(scene: ReconcileScene) -> None:
    other = await scene.start()
    claim = await scene.claim()
    assert await scene.loop(other).turn() == AGAIN_SECONDS
    assert scene.sagemaker.lists == []

    await scene.checkpoint.release(claim)
    assert await scene.loop(other).turn() == EVERY
    assert await scene.loop().turn() == EVERY  # that of the other counts
    assert len(scene.sagemaker.lists) == 1


async def test_the_claim_is_free_after_a_pass_however_it_ends(scene: ReconcileScene) -> None:
    scene.sagemaker.faults = [DENIED]
    await scene.loop().turn()
    other = await scene.start()
    assert await scene.loop(other).turn() == EVERY
    assert isinstance(await other.claim("operation:reconcile", LEASE_SECONDS), object)


async def test_nothing_is_done_while_a_breaker_is_open(scene: ReconcileScene) -> None:
    scene.ended("lost")
    scene.may_go_on = False
    assert await scene.loop().turn() == AGAIN_SECONDS
    assert (scene.sagemaker.lists, scene.queue.jobs) == ([], [])


async def test_it_waits_for_a_backlog_that_is_older_than_the_last_pass(
    scene: ReconcileScene,
) -> None:
    loop = scene.loop()
    await loop.turn()
    scene.ended("lost")
    scene.clock.now += EVERY
    scene.backlog_seconds = EVERY + 1
    assert await loop.turn() == AGAIN_SECONDS
    assert scene.queue.jobs == []

    scene.backlog_seconds = EVERY
    assert await loop.turn() == EVERY
    assert scene.queue.jobs == ["lost"]


async def test_before_the_first_pass_a_backlog_older_than_a_period_is_waited_for(
    scene: ReconcileScene,
) -> None:
    scene.backlog_seconds = EVERY + 1
    assert await scene.loop().turn() == AGAIN_SECONDS
    scene.backlog_seconds = EVERY
    assert await scene.loop().turn() == EVERY


async def test_a_missing_permission_is_said_once_is_shown_and_is_tried_again(
    scene: ReconcileScene,
) -> None:
    loop = scene.loop()
    scene.sagemaker.faults = [DENIED] * 3
    with capture_logs() as logs:
        pauses = [await loop.turn() for _ in range(3)]
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == [WARNING]
    assert loop.words == "access_denied: permission sagemaker:ListTrainingJobs is missing"
    assert scene.failures == [loop.fault] * 3
    assert scene.checkpoint_faults == []
    assert pauses == sorted(pauses)
    assert pauses[0] < EVERY

    with capture_logs() as logs:
        assert await loop.turn() == EVERY
    assert [log["event"] for log in logs] == ["reconcile works again"]
    assert (loop.words, scene.failures[-1]) == ("", None)


async def test_a_fault_of_the_checkpoint_is_its_breakers(scene: ReconcileScene) -> None:
    fault = EdgeFault(Edge.CHECKPOINT, Reason.STORAGE, "disk full")
    with mock.patch.object(scene.checkpoint, "note", side_effect=fault):
        await scene.loop().turn()
    assert scene.checkpoint_faults == [fault]


async def test_a_pass_that_is_given_up_is_no_fault(scene: ReconcileScene) -> None:
    scene.ended("lost")
    loop = scene.loop()
    real = scene.sagemaker.list_page

    async def list_page(**period: object) -> object:
        scene.may_go_on = False
        return await real(**period)  # type: ignore[arg-type] # passed on

    with mock.patch.object(scene.sagemaker, "list_page", list_page):
        assert await loop.turn() == AGAIN_SECONDS
    assert (loop.words, scene.failures, scene.queue.jobs) == ("", [], [])
