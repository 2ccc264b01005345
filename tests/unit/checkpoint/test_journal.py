"""The journal of one job's writes: counted before each create, and true over holds."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from daemon.checkpoint.journal import DOUBTFUL_WRITES, Journal
from daemon.checkpoint.lease_clock import LeaseClock, Moment
from daemon.checkpoint.ports import JobState, LeaseLost, NameLocked
from tests.support.checkpoint_calls import (
    ARN,
    LEASE,
    MARK,
    NAME,
    FakeClock,
    claimed,
    deferred,
    row,
    synced,
)

if TYPE_CHECKING:
    from daemon.checkpoint.ports import Claim, JobRecord
    from daemon.checkpoint.sqlite.store import SqliteCheckpoint


def journal_of(
    checkpoint: SqliteCheckpoint,
    claim: Claim,
    record: JobRecord | None = None,
    *,
    lock_patience_seconds: float | None = None,
    lease: LeaseClock | None = None,
    in_doubt: bool = False,
) -> Journal:
    return Journal(
        checkpoint,
        claim,
        MARK,
        NAME,
        record,
        look_up_first=False,
        lease_seconds=LEASE,
        lock_patience_seconds=lock_patience_seconds,
        lease=lease,
        in_doubt=in_doubt,
    )


async def test_a_write_is_counted_durably_before_it_begins(checkpoint: SqliteCheckpoint) -> None:
    journal = journal_of(checkpoint, await claimed(checkpoint))
    assert (journal.unanswered_writes, journal.write_under_way) == (0, False)
    await journal.begin_write("run/a")
    assert (journal.unanswered_writes, journal.write_under_way) == (1, True)
    record = await row(checkpoint)
    assert (record.state, record.unanswered_writes, record.target) == (
        JobState.WRITING,
        1,
        "modeldb-v2",
    )


async def test_an_answer_counts_for_this_process_and_the_row_stays_careful(
    checkpoint: SqliteCheckpoint,
) -> None:
    journal = journal_of(checkpoint, await claimed(checkpoint))
    await journal.begin_write("run/a")
    await journal.begin_write("run/b")
    journal.answered()
    assert (journal.unanswered_writes, journal.write_under_way) == (1, False)
    assert (await row(checkpoint)).unanswered_writes == 2


async def test_settled_accounts_for_all_writes(checkpoint: SqliteCheckpoint) -> None:
    journal = journal_of(checkpoint, await claimed(checkpoint))
    await journal.begin_write("run/a")
    await journal.begin_write("run/b")
    journal.settled()
    assert (journal.unanswered_writes, journal.write_under_way) == (0, False)


async def test_it_begins_with_what_the_checkpoint_knows(checkpoint: SqliteCheckpoint) -> None:
    claim = await claimed(checkpoint)
    await journal_of(checkpoint, claim).begin_write("run/a")
    assert journal_of(checkpoint, claim, await row(checkpoint)).unanswered_writes == 1


async def test_a_write_without_a_claim_is_not_begun(
    checkpoint: SqliteCheckpoint, clock: FakeClock
) -> None:
    journal = journal_of(checkpoint, await claimed(checkpoint))
    clock.now += LEASE + 1
    with pytest.raises(LeaseLost):
        await journal.begin_write("run/a")
    assert (journal.unanswered_writes, journal.write_under_way) == (0, False)
    assert await checkpoint.job(MARK) is None


async def test_another_attempt_knows_what_the_one_before_began_and_looks_first(
    checkpoint: SqliteCheckpoint,
) -> None:
    journal = journal_of(checkpoint, await claimed(checkpoint))
    journal.resume()
    assert not journal.look_up_first
    await journal.begin_write("run/a")
    journal.resume()
    assert (journal.unanswered_writes, journal.write_under_way, journal.look_up_first) == (
        1,
        False,
        True,
    )
    await journal.begin_write("run/a")
    assert journal.unanswered_writes == 2


async def test_it_counts_as_under_way_while_the_intent_is_written(
    checkpoint: SqliteCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    real = checkpoint.begin_write

    async def begin_write(*args: object, **kwargs: object) -> object:
        seen.append(journal.write_under_way)
        return await real(*args, **kwargs)  # type: ignore[arg-type] # passed on as they came

    monkeypatch.setattr(checkpoint, "begin_write", begin_write)
    journal = journal_of(checkpoint, await claimed(checkpoint))
    await journal.begin_write("run/a")
    assert seen == [True]


async def test_a_name_is_locked_for_one_job_at_a_time(checkpoint: SqliteCheckpoint) -> None:
    mine = journal_of(checkpoint, await claimed(checkpoint))
    other = journal_of(checkpoint, await claimed(checkpoint, f"{ARN}-2"), lock_patience_seconds=0)
    async with mine.name_lock("project/churn"):
        with pytest.raises(NameLocked):
            async with other.name_lock("project/churn"):
                pass
    async with other.name_lock("project/churn"):
        pass


async def test_a_lock_that_another_process_has_is_waited_for(
    checkpoint: SqliteCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two replicas met a project that was new to both: the slower one released its message for a
    # minute, which used up a receive.
    monkeypatch.setattr("daemon.checkpoint.journal.LOCK_RETRY_SECONDS", 0.0)
    mine, other = (
        journal_of(checkpoint, await claimed(checkpoint)),
        journal_of(checkpoint, await claimed(checkpoint, f"{ARN}-2")),
    )
    had: list[str] = []

    async def take(journal: Journal, name: str) -> None:
        async with journal.name_lock("project/churn"):
            had.append(name)

    async with mine.name_lock("project/churn"):
        waiting = asyncio.create_task(take(other, "other"))
        refused = asyncio.Event()
        real = checkpoint.lock_name

        async def lock_name(*args: Any) -> None:
            try:
                await real(*args)
            except NameLocked:
                refused.set()
                raise

        monkeypatch.setattr(checkpoint, "lock_name", lock_name)  # only watched
        await refused.wait()
        assert had == []
    await waiting
    assert had == ["other"]


async def test_a_lock_is_given_back_whatever_happens(checkpoint: SqliteCheckpoint) -> None:
    mine, other = (
        journal_of(checkpoint, await claimed(checkpoint)),
        journal_of(checkpoint, await claimed(checkpoint, f"{ARN}-2")),
    )
    with pytest.raises(asyncio.CancelledError):
        async with mine.name_lock("project/churn"):
            raise asyncio.CancelledError
    async with other.name_lock("project/churn"):
        pass


async def test_steps_are_durable_add_up_and_end_with_the_job(checkpoint: SqliteCheckpoint) -> None:
    claim = await claimed(checkpoint)
    journal = journal_of(checkpoint, claim)
    assert journal.steps == {}
    await journal.begin_write("run/a")
    await journal.note_steps({"run_id": "7", "fit": "begun"})
    await journal.note_steps({"fit": "done"})
    assert journal.steps == {"run_id": "7", "fit": "done"}
    record = await row(checkpoint)
    assert record.steps == journal.steps
    assert journal_of(checkpoint, claim, record).steps == journal.steps
    await synced(checkpoint, claim)
    assert (await row(checkpoint)).steps == {}


async def test_steps_outlive_a_deferral_and_the_next_write(checkpoint: SqliteCheckpoint) -> None:
    journal = journal_of(checkpoint, await claimed(checkpoint))
    await journal.begin_write("run/a")
    await journal.note_steps({"run_id": "7"})
    await deferred(checkpoint, journal.claim, unanswered_writes=1)
    claim = await claimed(checkpoint)
    await journal_of(checkpoint, claim, await row(checkpoint)).begin_write("run/a")
    assert (await row(checkpoint)).steps == {"run_id": "7"}


async def test_no_step_is_noted_without_the_claim(
    checkpoint: SqliteCheckpoint, clock: FakeClock
) -> None:
    journal = journal_of(checkpoint, await claimed(checkpoint))
    await journal.begin_write("run/a")
    clock.now += LEASE
    with pytest.raises(LeaseLost):
        await journal.note_steps({"run_id": "7"})
    assert (journal.steps, (await row(checkpoint)).steps) == ({}, {})


# A process that is paused
# ---


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Both clocks of this process."""
    now = SimpleNamespace(monotonic=1000.0, wall=1_800_000_000.0)
    monkeypatch.setattr("daemon.checkpoint.lease_clock.monotonic", lambda: now.monotonic)
    monkeypatch.setattr("daemon.checkpoint.lease_clock.wall", lambda: now.wall)
    return now


@pytest.mark.parametrize("clock", ["monotonic", "wall"])
@pytest.mark.parametrize(
    ("seconds", "answered"), [(0.0, True), (59.9, True), (60.0, False), (3600.0, False)]
)
async def test_an_answer_counts_while_the_lease_lasts_by_both_clocks(
    checkpoint: SqliteCheckpoint,
    moments: SimpleNamespace,
    clock: str,
    seconds: float,
    answered: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    lease = LeaseClock(Moment.now(), 60.0)
    journal = journal_of(checkpoint, await claimed(checkpoint), lease=lease)
    await journal.begin_write("run/churn-1")
    setattr(moments, clock, getattr(moments, clock) + seconds)
    with contextlib.nullcontext() if answered else pytest.raises(LeaseLost):
        journal.answered()
    assert (journal.unanswered_writes, journal.in_doubt) == ((0, False) if answered else (1, True))
    assert not journal.write_under_way


async def test_a_renewal_proves_that_nobody_else_had_the_claim(
    checkpoint: SqliteCheckpoint, moments: SimpleNamespace
) -> None:
    lease = LeaseClock(Moment.now(), 60.0)
    journal = journal_of(checkpoint, await claimed(checkpoint), lease=lease)
    await journal.begin_write("run/churn-1")
    moments.monotonic += 600.0
    lease.extend(Moment.now(), 60.0)
    journal.answered()
    assert (journal.unanswered_writes, journal.in_doubt) == (0, False)


async def test_nothing_is_sent_after_a_pause_and_nothing_is_in_doubt(
    checkpoint: SqliteCheckpoint, moments: SimpleNamespace
) -> None:
    journal = journal_of(
        checkpoint, await claimed(checkpoint), lease=LeaseClock(Moment.now(), 60.0)
    )
    await journal.begin_write("run/churn-1")
    journal.require_lease()
    moments.wall += 60.0
    with pytest.raises(LeaseLost):
        journal.require_lease()
    assert (journal.unanswered_writes, journal.in_doubt) == (0, False)


async def test_a_doubt_stays_until_it_is_settled(checkpoint: SqliteCheckpoint) -> None:
    journal = journal_of(checkpoint, await claimed(checkpoint), in_doubt=True)
    assert (journal.unanswered_writes, journal.look_up_first) == (DOUBTFUL_WRITES, True)
    await journal.begin_write("run/churn-1")
    journal.answered()
    assert journal.in_doubt
    journal.settled()
    assert (journal.unanswered_writes, journal.in_doubt) == (0, False)


async def test_a_step_that_the_store_refuses_ends_the_lease(
    checkpoint: SqliteCheckpoint, moments: SimpleNamespace
) -> None:
    journal = journal_of(
        checkpoint, await claimed(checkpoint), lease=LeaseClock(Moment.now(), 60.0)
    )
    await journal.begin_write("run/churn-1")
    await checkpoint.release(journal.claim)
    with pytest.raises(LeaseLost):
        await journal.note_steps({"run_id": "17"})
    assert journal.in_doubt
    del moments


async def test_a_claim_that_is_taken_again_is_another_lease_although_its_fence_is_the_same(
    checkpoint: SqliteCheckpoint,
) -> None:
    claim = await claimed(checkpoint)
    ended, newer = LeaseClock(Moment.now(), 60.0), LeaseClock(Moment.now(), 60.0)
    journal = journal_of(checkpoint, claim, lease=ended)
    assert journal.is_under(claim, ended)
    assert not journal.is_under(claim, newer)
    assert not journal.is_under(None, ended)
