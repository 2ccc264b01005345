"""The writer lease in the checkpoint: one holder at a time, over processes, terms and the grace of
a lease that was not released.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.checkpoint.ports import WriterElsewhere, WriterLease
from tests.support.checkpoint_calls import LEASE, FakeClock

if TYPE_CHECKING:
    from daemon.checkpoint.ports import Checkpoint
    from tests.support.checkpoint_kinds import Start

GRACE = 50.0
SERVER = "modeldb:6543"


async def take(checkpoint: Checkpoint, server: str = SERVER) -> WriterLease | WriterElsewhere:
    return await checkpoint.take_writer_lease(server, LEASE, grace_seconds=GRACE)


async def taken(checkpoint: Checkpoint, server: str = SERVER) -> WriterLease:
    lease = await take(checkpoint, server)
    assert isinstance(lease, WriterLease)
    return lease


async def test_one_process_writes_and_the_other_learns_who_and_how_long(start: Start) -> None:
    first, second = await start(), await start()
    lease = await taken(first)
    assert lease.term == 1
    assert await take(second) == WriterElsewhere(lease.owner, LEASE + GRACE)
    assert (await taken(second, "another:6543")).server_id == "another:6543"


async def test_a_lease_is_taken_over_only_when_the_last_call_of_its_holder_is_over(
    start: Start, clock: FakeClock
) -> None:
    first, second = await start(), await start()
    lease = await taken(first)
    clock.now += LEASE + GRACE - 1
    assert await take(second) == WriterElsewhere(lease.owner, 1, ended=True)
    clock.now += 1
    assert (await taken(second)).term == 2
    assert not await first.renew_writer_lease(lease, LEASE)
    await first.release_writer_lease(lease)
    assert isinstance(await take(first), WriterElsewhere)


async def test_a_lease_that_is_renewed_stays(start: Start, clock: FakeClock) -> None:
    first, second = await start(), await start()
    lease = await taken(first)
    for _ in range(3):
        clock.now += LEASE + GRACE - 1
        assert await first.renew_writer_lease(lease, LEASE)
    assert await take(second) == WriterElsewhere(lease.owner, LEASE + GRACE)


async def test_a_lease_that_is_given_back_is_free_at_once(start: Start) -> None:
    first, second = await start(), await start()
    await first.release_writer_lease(await taken(first))
    assert (await taken(second)).term == 2


async def test_the_grace_follows_a_holder_that_closes_without_having_given_its_lease_back(
    start: Start, clock: FakeClock
) -> None:
    # A daemon keeps its lease on purpose when it stops with calls unanswered. The end of its
    # checkpoint freed it all the same.
    first, second = await start(), await start()
    lease = await taken(first)
    await first.aclose()
    assert await take(second) == WriterElsewhere(lease.owner, GRACE, ended=True)
    third = await start()
    clock.now += GRACE - 1
    assert await take(third) == WriterElsewhere(lease.owner, 1, ended=True)
    clock.now += 1
    assert (await taken(third)).term == 2


async def test_a_lease_that_was_given_back_stays_free_when_its_holder_closes(start: Start) -> None:
    first = await start()
    await first.release_writer_lease(await taken(first))
    await first.aclose()
    assert (await taken(await start())).term == 2
