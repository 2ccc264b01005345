"""One checkpoint with several targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.ports import Claim, ClaimedElsewhere, HistoryFilter, JobState, NameLocked
from daemon.targets.place import ANY_TARGET, TargetPlace
from tests.support.checkpoint_calls import (
    ARN,
    LEASE,
    MARK,
    TARGET,
    FakeClock,
    begin,
    claimed,
    deferred,
    mark_of,
    rejected,
    row,
    synced,
)

if TYPE_CHECKING:
    from daemon.checkpoint.ports import Checkpoint
    from tests.support.checkpoint_kinds import OpenFor

MOVED = TargetPlace(TARGET.kind, "http://other:8080/v1")
V1 = TargetPlace("modeldb-v1", "modeldb:6543")


@pytest.fixture(params=[MOVED, V1], ids=["moved", "of another kind"])
async def pair(
    request: pytest.FixtureRequest, open_for: OpenFor, clock: FakeClock
) -> tuple[Checkpoint, Checkpoint]:
    """Two owners of one checkpoint, which work for different targets."""
    ours = await open_for(TARGET)
    clock.now += 100
    return ours, await open_for(request.param)


Pair = tuple["Checkpoint", "Checkpoint"]


async def test_what_is_done_in_one_target_is_unknown_in_another(pair: Pair) -> None:
    ours, theirs = pair
    await synced(ours, await claimed(ours))
    assert await theirs.job(MARK) is None
    assert await theirs.described(ARN) == []

    await begin(theirs, await claimed(theirs))
    await deferred(theirs, await claimed(theirs))
    assert (await row(theirs)).state is JobState.WRITING
    assert (await row(ours)).done
    assert await ours.job_counts() == {TARGET: 1, theirs.target: 1}
    assert {(job.target, job.place) for job in await ours.history(HistoryFilter())} == {
        (TARGET.kind, TARGET.place),
        (theirs.target.kind, theirs.target.place),
    }


async def test_a_write_without_an_answer_may_reach_the_server_under_another_name(
    open_for: OpenFor,
) -> None:
    ours, moved, v1 = [await open_for(target) for target in (TARGET, MOVED, V1)]
    await begin(ours, await claimed(ours))
    assert (await row(moved)).unanswered_writes == 1
    assert [each.unanswered_writes for each in await moved.described(ARN)] == [1]
    assert await v1.job(MARK) is None
    claim = await claimed(moved)
    assert (await begin(moved, claim)).unanswered_writes == 2
    await synced(moved, claim)
    assert (await row(moved)).done
    assert (await row(ours)).unanswered_writes == 1


async def test_claims_and_name_locks_of_two_targets_do_not_meet(
    pair: Pair, open_for: OpenFor
) -> None:
    ours, theirs = pair
    claims = [await claimed(ours), await claimed(theirs)]
    await ours.lock_name(claims[0], "project/churn", LEASE)
    await theirs.lock_name(claims[1], "project/churn", LEASE)
    assert await ours.renew(claims[:1], LEASE) == []
    await ours.release(claims[0])
    assert await theirs.renew(claims[1:], LEASE) == []
    again = await open_for(theirs.target)
    assert isinstance(await again.claim(ARN, LEASE), ClaimedElsewhere)
    other = await again.claim(mark_of(2).arn, LEASE)
    assert isinstance(other, Claim)
    with pytest.raises(NameLocked):
        await again.lock_name(other, "project/churn", LEASE)


async def test_a_message_is_rejected_once_whatever_the_target(pair: Pair) -> None:
    ours, theirs = pair
    await rejected(ours, None, None)
    await ours.keep_body("m-3", "the body")
    await rejected(theirs, None, None)
    (message,) = await theirs.rejected_messages()
    assert message.body == "the body"


async def test_a_target_is_as_old_as_its_first_use(
    pair: Pair, open_for: OpenFor, clock: FakeClock
) -> None:
    ours, theirs = pair
    assert (ours.created_at, theirs.created_at) == (clock.now - 100, clock.now)
    clock.now += 50
    again = await open_for(TARGET)
    assert again.created_at == ours.created_at


async def test_a_clock_that_was_wrong_when_the_file_was_made_makes_it_no_older(
    open_for: OpenFor, clock: FakeClock
) -> None:
    right, clock.now = clock.now, 3.0
    checkpoint = await open_for(TARGET)
    await checkpoint.aclose()
    clock.now = right
    checkpoint = await open_for(TARGET)
    assert checkpoint.created_at == right


async def test_a_file_that_was_put_back_after_long_is_as_good_as_new(
    open_for: OpenFor, clock: FakeClock
) -> None:
    backup = await open_for(TARGET)
    await synced(backup, await claimed(backup))
    await backup.aclose()
    clock.now += 2 * 86400
    checkpoint = await open_for(TARGET)
    assert checkpoint.created_at == clock.now
    assert (await row(checkpoint)).done


async def test_looking_at_a_file_does_not_make_it_a_targets(
    open_for: OpenFor, clock: FakeClock
) -> None:
    looking = await open_for(ANY_TARGET)
    await looking.probe()
    await looking.aclose()
    clock.now += 1000
    ours = await open_for(TARGET)
    assert ours.created_at == clock.now
