"""The writer of a server that takes one writer only: when it may send, and what happens when it no
longer is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
import structlog
from structlog.testing import capture_logs

from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.checkpoint.writer_lease import SPARE_SECONDS, WriterLeaseKeeper
from daemon.errors import EdgeFault
from daemon.observability.watchdog import Pulse
from daemon.outcome import Edge, Reason
from tests.support.checkpoint_calls import FakeClock
from tests.support.log_lines import log_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from daemon.checkpoint.sqlite.store import SqliteCheckpoint

CALL = 45.0
SETTLE = 5.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture
async def checkpoint(tmp_path: Path, clock: FakeClock) -> AsyncIterator[SqliteCheckpoint]:
    opened = await open_sqlite_checkpoint(tmp_path / "checkpoint.db", clock=clock)
    yield opened
    await opened.aclose()


@pytest_asyncio.fixture
async def other(
    tmp_path: Path, checkpoint: SqliteCheckpoint, clock: FakeClock
) -> AsyncIterator[SqliteCheckpoint]:
    """Another process with the same checkpoint."""
    await checkpoint.probe()
    opened = await open_sqlite_checkpoint(tmp_path / "checkpoint.db", clock=clock)
    yield opened
    await opened.aclose()


class RestingPulse(Pulse):
    """Tells when its loop rests."""

    def __init__(self) -> None:
        super().__init__()
        self.rested = asyncio.Event()

    def rest(self) -> None:
        self.rested.set()


class Role:
    """A `WriterLeaseKeeper` that runs, what it tells, and one round of its loop at a time."""

    def __init__(
        self, checkpoint: SqliteCheckpoint, clock: FakeClock, wall: FakeClock | None = None
    ) -> None:
        self.faults: list[EdgeFault] = []
        self.changes: list[bool] = []
        self.ended = 0
        self.writer = WriterLeaseKeeper(
            checkpoint,
            "modeldb:6543",
            call_seconds=CALL,
            settle_seconds=SETTLE,
            on_fault=self.faults.append,
            on_change=self.changes.append,
            clock=clock,
            wall_clock=wall or clock,
        )
        self.writer.on_end(self._end)

    def _end(self) -> None:
        self.ended += 1

    async def round(self) -> None:
        """The loop from its beginning to its first pause."""
        pulse = RestingPulse()
        loop = asyncio.create_task(self.writer.run(pulse))
        await asyncio.wait(
            {loop, asyncio.ensure_future(pulse.rested.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


async def test_the_only_process_becomes_the_writer(
    checkpoint: SqliteCheckpoint, clock: FakeClock
) -> None:
    role = Role(checkpoint, clock)
    assert (role.writer.holds, role.writer.may_send(), role.changes) == (False, False, [False])
    await role.round()
    await role.writer.wait_held()
    assert (role.writer.holds, role.writer.may_send(), role.changes) == (True, True, [False, True])


async def test_the_second_one_stands_by_and_says_for_whom(
    checkpoint: SqliteCheckpoint, other: SqliteCheckpoint, clock: FakeClock
) -> None:
    first, second = Role(checkpoint, clock), Role(other, clock)
    await first.round()
    await second.round()
    assert not second.writer.holds
    assert not second.writer.may_send()
    assert second.writer.standing_by_for
    assert second.ended == 0
    await first.writer.release()
    assert not first.writer.may_send()
    await second.round()
    assert (second.writer.holds, second.writer.standing_by_for) == (True, "")


async def test_nothing_is_sent_whose_deadline_the_lease_does_not_outlive(
    checkpoint: SqliteCheckpoint, clock: FakeClock
) -> None:
    role = Role(checkpoint, clock)
    await role.round()
    clock.now += SPARE_SECONDS - 1
    assert role.writer.may_send()
    clock.now += 2
    assert (role.writer.holds, role.writer.may_send()) == (True, False)
    await role.round()  # renewed
    assert role.writer.may_send()


async def test_a_wall_clock_that_is_set_forward_ends_the_right_at_once(
    checkpoint: SqliteCheckpoint, other: SqliteCheckpoint, clock: FakeClock
) -> None:
    # The lease stands in the checkpoint by the wall clock. The one who stood by saw it run out,
    # while the holder, whose monotonic clock had not jumped, went on writing until its next
    # renewal: two writers.
    steady = FakeClock()
    first, second = Role(checkpoint, steady, clock), Role(other, steady, clock)
    await first.round()
    # only the wall clock, which the checkpoint goes by
    clock.now += CALL + SPARE_SECONDS + CALL + SETTLE
    await second.round()
    assert second.writer.holds
    assert (first.writer.holds, first.writer.may_send()) == (False, False)


async def test_whoever_waits_for_a_right_that_ran_out_unnoticed_waits(
    checkpoint: SqliteCheckpoint, clock: FakeClock
) -> None:
    # The lease ran out (a renewal hung, or the wall clock was set forward) and the loop that keeps
    # it had not had its turn: a poller that asked again and again without ever letting go stopped
    # the whole process.
    role = Role(checkpoint, clock)
    await role.round()
    clock.now += CALL + SPARE_SECONDS
    waiting = asyncio.create_task(role.writer.wait_held())
    await asyncio.sleep(0)
    assert not waiting.done()
    await role.round()  # renewed
    await waiting
    assert role.writer.holds


async def test_a_lease_given_back_to_a_checkpoint_that_does_not_work_is_told(
    checkpoint: SqliteCheckpoint, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The checkpoint was deleted while the daemon ran: its stop ended with a traceback.
    role = Role(checkpoint, clock)
    await role.round()

    async def fail(_lease: object) -> None:
        raise EdgeFault(Edge.CHECKPOINT, Reason.STORAGE, "the file is gone")

    monkeypatch.setattr(checkpoint, "release_writer_lease", fail)
    with structlog.testing.capture_logs() as logs:
        await role.writer.release()
    assert [(line["event"], line["detail"]) for line in logs] == [
        ("the right to write could not be given back", "the file is gone")
    ]
    assert not role.writer.holds


async def test_what_is_under_way_is_cut_off_when_another_has_taken_over(
    checkpoint: SqliteCheckpoint, other: SqliteCheckpoint, clock: FakeClock
) -> None:
    first, second = Role(checkpoint, clock), Role(other, clock)
    await first.round()
    clock.now += CALL + SPARE_SECONDS + CALL + SETTLE
    assert not first.writer.holds  # already before it has heard of it
    await second.round()
    assert second.writer.holds
    await first.round()
    assert (first.ended, first.writer.holds, first.changes[-1]) == (1, False, False)


async def test_a_lease_that_cannot_be_renewed_ends_by_itself(
    checkpoint: SqliteCheckpoint, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = Role(checkpoint, clock)
    await role.round()
    fault = EdgeFault(Edge.CHECKPOINT, Reason.STORAGE, "disk full")

    async def refuse(*_arguments: object) -> bool:
        raise fault

    monkeypatch.setattr(checkpoint, "renew_writer_lease", refuse)
    await role.round()
    assert (role.faults, role.writer.holds, role.ended) == ([fault], True, 0)
    clock.now += CALL + SPARE_SECONDS
    await role.round()
    assert (role.writer.holds, role.ended) == (False, 1)


async def test_a_lease_that_runs_out_is_told(
    checkpoint: SqliteCheckpoint, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = Role(checkpoint, clock)
    await role.round()

    async def refuse(*_arguments: object) -> bool:
        raise EdgeFault(Edge.CHECKPOINT, Reason.STORAGE, "disk full")

    monkeypatch.setattr(checkpoint, "renew_writer_lease", refuse)
    clock.now += CALL + SPARE_SECONDS
    with capture_logs() as logs:
        await role.round()
    [line] = log_lines(logs, "no longer the writer")
    assert (line["log_level"], line["writing_to"], line["why"]) == (
        "error",
        "modeldb:6543",
        "its lease has run out unrenewed",
    )


async def test_a_lease_that_cannot_be_given_back_is_told_and_keeps_nothing_from_closing(
    checkpoint: SqliteCheckpoint, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = Role(checkpoint, clock)
    await role.round()

    async def refuse(*_arguments: object) -> None:
        raise EdgeFault(Edge.CHECKPOINT, Reason.STORAGE, "disk full")

    monkeypatch.setattr(checkpoint, "release_writer_lease", refuse)
    with capture_logs() as logs:
        await role.writer.release()
    [line] = log_lines(logs, "the right to write could not be given back")
    assert (line["log_level"], line["writing_to"], line["detail"]) == (
        "warning",
        "modeldb:6543",
        "disk full",
    )
    assert not role.writer.holds


async def test_a_checkpoint_that_hangs_is_told_and_costs_the_lease(
    checkpoint: SqliteCheckpoint, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = Role(checkpoint, clock)
    await role.round()

    async def hang(*_arguments: object) -> bool:
        await asyncio.Event().wait()
        return False

    monkeypatch.setattr(checkpoint, "renew_writer_lease", hang)
    clock.now += CALL + SPARE_SECONDS - 1
    with capture_logs() as logs:
        waiting = asyncio.create_task(role.round())  # waits as long as the lease lasts: a second
        await asyncio.sleep(0)
        clock.now += 1
        await waiting
    assert [line["event"] for line in logs] == [
        "the checkpoint does not answer in time",
        "no longer the writer",
    ]
    assert role.ended == 1


async def test_a_writer_whose_lease_was_lost_to_a_clock_that_jumped_hears_of_it_at_its_next_renewal(
    checkpoint: SqliteCheckpoint, other: SqliteCheckpoint, clock: FakeClock
) -> None:
    """The checkpoint's leases are on the wall clock, for processes must agree on them; a writer
    measures its own with the other one.
    """
    monotonic = FakeClock()
    first, second = Role(checkpoint, monotonic), Role(other, monotonic)
    await first.round()
    await second.round()
    assert (first.writer.holds, second.writer.holds) == (True, False)
    clock.now += 3600
    await second.round()
    assert second.writer.holds
    with capture_logs() as logs:
        await first.round()
    assert (first.writer.holds, first.writer.may_send(), first.ended) == (False, False, 1)
    assert [line["why"] for line in log_lines(logs, "no longer the writer")] == [
        "another process has taken over"
    ]
