"""When the holder of a writer lease may send, and what happens when it loses the lease."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from daemon.checkpoint.ports import WriterLease
from daemon.checkpoint.writer_lease import SPARE_SECONDS, WriterLeaseKeeper
from daemon.errors import EdgeFault
from daemon.observability.watchdog import Pulse
from daemon.reasons import Edge, Reason
from tests.simulation.loop import VirtualLoop, virtual
from tests.support.checkpoint_calls import FakeClock

if TYPE_CHECKING:
    from daemon.checkpoint.sqlite.store import SqliteCheckpoint
    from tests.support.checkpoint_calls import Start

CALL = 45.0
SETTLE = 5.0
LEASE = CALL + SPARE_SECONDS
GRACE = CALL + SETTLE
FAULT = EdgeFault(Edge.CHECKPOINT, Reason.STORAGE, "disk full")


@pytest.fixture
def clock(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Both clocks, of the keeper and of every checkpoint."""
    monkeypatch.setattr("daemon.checkpoint.writer_lease.monotonic", clock)
    monkeypatch.setattr("daemon.checkpoint.writer_lease.wall", clock)
    return clock


class RestingPulse(Pulse):
    """Tells when its loop rests."""

    def __init__(self) -> None:
        super().__init__()
        self.rested = asyncio.Event()

    def rest(self) -> None:
        self.rested.set()


class LeaseScene:
    """A `WriterLeaseKeeper`, what it reports, and one round of its loop at a time."""

    def __init__(self, checkpoint: SqliteCheckpoint) -> None:
        self.faults: list[EdgeFault] = []
        self.changes: list[bool] = []
        self.ended = 0
        self.keeper = WriterLeaseKeeper(
            checkpoint,
            "modeldb:6543",
            call_seconds=CALL,
            settle_seconds=SETTLE,
            on_fault=self.faults.append,
            on_change=self.changes.append,
        )
        self.keeper.on_end(self._end)

    def _end(self) -> None:
        self.ended += 1

    async def round(self) -> None:
        """The loop from its beginning to its first pause."""
        pulse = RestingPulse()
        loop = asyncio.create_task(self.keeper.run(pulse))
        await asyncio.wait(
            {loop, asyncio.ensure_future(pulse.rested.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


@pytest.fixture
def first(checkpoint: SqliteCheckpoint, clock: FakeClock) -> LeaseScene:
    return LeaseScene(checkpoint)


@pytest.fixture
async def second(first: LeaseScene, start: Start) -> LeaseScene:
    """Another process with the same checkpoint."""
    return LeaseScene(await start())


async def test_the_only_process_becomes_the_writer(first: LeaseScene) -> None:
    keeper = first.keeper
    assert (keeper.holds, keeper.may_send(), first.changes) == (False, False, [False])
    await first.round()
    await keeper.wait_held()
    assert (keeper.holds, keeper.may_send(), first.changes) == (True, True, [False, True])


async def test_the_second_one_stands_by_and_says_for_whom(
    first: LeaseScene, second: LeaseScene
) -> None:
    await first.round()
    await second.round()
    assert not second.keeper.holds
    assert not second.keeper.may_send()
    assert second.keeper.standing_by.endswith(" is the writer; this one takes over when it ends")
    assert second.ended == 0
    await first.keeper.release()
    assert not first.keeper.may_send()
    await second.round()
    assert (second.keeper.holds, second.keeper.standing_by) == (True, "")


async def test_the_server_gets_the_deadline_and_the_settle_time_after_a_writer_has_ended(
    first: LeaseScene, second: LeaseScene, checkpoint: SqliteCheckpoint, clock: FakeClock
) -> None:
    await first.round()
    await second.round()
    await checkpoint.aclose()  # in order, with calls unanswered

    with capture_logs() as logs:
        await second.round()
    assert not second.keeper.holds
    assert second.keeper.standing_by.endswith(
        " has ended; this one takes over in 50 s, when the server has carried out all that was sent"
    )
    assert [(line["event"], line["seconds"]) for line in logs] == [
        ("standing by: the writer lease has ended, and what was sent may still be written", GRACE)
    ]
    clock.now += GRACE - 1
    await second.round()
    assert not second.keeper.holds
    clock.now += 1
    await second.round()
    assert second.keeper.holds


async def test_a_standby_asks_again_when_the_grace_ends(
    first: LeaseScene, second: LeaseScene, checkpoint: SqliteCheckpoint, clock: FakeClock
) -> None:
    await second.round()
    await second.keeper.release()
    assert second.keeper._pause() == 5
    await first.round()
    await second.round()
    assert second.keeper._pause() == 5
    await checkpoint.aclose()
    await second.round()
    clock.now += GRACE - 2
    assert second.keeper._pause() == 2


async def test_nothing_is_sent_whose_deadline_the_lease_does_not_outlive(
    first: LeaseScene, clock: FakeClock
) -> None:
    await first.round()
    clock.now += SPARE_SECONDS - 1
    assert first.keeper.may_send()
    clock.now += 2
    assert (first.keeper.holds, first.keeper.may_send()) == (True, False)
    await first.round()  # renewed
    assert first.keeper.may_send()


async def test_a_wall_clock_that_is_set_forward_ends_the_right_at_once(
    first: LeaseScene, second: LeaseScene, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The lease is kept by the wall clock. The process that stood by saw it expire, while the
    # holder, whose monotonic clock had not jumped, wrote on until its next renewal: two writers.
    monkeypatch.setattr("daemon.checkpoint.writer_lease.monotonic", FakeClock())
    await first.round()
    clock.now += LEASE + GRACE
    await second.round()
    assert second.keeper.holds
    assert (first.keeper.holds, first.keeper.may_send(), first.ended) == (False, False, 0)
    with capture_logs() as logs:
        await first.round()
    assert [(line["event"], line["why"]) for line in logs] == [
        ("no longer the writer", "another process took the lease over")
    ]
    assert first.ended == 1


async def test_a_lease_that_expired_unnoticed_is_waited_for(
    first: LeaseScene, clock: FakeClock
) -> None:
    # The lease expired (a renewal hung, or the wall clock was set forward) before the loop that
    # renews it had its turn: a poller that asked again and again without yielding stopped the whole
    # process.
    await first.round()
    clock.now += LEASE
    waiting = asyncio.create_task(first.keeper.wait_held())
    await asyncio.sleep(0)
    assert not waiting.done()
    await first.round()  # renewed
    await waiting
    assert first.keeper.holds


async def test_a_lease_that_cannot_be_released_is_logged_and_over(
    first: LeaseScene, checkpoint: SqliteCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The checkpoint was deleted while the daemon ran: its stop ended with a traceback.
    await first.round()

    async def fail(_lease: object) -> None:
        raise FAULT

    monkeypatch.setattr(checkpoint, "release_writer_lease", fail)
    with capture_logs() as logs:
        await first.keeper.release()
    assert logs == [
        {
            "event": "could not release the writer lease",
            "log_level": "warning",
            "server_id": "modeldb:6543",
            "detail": "disk full",
        }
    ]
    assert not first.keeper.holds


async def test_what_is_under_way_is_cut_off_when_another_has_taken_over(
    first: LeaseScene, second: LeaseScene, clock: FakeClock
) -> None:
    await first.round()
    clock.now += LEASE + GRACE
    assert not first.keeper.holds  # already before it has heard of it
    await second.round()
    assert second.keeper.holds
    await first.round()
    assert (first.ended, first.keeper.holds, first.changes[-1]) == (1, False, False)


async def test_a_lease_that_cannot_be_renewed_ends_by_itself(
    first: LeaseScene,
    checkpoint: SqliteCheckpoint,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await first.round()

    async def refuse(*_arguments: object) -> bool:
        raise FAULT

    monkeypatch.setattr(checkpoint, "renew_writer_lease", refuse)
    await first.round()
    assert (first.faults, first.keeper.holds, first.ended) == ([FAULT], True, 0)
    clock.now += LEASE
    with capture_logs() as logs:
        await first.round()
    assert (first.keeper.holds, first.ended) == (False, 1)
    assert logs == [
        {
            "event": "no longer the writer",
            "log_level": "error",
            "server_id": "modeldb:6543",
            "why": "the lease expired",
        }
    ]


async def test_a_checkpoint_that_hangs_costs_the_lease(
    first: LeaseScene,
    checkpoint: SqliteCheckpoint,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await first.round()
    monkeypatch.setattr("daemon.checkpoint.writer_lease.CALL_SECONDS", 0.01)

    async def hang(*_arguments: object) -> bool:
        clock.now += LEASE
        await asyncio.Event().wait()
        return False

    monkeypatch.setattr(checkpoint, "renew_writer_lease", hang)
    with capture_logs() as logs:
        await first.round()
    assert [line["event"] for line in logs] == [
        "the checkpoint does not answer in time",
        "no longer the writer",
    ]
    assert first.ended == 1


def test_a_lease_too_short_to_send_is_renewed_as_soon_as_the_checkpoint_works() -> None:
    class Failing:
        """A checkpoint that cannot be written for a while."""

        works = True

        async def take_writer_lease(self, *_arguments: object, **_more: object) -> WriterLease:
            return WriterLease("modeldb:6543", "this process", 1)

        async def renew_writer_lease(self, *_arguments: object) -> bool:
            if not self.works:
                raise FAULT
            return True

    async def outage() -> None:
        checkpoint: Any = Failing()
        keeper = LeaseScene(checkpoint).keeper
        loop = asyncio.create_task(keeper.run(Pulse()))
        await asyncio.sleep(5)
        checkpoint.works = False
        await asyncio.sleep(SPARE_SECONDS + 2)
        assert (keeper.holds, keeper.may_send()) == (True, False)
        checkpoint.works = True
        await asyncio.sleep(1.5)
        assert keeper.may_send()
        loop.cancel()

    loop = VirtualLoop()
    with virtual(loop, random.Random(1)):
        loop.run_until_complete(outage())
    loop.close()
