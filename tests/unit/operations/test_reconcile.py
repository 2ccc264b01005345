"""A pass of reconcile: what becomes of each job, and what holds wherever a pass ends."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from daemon.aws.ports import ORIGIN
from daemon.checkpoint.ports import Claim, JobState, LeaseLost
from daemon.errors import EdgeFault
from daemon.operations.reconcile import (
    AHEAD_SECONDS,
    LEASE_SECONDS,
    MOST_THROTTLES,
    OVERLAP_SECONDS,
    WATCH_PAUSE_SECONDS,
    YOUNG_SECONDS,
    Paused,
    Progress,
    ReconcileRules,
    Verdict,
    reconcile_once,
)
from daemon.reasons import Edge, Reason
from tests.support.checkpoint_calls import claimed, deferred, rejected, skipped, synced
from tests.support.reconcile_scene import (
    DAY,
    HOUR,
    LONGEST,
    LOOK_BACK,
    ReconcileScene,
    arn_of,
    mark_of,
    reconcile_scene,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

UNREACHABLE = EdgeFault(Edge.SAGEMAKER, Reason.UNREACHABLE, "connection refused")
THROTTLED = EdgeFault(Edge.SAGEMAKER, Reason.THROTTLED, "Rate exceeded")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[ReconcileScene]:
    async with reconcile_scene(tmp_path / "checkpoint.db") as scene:
        yield scene


async def make_row(scene: ReconcileScene, name: str, created: float, state: JobState) -> None:
    mark, checkpoint = mark_of(name, created), scene.checkpoint
    claim = await claimed(checkpoint, arn_of(name))
    match state:
        case JobState.SYNCED:
            await synced(checkpoint, claim, mark)
        case JobState.SKIPPED:
            await skipped(checkpoint, claim, mark)
        case JobState.REJECTED:
            await rejected(checkpoint, claim, mark, job_arn=arn_of(name))
        case JobState.RELEASED:
            await deferred(checkpoint, claim, mark)
        case JobState.WRITING:
            await checkpoint.begin_write(claim, mark, name, lock_name=f"run/{name}")
            await checkpoint.release(claim)
        case _:
            raise AssertionError(state)


async def test_a_job_that_no_event_announced_is_sent_and_recorded(scene: ReconcileScene) -> None:
    created = scene.ended("lost")

    await scene.one_pass()

    [message] = scene.queue.sent
    assert json.loads(message.body)["TrainingJobName"] == "lost"
    assert message.attributes == {ORIGIN: "reconcile"}
    row = await scene.row("lost", created)
    assert row is not None
    assert (row.state, row.message_id) == (JobState.ENQUEUED, "m-lost")
    assert scene.verdicts == [Verdict.ENQUEUED]


async def test_messages_are_sent_ten_at_a_time(scene: ReconcileScene) -> None:
    for number in range(23):
        scene.ended(f"lost-{number:02}", ago=DAY - number)

    await scene.one_pass()

    assert [len(batch) for batch in scene.queue.batches] == [10, 10, 3]


@pytest.mark.parametrize(
    "state", [JobState.SYNCED, JobState.WRITING, JobState.SKIPPED, JobState.REJECTED]
)
async def test_a_job_whose_row_is_settled_is_left_alone_for_ever(
    scene: ReconcileScene, state: JobState
) -> None:
    created = scene.ended("known")
    await make_row(scene, "known", created, state)
    scene.clock.now += LOOK_BACK + 1

    await scene.one_pass()

    assert scene.queue.sent == []
    assert scene.verdicts == [Verdict.KNOWN]


async def test_a_job_with_a_row_younger_than_the_look_back_is_left_alone(
    scene: ReconcileScene,
) -> None:
    created = scene.ended("deferred")
    scene.ended("lost")
    await make_row(scene, "deferred", created, JobState.RELEASED)
    await scene.one_pass()
    scene.clock.now += LOOK_BACK - 1
    await scene.one_pass()
    assert scene.queue.jobs == ["lost"]

    scene.clock.now += 1
    await scene.one_pass()
    assert sorted(scene.queue.jobs) == ["deferred", "lost", "lost"]


async def test_a_row_of_an_earlier_job_of_the_name_says_nothing(scene: ReconcileScene) -> None:
    created = scene.ended("again")
    await make_row(scene, "again", created - DAY, JobState.SYNCED)

    await scene.one_pass()

    assert scene.queue.jobs == ["again"]


async def test_a_job_in_a_status_that_is_not_synced_is_left_alone(scene: ReconcileScene) -> None:
    scene.ended("failed", status="Failed")
    await scene.one_pass()
    assert (scene.queue.jobs, scene.verdicts) == ([], [Verdict.KNOWN])

    scene.rules = replace(scene.rules, statuses=frozenset({"Failed"}))
    await scene.one_pass()
    assert scene.queue.jobs == ["failed"]


async def test_a_job_that_ended_minutes_ago_is_seen_again_by_a_later_pass(
    scene: ReconcileScene,
) -> None:
    # so long ago that only the first scan lists it
    scene.ended("young", ago=YOUNG_SECONDS - 60, ran=3 * DAY)
    scene.ended("newest", ago=YOUNG_SECONDS - 60, ran=60)
    await scene.one_pass()
    assert scene.queue.jobs == []
    assert scene.verdicts == [Verdict.TOO_YOUNG, Verdict.TOO_YOUNG]

    scene.clock.now += OVERLAP_SECONDS + HOUR
    await scene.one_pass()

    assert sorted(scene.queue.jobs) == ["newest", "young"]
    assert await scene.watched() == {}


async def test_a_young_job_whose_event_came_is_not_sent(scene: ReconcileScene) -> None:
    created = scene.ended("young", ago=60)
    await scene.one_pass()
    await make_row(scene, "young", created, JobState.SYNCED)

    scene.clock.now += HOUR
    await scene.one_pass()

    assert scene.queue.jobs == []
    assert await scene.watched() == {}
    assert scene.sagemaker.described == []


async def test_an_unfinished_job_is_watched_and_sent_when_it_has_ended(
    scene: ReconcileScene,
) -> None:
    created = scene.running("long", for_seconds=2 * HOUR)
    scene.running("newest", for_seconds=1)
    await scene.one_pass()
    assert set(await scene.watched()) == {"long", "newest"}

    scene.clock.now += 2 * DAY
    scene.sagemaker.put("long", created, "Completed", scene.clock.now - HOUR)
    await scene.one_pass()

    assert scene.queue.jobs == ["long"]
    assert set(await scene.watched()) == {"newest"}
    assert scene.sagemaker.described == ["long"]
    assert json.loads(scene.queue.sent[0].body)["TrainingJobStatus"] == "Completed"


async def test_a_watched_job_that_ended_in_another_status_or_is_gone_is_dropped(
    scene: ReconcileScene,
) -> None:
    for name in ("failed", "deleted", "reused"):
        scene.running(name)
    await scene.one_pass()
    scene.clock.now += 2 * OVERLAP_SECONDS
    scene.ended("failed", status="Failed")
    scene.sagemaker.delete("deleted")
    scene.running("reused", for_seconds=1)

    await scene.one_pass()

    assert scene.queue.jobs == []
    assert set(await scene.watched()) == {"reused"}


async def test_the_later_job_of_a_name_stays_on_the_watch_list(scene: ReconcileScene) -> None:
    scene.running("reused", for_seconds=2 * HOUR)
    await scene.one_pass()
    scene.sagemaker.delete("reused")
    scene.clock.now += HOUR
    created = scene.running("reused", for_seconds=60)
    await scene.one_pass()

    scene.clock.now += HOUR
    scene.sagemaker.put("reused", created, "Completed", scene.clock.now - YOUNG_SECONDS)
    scene.ended("newer", ago=60, ran=1)  # the scan does not reach back to the reused one
    await scene.one_pass()

    assert scene.queue.jobs == ["reused"]
    assert set(await scene.watched()) == {"newer"}


async def test_looks_at_a_watched_job_become_rarer(scene: ReconcileScene) -> None:
    least, most = WATCH_PAUSE_SECONDS
    scene.running("long", for_seconds=2 * HOUR)
    scene.ended("newer", ago=60, ran=1)  # so that later scans do not reach back to the long one
    await scene.one_pass()
    assert (await scene.watched())["long"] == least
    pauses = []
    for seconds in (HOUR, 8 * HOUR, 3 * DAY):
        scene.clock.now += seconds
        await scene.one_pass()
        pauses.append((await scene.watched())["long"])
    assert pauses == [15 * 60, 9 * HOUR / 4, most]

    scene.clock.now += most - 1
    await scene.one_pass()
    assert scene.sagemaker.described == ["long"] * 3


async def test_a_look_noted_under_a_wrong_clock_is_not_waited_for(scene: ReconcileScene) -> None:
    created = scene.running("long", for_seconds=2 * HOUR)
    scene.ended("newer", ago=60, ran=1)  # the next scan does not reach back to the long one
    scene.clock.now += 300 * DAY
    scene.rules = ReconcileRules({"Completed"}, LOOK_BACK, 365 * DAY)
    await scene.one_pass()
    scene.clock.now -= 300 * DAY
    scene.sagemaker.put("long", created, "Completed", scene.clock.now - HOUR)

    await scene.one_pass()

    assert scene.queue.jobs == ["newer", "long"]


async def test_the_first_scan_reaches_back_and_later_ones_begin_before_the_last_position(
    scene: ReconcileScene,
) -> None:
    newest = scene.ended("newest")
    scene.ended("oldest", ago=LONGEST - 2 * HOUR)
    scene.ended("older than the longest job", ago=LONGEST)
    first = scene.clock.now
    progress = await scene.one_pass()
    scene.clock.now += DAY
    await scene.one_pass()

    assert scene.sagemaker.lists == [
        (first - LONGEST, first + AHEAD_SECONDS),
        (newest - OVERLAP_SECONDS, scene.clock.now + AHEAD_SECONDS),
    ]
    assert progress == Progress(newest, first, first)
    assert set(scene.queue.jobs) == {"newest", "oldest"}


async def test_a_clock_that_is_ahead_loses_no_job(scene: ReconcileScene) -> None:
    scene.ended("before")
    scene.clock.now += 2 * DAY
    await scene.one_pass()
    scene.clock.now -= 2 * DAY
    scene.clock.now += HOUR
    scene.ended("since", ago=YOUNG_SECONDS)

    await scene.one_pass()

    assert scene.queue.jobs == ["before", "since"]


async def test_the_position_advances_only_when_the_whole_scan_is_done(
    scene: ReconcileScene,
) -> None:
    for number in range(150):
        scene.ended(f"lost-{number:03}", ago=DAY - 10 * number)
    scene.sagemaker.faults = [None, UNREACHABLE]
    with pytest.raises(EdgeFault):
        await scene.one_pass()
    assert await scene.progress() == Progress()
    assert len(scene.queue.jobs) == 100

    await scene.one_pass()

    assert sorted(scene.queue.jobs) == sorted({f"lost-{number:03}" for number in range(150)})


async def test_a_message_is_sent_first_and_recorded_then(scene: ReconcileScene) -> None:
    created = scene.ended("lost")
    scene.queue.fault = EdgeFault(Edge.QUEUE, Reason.ACCESS_DENIED, "sqs:SendMessage is missing")
    with pytest.raises(EdgeFault):
        await scene.one_pass()
    assert await scene.row("lost", created) is None

    scene.queue.fault = None
    await scene.one_pass()
    assert scene.queue.jobs == ["lost"]


async def test_a_message_that_sqs_does_not_take_is_sent_by_the_next_pass(
    scene: ReconcileScene,
) -> None:
    for number in range(3):
        scene.ended(f"lost-{number}", ago=DAY - number)
    scene.queue.refused = {"lost-1"}
    with pytest.raises(EdgeFault, match="InternalError"):
        await scene.one_pass()
    scene.queue.refused = set()

    await scene.one_pass()

    assert scene.queue.batches == [["lost-0", "lost-2"], ["lost-1"]]


async def test_a_throttled_request_is_made_again(scene: ReconcileScene) -> None:
    scene.running("long", for_seconds=2 * HOUR)
    scene.ended("newer", ago=60, ran=1)
    scene.sagemaker.faults = [THROTTLED, THROTTLED]
    await scene.one_pass()
    scene.clock.now += HOUR
    scene.sagemaker.faults = [None, THROTTLED]
    await scene.one_pass()
    assert scene.sagemaker.described == ["long", "long"]

    scene.sagemaker.faults = [THROTTLED] * MOST_THROTTLES
    with pytest.raises(EdgeFault):
        await scene.one_pass()


async def test_a_pass_ends_when_its_claim_is_lost(scene: ReconcileScene) -> None:
    scene.ended("lost")
    claim = await scene.claim()
    scene.clock.now += LEASE_SECONDS + 1
    other = await scene.start()
    assert isinstance(await other.claim(claim.job_arn, LEASE_SECONDS), Claim)

    with pytest.raises(LeaseLost):
        await reconcile_once(scene.edges(), scene.rules, claim)

    assert (scene.sagemaker.lists, scene.queue.jobs) == ([], [])


async def test_the_progress_of_who_lost_the_claim_is_not_kept(scene: ReconcileScene) -> None:
    scene.ended("lost")
    claim = await scene.claim()
    real = scene.queue.send

    async def slow(*arguments: object) -> object:
        scene.clock.now += LEASE_SECONDS + 1
        await (await scene.start()).claim(claim.job_arn, LEASE_SECONDS)
        return await real(*arguments)  # type: ignore[arg-type] # passed on

    with mock.patch.object(scene.queue, "send", slow), pytest.raises(LeaseLost):
        await reconcile_once(scene.edges(), scene.rules, claim)

    assert await scene.progress() == Progress()


async def test_a_pass_is_given_up_when_the_daemon_holds_its_messages(
    scene: ReconcileScene,
) -> None:
    scene.ended("lost")
    scene.may_go_on = False
    with pytest.raises(Paused):
        await scene.one_pass()
    assert scene.sagemaker.lists == []


@pytest.mark.parametrize("note", ["", "[]", "{", '{"position": "x"}', '{"position": NaN}'])
def test_a_note_that_cannot_be_read_begins_anew(note: str) -> None:
    assert Progress.of(note) == Progress()
