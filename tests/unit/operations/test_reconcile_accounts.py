"""Reconcile over several accounts: each has its own position, and one that is denied keeps none of
the others from being listed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.ports import JobState
from daemon.errors import EdgeFault
from daemon.operations.reconcile import NOTE, OVERLAP_SECONDS, Progress, note_of
from daemon.reasons import Edge, Reason
from tests.support.reconcile_scene import ListedSageMaker, arn_of, reconcile_scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.reconcile_scene import ReconcileScene

MEMBER, DENIED = "210987654321", "310987654321"
OF_MEMBER, OF_DENIED = f"{MEMBER}/eu-west-1", f"{DENIED}/eu-west-1"
HOUR = 3600.0


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[ReconcileScene]:
    async with reconcile_scene(tmp_path / "checkpoint.db") as made:
        made.sagemaker.elsewhere = {
            OF_DENIED: ListedSageMaker(DENIED),
            OF_MEMBER: ListedSageMaker(MEMBER),
        }
        yield made


def denial(where: str) -> EdgeFault:
    return EdgeFault(Edge.SAGEMAKER, Reason.ACCESS_DENIED, "denied").of(where)


def ended(scene: ReconcileScene, where: str, name: str, ago: float = HOUR) -> float:
    created = scene.clock.now - ago - HOUR
    scene.sagemaker.elsewhere[where].put(name, created, "Completed", created + HOUR)
    return created


async def position(scene: ReconcileScene, where: str) -> float | None:
    return Progress.of(await scene.checkpoint.note(note_of(where))).position


async def test_jobs_of_all_accounts_are_found(scene: ReconcileScene) -> None:
    own = scene.ended("churn")
    theirs = ended(scene, OF_MEMBER, "churn", 2 * HOUR)
    await scene.one_pass()
    assert scene.queue.jobs == ["churn", "churn"]
    rows = [
        *await scene.checkpoint.described(arn_of("churn")),
        *await scene.checkpoint.described(arn_of("churn", MEMBER)),
    ]
    assert [row.state for row in rows] == [JobState.ENQUEUED, JobState.ENQUEUED]
    assert await position(scene, "") == own
    assert await position(scene, OF_MEMBER) == theirs
    assert await position(scene, OF_DENIED) is None


async def test_a_denied_account_keeps_no_other_from_being_listed(scene: ReconcileScene) -> None:
    theirs = ended(scene, OF_MEMBER, "fraud")
    ended(scene, OF_DENIED, "secret")
    scene.sagemaker.elsewhere[OF_DENIED].faults = [denial(OF_DENIED)]
    own = scene.ended("churn")
    with pytest.raises(EdgeFault, match="account 310987654321 in eu-west-1: denied"):
        await scene.one_pass()
    assert sorted(scene.queue.jobs) == ["churn", "fraud"]
    progress = Progress.of(await scene.checkpoint.note(NOTE))
    # it is due again at once, and what was listed counts as listed
    assert progress == Progress(own)
    assert await position(scene, OF_MEMBER) == theirs

    await scene.one_pass()
    assert sorted(scene.queue.jobs) == ["churn", "fraud", "secret"]
    assert scene.sagemaker.elsewhere[OF_MEMBER].lists[1][0] == theirs - OVERLAP_SECONDS
    assert (await scene.progress()).ended_at is not None


async def test_the_own_account_may_be_the_denied_one(scene: ReconcileScene) -> None:
    scene.sagemaker.faults = [EdgeFault(Edge.SAGEMAKER, Reason.ACCESS_DENIED, "denied")]
    ended(scene, OF_MEMBER, "fraud")
    with pytest.raises(EdgeFault, match="denied"):
        await scene.one_pass()
    assert scene.queue.jobs == ["fraud"]


async def test_a_watched_job_is_described_where_it_is(scene: ReconcileScene) -> None:
    member = scene.sagemaker.elsewhere[OF_MEMBER]
    created = scene.clock.now - 2 * HOUR
    member.put("long", created, "InProgress")
    scene.running("long", 2 * HOUR)
    # newer ones, so that the next scan begins later
    member.put("recent", scene.clock.now - 60, "InProgress")
    scene.running("recent", 60)
    await scene.one_pass()
    scene.clock.now += 2 * HOUR
    member.put("long", created, "Completed", created + 3 * HOUR)
    await scene.one_pass()
    assert (member.described, scene.sagemaker.described) == (["long"], ["long"])
    assert scene.queue.jobs == ["long"]
    [row] = await scene.checkpoint.described(arn_of("long", MEMBER))
    assert row.state is JobState.ENQUEUED


async def test_watched_jobs_of_a_denied_account_wait(scene: ReconcileScene) -> None:
    member = scene.sagemaker.elsewhere[OF_MEMBER]
    for name in ("first", "second"):
        member.put(name, scene.clock.now - HOUR, "InProgress")
    await scene.one_pass()
    member.described.clear()
    scene.clock.now += 2 * HOUR
    member.faults = [denial(OF_MEMBER)]
    with pytest.raises(EdgeFault):
        await scene.one_pass()
    assert member.described == []
    assert set(await scene.watched()) == {"first", "second"}


async def test_a_fault_of_the_queue_ends_the_pass(scene: ReconcileScene) -> None:
    scene.ended("churn")
    scene.queue.fault = EdgeFault(Edge.QUEUE, Reason.UNAVAILABLE, "SQS is away")
    with pytest.raises(EdgeFault, match="SQS is away"):
        await scene.one_pass()
    assert scene.sagemaker.elsewhere[OF_MEMBER].lists == []
