"""A claim that is not written yet keeps nobody out: the first change decides who has the job."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.ports import Claim, ClaimedElsewhere, HistoryFilter, JobState, LeaseLost
from daemon.errors import EdgeFault
from daemon.story import StoryEntry, StoryEvent
from tests.support.checkpoint_calls import (
    ARN,
    LEASE,
    MARK,
    NAME,
    FakeClock,
    claimed,
    deferred,
    rejected,
    row,
    skipped,
    synced,
)
from tests.support.checkpoint_calls import begin as begun
from tests.support.dynamodb_processes import Processes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from daemon.checkpoint.ports import Checkpoint, JobRecord
    from tests.support.dynamodb_processes import Process

TOLD = [StoryEntry(1.0, StoryEvent.GIVEN_BACK)]
JOB = f"job#{NAME}"


async def begin(checkpoint: Checkpoint, claim: Claim) -> JobRecord:
    """With the lock that a target takes for the run of this job."""
    return await begun(checkpoint, claim, lock_name=f"modeldb-v2/run/7/{NAME}")


FIRST_CHANGES = [begin, synced, skipped, rejected, deferred]


async def unwritten(process: Process, arn: str = ARN) -> Claim:
    claim = await process.checkpoint.claim(arn, LEASE, at_once=False)
    assert isinstance(claim, Claim)
    return claim


@pytest.fixture
async def processes() -> Processes:
    return Processes()


@pytest.mark.parametrize("theirs", FIRST_CHANGES)
@pytest.mark.parametrize("ours", FIRST_CHANGES)
async def test_whoever_changes_the_job_first_has_it(
    processes: Processes,
    ours: Callable[..., Awaitable[object]],
    theirs: Callable[..., Awaitable[object]],
) -> None:
    first, second = await processes.start(), await processes.start()
    first_claim, second_claim = await unwritten(first), await unwritten(second)
    await ours(first.checkpoint, first_claim)
    before = dict(processes.held.items)

    if (ours, theirs) == (synced, synced):
        await theirs(second.checkpoint, second_claim)  # the run is there, whoever made it
    else:
        with pytest.raises(LeaseLost):
            await theirs(second.checkpoint, second_claim)

    assert processes.held.items == before


@pytest.mark.parametrize("theirs", FIRST_CHANGES)
@pytest.mark.parametrize("ours", FIRST_CHANGES)
async def test_one_of_two_that_change_the_job_at_the_same_moment_loses(
    processes: Processes,
    ours: Callable[..., Awaitable[object]],
    theirs: Callable[..., Awaitable[object]],
) -> None:
    first, second = await processes.start(), await processes.start()
    claims = [await unwritten(first), await unwritten(second)]

    answers = await asyncio.gather(
        ours(first.checkpoint, claims[0]),
        theirs(second.checkpoint, claims[1]),
        return_exceptions=True,
    )

    lost = [isinstance(answer, LeaseLost) for answer in answers]
    assert sum(lost) == 1 or (ours, theirs) == (synced, synced)
    (record,) = await first.checkpoint.history(HistoryFilter())
    expected = {begin: "writing", synced: "synced", skipped: "skipped", rejected: "rejected"}
    assert record.state == expected.get(theirs if lost[0] else ours, "released")
    assert record.attempts == (record.state is JobState.RELEASED)


async def test_a_lock_that_is_at_home_elsewhere_is_given_back_by_the_one_that_lost(
    processes: Processes,
) -> None:
    first, second = await processes.start(), await processes.start()
    claim, other = await unwritten(first), await unwritten(second)
    await begin(first.checkpoint, claim)
    with pytest.raises(LeaseLost):
        await begun(second.checkpoint, other, lock_name="modeldb-v2/run/7/another")
    await begun(first.checkpoint, claim, lock_name="modeldb-v2/run/7/another")


async def test_somebody_who_was_quicker_and_has_finished_was_quicker_all_the_same(
    processes: Processes,
) -> None:
    first, second = await processes.start(), await processes.start()
    claim = await unwritten(second)
    await first.checkpoint.release(await claimed(first.checkpoint))

    with pytest.raises(LeaseLost):
        await begin(second.checkpoint, claim)
    assert (await unwritten(second)).fence > claim.fence


async def test_a_former_holder_that_comes_back_keeps_its_job(processes: Processes) -> None:
    clock = FakeClock()
    first, second = await processes.start(clock), await processes.start(clock)
    former = await claimed(first.checkpoint)
    clock.now += LEASE + 30
    claim = await unwritten(second)
    assert await first.checkpoint.renew([former], LEASE) == []

    with pytest.raises(LeaseLost):
        await begin(second.checkpoint, claim)
    await begin(first.checkpoint, former)


async def test_it_keeps_nobody_out(processes: Processes) -> None:
    first, second = await processes.start(), await processes.start()
    claim = await unwritten(first)
    assert await second.checkpoint.claim_on(ARN) is None
    assert isinstance(await second.checkpoint.claim(ARN, LEASE), Claim)
    assert isinstance(await first.checkpoint.claim(ARN, LEASE, at_once=False), ClaimedElsewhere)
    with pytest.raises(LeaseLost):
        await begin(first.checkpoint, claim)


async def test_claiming_at_once_writes_it(processes: Processes) -> None:
    first, second = await processes.start(), await processes.start()
    claim = await unwritten(first)
    assert await first.checkpoint.claim(ARN, LEASE) == claim
    assert isinstance(await second.checkpoint.claim(ARN, LEASE), ClaimedElsewhere)
    await begin(first.checkpoint, claim)


async def test_renewing_it_writes_nothing_and_prolongs_it(processes: Processes) -> None:
    ours = await processes.start()
    claim = await unwritten(ours)
    ours.asked()
    for _ in range(3):
        ours.clock.now += LEASE - 1
        assert await ours.checkpoint.renew([claim], LEASE) == []
    assert ours.asked() == []
    ours.clock.now += LEASE - 1
    await begin(ours.checkpoint, claim)


async def test_it_ends_with_its_lease(processes: Processes) -> None:
    ours = await processes.start()
    claim = await unwritten(ours)
    ours.clock.now += LEASE
    with pytest.raises(LeaseLost):
        await begin(ours.checkpoint, claim)
    again = await unwritten(ours)
    assert again.fence > claim.fence
    with pytest.raises(LeaseLost):
        await begin(ours.checkpoint, claim)
    await begin(ours.checkpoint, again)


async def test_releasing_it_writes_nothing_but_a_story(processes: Processes) -> None:
    first, second = await processes.start(), await processes.start()
    claim, other = await unwritten(first), await unwritten(second)
    before = dict(processes.held.items)
    await first.checkpoint.release(claim)
    assert processes.held.items == before

    claim = await unwritten(first)
    await first.checkpoint.release(claim, story=TOLD)
    assert await second.checkpoint.story(ARN) == TOLD
    await begin(second.checkpoint, other)  # a story takes the job from nobody


async def test_a_story_of_one_that_is_lost_takes_nothing_from_the_winner(
    processes: Processes,
) -> None:
    first, second = await processes.start(), await processes.start()
    claim, other = await unwritten(first), await unwritten(second)
    await begin(second.checkpoint, other)
    await first.checkpoint.release(claim, story=TOLD)
    assert await second.checkpoint.renew([other], LEASE) == []
    assert isinstance(await first.checkpoint.claim(ARN, LEASE), ClaimedElsewhere)
    await synced(second.checkpoint, other)
    assert (await row(first.checkpoint)).done


async def test_the_lock_of_a_name_needs_it_in_writing(processes: Processes) -> None:
    first, second = await processes.start(), await processes.start()
    claim, other = await unwritten(first), await unwritten(second)
    await first.checkpoint.lock_name(claim, "project/churn", LEASE)
    for name in ("project/churn", "project/other", f"modeldb-v2/run/7/{NAME}"):
        with pytest.raises(LeaseLost):
            await second.checkpoint.lock_name(other, name, LEASE)


async def test_a_note_needs_it_in_writing(processes: Processes) -> None:
    first, second = await processes.start(), await processes.start()
    claim, other = await unwritten(first, "operation:x"), await unwritten(second, "operation:x")
    await first.checkpoint.put_note("page", "1", claim)
    with pytest.raises(LeaseLost):
        await second.checkpoint.put_note("page", "2", other)
    assert await second.checkpoint.note("page") == "1"


async def test_a_first_change_whose_answer_is_lost_goes_on_under_the_same_claim(
    processes: Processes,
) -> None:
    ours, theirs = await processes.start(), await processes.start()
    claim = await unwritten(ours)
    ours.table.unanswered.add(JOB)
    with pytest.raises(EdgeFault):
        await begin(ours.checkpoint, claim)
    assert isinstance(await theirs.checkpoint.claim(ARN, LEASE), ClaimedElsewhere)

    ours.clock.now += LEASE - 1
    theirs.clock.now += LEASE - 1
    assert await ours.checkpoint.renew([claim], LEASE) == []
    ours.clock.now += LEASE - 1
    theirs.clock.now += LEASE - 1
    assert isinstance(await theirs.checkpoint.claim(ARN, LEASE), ClaimedElsewhere), "renewed"
    assert (await begin(ours.checkpoint, claim)).unanswered_writes == 2
    await synced(ours.checkpoint, claim)


@pytest.mark.parametrize("finish", [deferred, skipped, rejected])
async def test_a_first_change_that_was_never_carried_out_is_made_again(
    processes: Processes, finish: Callable[..., Awaitable[None]]
) -> None:
    ours = await processes.start()
    claim = await unwritten(ours)
    ours.table.refused.add(JOB)
    with pytest.raises(EdgeFault):
        await finish(ours.checkpoint, claim)
    ours.table.refused.clear()
    await finish(ours.checkpoint, claim)
    assert (await row(ours.checkpoint, MARK)).state in {"released", "skipped", "rejected"}
