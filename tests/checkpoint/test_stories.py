"""Stories, projects, and the filters of the history in every store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.ports import ClaimedElsewhere, HistoryFilter, JobState, LeaseLost
from daemon.reasons import Reason
from daemon.story import DETAIL_LIMIT, ENTRIES_LIMIT, StoryEntry, StoryEvent
from daemon.targets.place import ANY_TARGET, TargetPlace
from daemon.training_job.identity import JobMark
from tests.support.checkpoint_calls import (
    ARN,
    LEASE,
    MARK,
    NAME,
    TARGET,
    FakeClock,
    arn_of,
    claimed,
    deferred,
    mark_of,
    rejected,
    row,
    synced,
)

if TYPE_CHECKING:
    from daemon.checkpoint.ports import Checkpoint
    from tests.support.checkpoint_kinds import OpenFor, Start


def entry(at: float, what: StoryEvent = StoryEvent.CLAIMED, detail: str = "") -> StoryEntry:
    return StoryEntry(at, what, "m-1", detail, "process-1")


async def test_every_record_of_a_job_adds_to_its_story(checkpoint: Checkpoint) -> None:
    claim = await claimed(checkpoint)
    await checkpoint.begin_write(claim, MARK, NAME, lock_name="run/churn", story=[entry(1)])
    await checkpoint.note_steps(claim, MARK, {"fit": "done"}, story=[entry(2)])
    await checkpoint.record_synced(
        claim,
        MARK,
        NAME,
        reason=Reason.CREATED,
        detail="",
        target_ids={},
        message_id="m-1",
        story=[entry(3)],
    )
    await checkpoint.release(await claimed(checkpoint), story=[entry(4)])
    await checkpoint.record_deferred(
        await claimed(checkpoint),
        MARK,
        NAME,
        reason=Reason.TARGET_FAULT,
        detail="",
        unanswered_writes=None,
        message_id="m-1",
        story=[entry(5)],
    )
    await checkpoint.record_skipped(
        await claimed(checkpoint),
        MARK,
        NAME,
        reason=Reason.NOT_TAGGED,
        message_id="m-1",
        story=[entry(6)],
    )
    await checkpoint.record_rejected(
        None,
        None,
        NAME,
        job_arn=ARN.upper(),
        reason=Reason.JOB_GONE,
        detail="",
        message_id="m-1",
        story=[entry(7)],
    )
    await checkpoint.note_story(ARN.upper(), [entry(8, StoryEvent.HELD, "\ud800")])

    story = await checkpoint.story(ARN.upper())
    assert [told.at for told in story] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert story[0] == entry(1)
    assert story[-1].detail == "\\ud800"


async def test_a_story_is_bounded(checkpoint: Checkpoint) -> None:
    for at in range(ENTRIES_LIMIT + 40):
        await checkpoint.note_story(ARN, [entry(at, detail="y" * 1000)])
    story = await checkpoint.story(ARN)
    assert len(story) == ENTRIES_LIMIT
    assert {len(told.detail) for told in story} == {DETAIL_LIMIT}


async def test_a_record_that_is_refused_tells_nothing(start: Start, clock: FakeClock) -> None:
    ours, theirs = await start(), await start()
    claim = await claimed(ours)
    clock.now += LEASE + 1
    await claimed(theirs)
    with pytest.raises(LeaseLost):
        await ours.begin_write(claim, MARK, NAME, lock_name="run/churn", story=[entry(1)])
    with pytest.raises(LeaseLost):
        await ours.put_note("page", "2", claim)
    assert await ours.story(ARN) == []
    assert await ours.note("page") is None


async def test_a_story_is_of_one_target_unless_all_are_asked_for(open_for: OpenFor) -> None:
    other = await open_for(TargetPlace("modeldb-v1", "modeldb:6543"))
    ours = await open_for(TARGET)
    every = await open_for(ANY_TARGET)
    await other.note_story(ARN, [entry(2)])
    await ours.note_story(ARN, [entry(1), entry(3)])
    assert [told.at for told in await ours.story(ARN)] == [1, 3]
    assert [told.at for told in await every.story(ARN)] == [1, 2, 3]


async def test_who_has_a_claim_is_told_without_taking_it(start: Start, clock: FakeClock) -> None:
    ours, theirs = await start(), await start()
    claim = await claimed(ours)
    clock.now += 10
    assert await theirs.claim_on(ARN.upper()) == ClaimedElsewhere(claim.owner, LEASE - 10)
    assert await ours.renew([claim], LEASE) == []
    clock.now += LEASE
    assert await theirs.claim_on(ARN) is None


async def test_jobs_are_found_by_their_whole_name_or_arn(checkpoint: Checkpoint) -> None:
    await synced(checkpoint, await claimed(checkpoint))
    elsewhere = JobMark(ARN.replace("eu-west-1", "us-east-1"), MARK.creation_time)
    await synced(checkpoint, await claimed(checkpoint, elsewhere.arn), elsewhere)
    await rejected(checkpoint, None, None, job_arn=ARN)
    for name in (ARN, ARN.upper()):
        found = await checkpoint.jobs_named(name)
        assert [(each.job_arn, each.creation_time) for each in found] == [
            (ARN, MARK.creation_time),
            (ARN, ""),
        ]
    named = await checkpoint.jobs_named(NAME.upper())
    assert {each.job_arn for each in named} == {ARN, elsewhere.arn}
    assert await checkpoint.jobs_named(NAME[:-1]) == []


class TestHistory:
    async def fill(self, checkpoint: Checkpoint, clock: FakeClock) -> None:
        for number in range(6):
            clock.now = 1000.0 + number
            claim = await claimed(checkpoint, arn_of(number))
            if number % 3 == 2:
                await deferred(checkpoint, claim, mark_of(number))
                continue
            await checkpoint.record_synced(
                claim,
                mark_of(number),
                NAME,
                reason=Reason.CREATED if number % 3 else Reason.FOUND_IN_TARGET,
                detail="",
                target_ids={},
                message_id="m-1",
                project="Churn" if number < 4 else "fraud",
            )

    @pytest.mark.parametrize(
        ("wanted", "numbers"),
        [
            (HistoryFilter(), [5, 4, 3, 2, 1, 0]),
            (HistoryFilter(limit=2), [5, 4]),
            (HistoryFilter(states=[JobState.SYNCED]), [4, 3, 1, 0]),
            (HistoryFilter(states=[JobState.RELEASED, JobState.SYNCED], limit=3), [5, 4, 3]),
            (HistoryFilter(reasons=["created"]), [4, 1]),
            (HistoryFilter(reasons=["created", "target_fault", "created"]), [5, 4, 2, 1]),
            (HistoryFilter(reasons=["created"], states=[JobState.RELEASED]), []),
            (HistoryFilter(project="chURN"), [3, 1, 0]),
            (HistoryFilter(project="churn", reasons=["created"]), [1]),
            (HistoryFilter(project="chu"), []),
            (HistoryFilter(since=1002.0, until=1004.0), [3, 2]),
            (HistoryFilter(states=[JobState.SYNCED], since=1001.0, until=1004.0), [3, 1]),
            (HistoryFilter(job="JOB-3", states=[JobState.SYNCED]), [3]),
        ],
    )
    async def test_filters_are_combined(
        self,
        checkpoint: Checkpoint,
        clock: FakeClock,
        wanted: HistoryFilter,
        numbers: list[int],
    ) -> None:
        await self.fill(checkpoint, clock)
        found = await checkpoint.history(wanted)
        assert [each.job_arn for each in found] == [arn_of(number) for number in numbers]

    async def test_a_project_stays_known(self, checkpoint: Checkpoint, clock: FakeClock) -> None:
        await self.fill(checkpoint, clock)
        await synced(checkpoint, await claimed(checkpoint, arn_of(1)), mark_of(1))
        assert (await row(checkpoint, mark_of(1))).project == "Churn"
