"""Hosts whose clocks differ by up to 30 s never hold the same lease at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.ports import Claim, LeaseLost, NameLocked, WriterLease
from tests.support.checkpoint_calls import ARN, LEASE, FakeClock, arn_of, begin, mark_of
from tests.support.dynamodb_processes import Processes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from daemon.checkpoint.dynamodb.store import DynamoDbCheckpoint

    Take = Callable[[DynamoDbCheckpoint, str], Awaitable[bool]]

GRACE = 20.0


async def claim(checkpoint: DynamoDbCheckpoint, _job: str) -> bool:
    return isinstance(await checkpoint.claim(ARN, LEASE), Claim)


async def name_lock(checkpoint: DynamoDbCheckpoint, job: str) -> bool:
    return await _locked(checkpoint, job, "project/churn")


async def run_lock(checkpoint: DynamoDbCheckpoint, job: str) -> bool:
    return await _locked(checkpoint, job, "modeldb-v2/run/7/churn")


async def _locked(checkpoint: DynamoDbCheckpoint, job: str, name: str) -> bool:
    held = await checkpoint.claim(job, 10 * LEASE)
    assert isinstance(held, Claim)
    try:
        await checkpoint.lock_name(held, name, LEASE)
    except NameLocked:
        return False
    return True


async def writer_lease(checkpoint: DynamoDbCheckpoint, _job: str) -> bool:
    taken = await checkpoint.take_writer_lease("v1", LEASE, grace_seconds=0)
    return isinstance(taken, WriterLease)


async def request(checkpoint: DynamoDbCheckpoint, _job: str) -> bool:
    return await checkpoint.take_request(lease_seconds=LEASE) is not None


async def taken_over_after(take: Take, ahead: float) -> float:
    """How many seconds after somebody took a lease another host's process gets it, whose clock is
    ahead by so much.
    """
    processes, clock = Processes(), FakeClock()
    ours = await processes.start(clock)
    theirs = await processes.start(FakeClock(clock.now + ahead))
    await ours.checkpoint.ask("churn", force=False)
    assert await take(ours.checkpoint, arn_of(1))
    for seconds in range(200):
        if await take(theirs.checkpoint, arn_of(2)):
            return seconds
        clock.now += 1
        theirs.clock.now += 1
    raise AssertionError("nobody ever got it")


ALL = [claim, name_lock, run_lock, writer_lease, request]


@pytest.mark.parametrize("take", ALL)
@pytest.mark.parametrize("ahead", [-30, -7, 0, 7, 30])
async def test_a_lease_is_held_by_one_process_only(take: Take, ahead: float) -> None:
    assert await taken_over_after(take, ahead) == LEASE + 30 - ahead


@pytest.mark.parametrize("take", ALL)
async def test_clocks_that_differ_by_more_would_break_that(take: Take) -> None:
    assert await taken_over_after(take, ahead=31) < LEASE


@pytest.mark.parametrize("ahead", [-30, 0, 30])
async def test_the_holder_counts_by_its_own_clock(ahead: float) -> None:
    processes, clock = Processes(), FakeClock()
    await processes.start(clock)
    theirs = await processes.start(FakeClock(clock.now + ahead))
    held = await theirs.checkpoint.claim(arn_of(1), LEASE)
    assert isinstance(held, Claim)
    theirs.clock.now += LEASE - 1
    await begin(theirs.checkpoint, held, mark_of(1))
    theirs.clock.now += 1
    with pytest.raises(LeaseLost):
        await begin(theirs.checkpoint, held, mark_of(1))


async def test_own_leases_end_when_they_say() -> None:
    ours = await Processes().start()
    held = await ours.checkpoint.claim(arn_of(1), LEASE)
    assert isinstance(held, Claim)
    await ours.checkpoint.lock_name(held, "project/churn", LEASE)
    assert await writer_lease(ours.checkpoint, "")
    ours.clock.now += LEASE
    again = await ours.checkpoint.claim(arn_of(1), LEASE)
    assert isinstance(again, Claim)
    assert again.fence > held.fence
    assert await name_lock(ours.checkpoint, arn_of(2))
    taken = await ours.checkpoint.take_writer_lease("v1", LEASE, grace_seconds=GRACE)
    assert isinstance(taken, WriterLease)
    assert taken.term == 2


async def test_the_grace_of_a_writer_lease_follows_the_skew() -> None:
    processes, clock = Processes(), FakeClock()
    ours, theirs = await processes.start(clock), await processes.start(clock)
    first = await ours.checkpoint.take_writer_lease("v1", LEASE, grace_seconds=GRACE)
    clock.now += LEASE + 30 + GRACE - 1
    assert not isinstance(
        await theirs.checkpoint.take_writer_lease("v1", LEASE, grace_seconds=GRACE), WriterLease
    )
    clock.now += 1
    second = await theirs.checkpoint.take_writer_lease("v1", LEASE, grace_seconds=GRACE)
    assert isinstance(first, WriterLease)
    assert isinstance(second, WriterLease)
    assert second.term == first.term + 1
    await theirs.checkpoint.release_writer_lease(second)
    third = await ours.checkpoint.take_writer_lease("v1", LEASE, grace_seconds=GRACE)
    assert isinstance(third, WriterLease), "one that was released is free at once"
    assert third.term == second.term + 1


async def test_what_a_killed_process_held_is_free_when_its_leases_have_ended() -> None:
    processes, clock = Processes(), FakeClock()
    killed, ours = await processes.start(clock), await processes.start(clock)
    assert await claim(killed.checkpoint, "")
    clock.now += LEASE + 29
    assert not await claim(ours.checkpoint, "")
    clock.now += 1
    assert await claim(ours.checkpoint, "")


@pytest.mark.parametrize("ahead", [-30.0, 30.0])
async def test_a_target_is_as_old_as_the_first_host_says(ahead: float) -> None:
    processes, clock = Processes(), FakeClock()
    ours = await processes.start(clock)
    theirs = await processes.start(FakeClock(clock.now + ahead))
    assert theirs.checkpoint.created_at == ours.checkpoint.created_at
    clock.now += 3600
    assert (await processes.start(clock)).checkpoint.created_at == ours.checkpoint.created_at


async def test_a_clock_that_is_set_makes_the_target_no_older(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processes, clock = Processes(), FakeClock()
    ours = await processes.start(clock)
    clock.now += 40 * 86400
    monkeypatch.setattr(ours.checkpoint._use, "_clock_ahead", lambda: 40 * 86400.0)
    held = await ours.checkpoint.claim(arn_of(1), LEASE)
    assert isinstance(held, Claim)
    await begin(ours.checkpoint, held, mark_of(1))
    await ours.checkpoint.probe()
    assert ours.checkpoint.created_at == ours.checkpoint.opened_at == clock.now
    clock.now += 60
    assert (await processes.start(clock)).checkpoint.created_at == clock.now - 60
