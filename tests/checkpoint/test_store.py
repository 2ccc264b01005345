"""What every store does: claims, name locks, and the rows of jobs and messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.ports import ClaimedElsewhere, HistoryFilter, JobState, LeaseLost, NameLocked
from daemon.reasons import Reason
from daemon.training_job.identity import JobMark
from tests.support.checkpoint_calls import (
    ARN,
    LEASE,
    MARK,
    NAME,
    FakeClock,
    arn_of,
    begin,
    claimed,
    deferred,
    mark_of,
    rejected,
    row,
    skipped,
    synced,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from daemon.checkpoint.ports import Checkpoint
    from tests.support.checkpoint_kinds import Start


class TestClaims:
    async def test_a_job_is_claimed_by_one_owner_only(self, start: Start) -> None:
        ours, theirs = await start(), await start()
        claim = await claimed(ours)

        answer = await theirs.claim(ARN, LEASE)

        assert answer == ClaimedElsewhere(claim.owner, LEASE)

    async def test_the_case_of_an_arn_does_not_matter(self, start: Start) -> None:
        ours, theirs = await start(), await start()
        claim = await claimed(ours, ARN.replace("churn", "Churn"))

        assert claim.job_arn == ARN
        assert isinstance(await theirs.claim(ARN, LEASE), ClaimedElsewhere)

    async def test_a_released_job_can_be_claimed_by_another(self, start: Start) -> None:
        ours, theirs = await start(), await start()
        first = await claimed(ours)
        await ours.release(first)

        second = await claimed(theirs)

        assert second.fence > first.fence
        assert second.owner != first.owner

    async def test_releasing_twice_or_late_takes_nothing_from_the_next_holder(
        self, start: Start
    ) -> None:
        ours, theirs = await start(), await start()
        first = await claimed(ours)
        await ours.release(first)
        await claimed(theirs)

        await ours.release(first)

        assert isinstance(await ours.claim(ARN, LEASE), ClaimedElsewhere)

    async def test_claiming_again_prolongs_the_same_claim(
        self, start: Start, clock: FakeClock
    ) -> None:
        ours, theirs = await start(), await start()
        first = await claimed(ours)
        clock.now += LEASE - 1

        assert await claimed(ours) == first
        clock.now += LEASE - 1
        assert isinstance(await theirs.claim(ARN, LEASE), ClaimedElsewhere)

    async def test_a_lease_that_ran_out_can_be_taken_although_its_owner_lives(
        self, start: Start, clock: FakeClock
    ) -> None:
        ours, theirs = await start(), await start()
        first = await claimed(ours)
        clock.now += LEASE

        second = await claimed(theirs)

        assert second.fence > first.fence
        assert await ours.renew([first], LEASE) == [first]

    async def test_renewing_keeps_what_is_held_and_names_what_is_lost(
        self, start: Start, clock: FakeClock
    ) -> None:
        ours, theirs = await start(), await start()
        kept, released = await claimed(ours, arn_of(1)), await claimed(ours, arn_of(2))
        await ours.release(released)
        clock.now += LEASE - 1

        assert await ours.renew([kept, released], LEASE) == [released]

        clock.now += LEASE - 1
        assert isinstance(await theirs.claim(kept.job_arn, LEASE), ClaimedElsewhere)

    async def test_a_lease_that_ran_out_is_renewed_while_nobody_took_the_job(
        self, checkpoint: Checkpoint, clock: FakeClock
    ) -> None:
        claim = await claimed(checkpoint)
        clock.now += LEASE + 1

        assert await checkpoint.renew([claim], LEASE) == []

        await begin(checkpoint, claim)

    async def test_fences_grow_over_releases_and_restarts(self, start: Start) -> None:
        fences = []
        for _ in range(3):
            checkpoint = await start()
            for _ in range(2):
                claim = await claimed(checkpoint)
                fences.append(claim.fence)
                await checkpoint.release(claim)
            await checkpoint.aclose()

        assert fences == sorted(set(fences))

    async def test_closing_gives_claims_and_locks_back(self, start: Start) -> None:
        ours, theirs = await start(), await start()
        await ours.lock_name(await claimed(ours), "project/churn", LEASE)

        await ours.aclose()

        await theirs.lock_name(await claimed(theirs), "project/churn", LEASE)


class TestNameLocks:
    async def test_a_name_is_locked_for_every_other_claim_of_any_process(
        self, start: Start, clock: FakeClock
    ) -> None:
        ours, theirs = await start(), await start()
        await ours.lock_name(await claimed(ours, arn_of(1)), "project/churn", 20)
        clock.now += 5

        for other, arn in ((ours, arn_of(2)), (theirs, arn_of(3))):
            with pytest.raises(NameLocked) as caught:
                await other.lock_name(await claimed(other, arn), "project/churn", 20)
            assert caught.value.delay_seconds == 15

    async def test_a_lock_is_free_after_unlock_and_only_its_holder_unlocks(
        self, start: Start
    ) -> None:
        ours, theirs = await start(), await start()
        claim, other = await claimed(ours, arn_of(1)), await claimed(theirs, arn_of(2))
        await ours.lock_name(claim, "project/churn", 20)

        await theirs.unlock_name(other, "project/churn")
        with pytest.raises(NameLocked):
            await theirs.lock_name(other, "project/churn", 20)
        await ours.unlock_name(claim, "project/churn")
        await theirs.lock_name(other, "project/churn", 20)

    async def test_renewing_a_claim_prolongs_its_locks(
        self, start: Start, clock: FakeClock
    ) -> None:
        ours, theirs = await start(), await start()
        claim, other = await claimed(ours, arn_of(1)), await claimed(theirs, arn_of(2))
        await ours.lock_name(claim, "project/churn", LEASE)
        clock.now += LEASE - 1
        await ours.renew([claim], LEASE)
        await theirs.renew([other], LEASE)
        clock.now += LEASE - 1

        with pytest.raises(NameLocked):
            await theirs.lock_name(other, "project/churn", LEASE)

    async def test_a_lost_claim_locks_nothing(
        self, checkpoint: Checkpoint, clock: FakeClock
    ) -> None:
        released = await claimed(checkpoint, arn_of(1))
        await checkpoint.release(released)
        expired = await claimed(checkpoint, arn_of(2))
        clock.now += LEASE

        for claim in (released, expired):
            with pytest.raises(LeaseLost):
                await checkpoint.lock_name(claim, "project/churn", LEASE)

    @pytest.mark.parametrize("finish", [synced, skipped, rejected, deferred])
    async def test_every_record_ends_the_claim_and_its_locks(
        self, start: Start, finish: Callable[..., Awaitable[None]]
    ) -> None:
        ours, theirs = await start(), await start()
        claim = await claimed(ours)
        await ours.lock_name(claim, "project/churn", LEASE)
        await begin(ours, claim)

        await finish(ours, claim)

        successor = await claimed(theirs)
        await theirs.lock_name(successor, "project/churn", LEASE)
        await theirs.lock_name(successor, "run/churn", LEASE)
        await theirs.release(successor)


class TestBeginWrite:
    async def test_it_leaves_a_row_that_says_writing(
        self, checkpoint: Checkpoint, clock: FakeClock
    ) -> None:
        assert await checkpoint.job(MARK) is None

        record = await begin(checkpoint, await claimed(checkpoint))

        assert record == await checkpoint.job(MARK)
        assert (record.job_arn, record.creation_time, record.job_name) == (
            ARN,
            MARK.creation_time,
            NAME,
        )
        assert (record.state, record.reason, record.unanswered_writes) == (JobState.WRITING, "", 1)
        assert (record.target, record.target_ids, record.attempts) == ("modeldb-v2", {}, 0)
        assert (record.first_seen_at, record.updated_at) == (clock.now, clock.now)

    async def test_the_row_outlives_a_process_that_stops(self, start: Start) -> None:
        first = await start()
        await begin(first, await claimed(first))
        await first.aclose()
        second = await start()

        record = await row(second)

        assert (record.state, record.unanswered_writes) == (JobState.WRITING, 1)

    async def test_it_is_refused_once_the_lease_ran_out_even_if_nobody_took_the_job(
        self, checkpoint: Checkpoint, clock: FakeClock
    ) -> None:
        claim = await claimed(checkpoint)
        clock.now += LEASE

        with pytest.raises(LeaseLost):
            await begin(checkpoint, claim)

        assert await checkpoint.job(MARK) is None

    async def test_it_is_refused_to_a_former_holder(self, start: Start, clock: FakeClock) -> None:
        ours, theirs = await start(), await start()
        former = await claimed(ours)
        clock.now += LEASE
        await claimed(theirs)

        with pytest.raises(LeaseLost) as caught:
            await begin(ours, former)

        assert caught.value.reason is Reason.LEASE_LOST
        assert await ours.job(MARK) is None

    async def test_a_locked_name_changes_nothing(self, start: Start) -> None:
        ours, theirs = await start(), await start()
        await ours.lock_name(await claimed(ours, arn_of(1)), "run/churn", LEASE)
        claim = await claimed(theirs)

        with pytest.raises(NameLocked) as caught:
            await begin(theirs, claim)

        assert caught.value.reason is Reason.NAME_LOCKED
        assert await theirs.job(MARK) is None
        await begin(theirs, claim, lock_name="run/another")

    async def test_its_lock_lasts_as_long_as_the_claim(
        self, start: Start, clock: FakeClock
    ) -> None:
        ours, theirs = await start(), await start()
        await begin(ours, await claimed(ours, arn_of(1)), mark_of(1))
        clock.now += LEASE - 1
        other = await claimed(theirs, arn_of(2))

        with pytest.raises(NameLocked) as caught:
            await begin(theirs, other, mark_of(2))
        assert caught.value.delay_seconds == 1

        clock.now += 1
        await begin(theirs, other, mark_of(2))


class TestSynced:
    async def test_the_row_is_done_with_the_ids_of_the_target(
        self, checkpoint: Checkpoint, clock: FakeClock
    ) -> None:
        claim = await claimed(checkpoint)
        began_at = clock.now
        await begin(checkpoint, claim)
        clock.now += 3

        await synced(checkpoint, claim)

        record = await row(checkpoint)
        assert (record.state, record.reason, record.unanswered_writes) == (
            JobState.SYNCED,
            "created",
            0,
        )
        assert (record.target, record.target_ids, record.message_id) == (
            "modeldb-v2",
            {"run_id": "r-1"},
            "m-1",
        )
        assert (record.first_seen_at, record.updated_at) == (began_at, clock.now)

    async def test_a_run_is_a_fact_even_after_the_lease_while_nobody_took_the_job(
        self, checkpoint: Checkpoint, clock: FakeClock
    ) -> None:
        claim = await claimed(checkpoint)
        await begin(checkpoint, claim)
        clock.now += LEASE + 1

        await synced(checkpoint, claim)

        assert (await row(checkpoint)).state is JobState.SYNCED

    async def test_a_former_holder_is_content_when_the_next_one_has_synced_the_job(
        self, start: Start, clock: FakeClock
    ) -> None:
        ours, theirs = await start(), await start()
        former = await claimed(ours)
        clock.now += LEASE
        await synced(theirs, await claimed(theirs), run_id="r-theirs")

        await synced(ours, former, run_id="r-ours")

        assert (await row(ours)).target_ids == {"run_id": "r-theirs"}

    async def test_two_jobs_of_one_name_have_a_row_each(self, checkpoint: Checkpoint) -> None:
        later = JobMark(ARN, "2026-02-01T00:00:00.000Z")
        await synced(checkpoint, await claimed(checkpoint))
        assert await checkpoint.job(later) is None

        await skipped(checkpoint, await claimed(checkpoint), later)

        assert (await row(checkpoint)).state is JobState.SYNCED
        assert (await row(checkpoint, later)).state is JobState.SKIPPED


class TestSkipped:
    async def test_a_job_without_the_tag_is_skipped_and_a_later_event_may_sync_it(
        self, checkpoint: Checkpoint
    ) -> None:
        await skipped(checkpoint, await claimed(checkpoint))
        record = await row(checkpoint)
        assert (record.state, record.reason, record.message_id) == (
            JobState.SKIPPED,
            "not_tagged",
            "m-4",
        )

        await synced(checkpoint, await claimed(checkpoint))

        assert (await row(checkpoint)).state is JobState.SYNCED


class TestDeferred:
    async def test_attempts_are_counted_with_the_last_reason(
        self, checkpoint: Checkpoint, clock: FakeClock
    ) -> None:
        first_seen_at = clock.now
        for _ in range(3):
            await deferred(checkpoint, await claimed(checkpoint))
            clock.now += 10

        record = await row(checkpoint)
        assert (record.state, record.reason, record.detail) == (
            JobState.RELEASED,
            "target_fault",
            "503",
        )
        assert (record.attempts, record.first_seen_at, record.message_id) == (
            3,
            first_seen_at,
            "m-2",
        )

    async def test_before_it_was_described_a_job_has_a_row_without_creation_time(
        self, checkpoint: Checkpoint
    ) -> None:
        await deferred(checkpoint, await claimed(checkpoint), None)

        (record,) = await checkpoint.history(HistoryFilter())

        assert (record.creation_time, record.attempts, record.state) == ("", 1, JobState.RELEASED)
        assert await checkpoint.job(MARK) is None

    @pytest.mark.parametrize("finish", [begin, synced, skipped, rejected, deferred])
    async def test_that_row_goes_into_the_real_one_once_the_mark_is_known(
        self,
        checkpoint: Checkpoint,
        clock: FakeClock,
        finish: Callable[..., Awaitable[object]],
    ) -> None:
        first_seen_at = clock.now
        await deferred(checkpoint, await claimed(checkpoint), None)
        await deferred(checkpoint, await claimed(checkpoint), None)
        clock.now += 10

        await finish(checkpoint, await claimed(checkpoint), MARK)

        (record,) = await checkpoint.history(HistoryFilter())
        assert (record.creation_time, record.first_seen_at) == (MARK.creation_time, first_seen_at)
        assert record.attempts == (3 if finish is deferred else 2)

    async def test_what_is_known_of_unanswered_writes_is_recorded(
        self, checkpoint: Checkpoint
    ) -> None:
        claim = await claimed(checkpoint)
        await begin(checkpoint, claim)
        await begin(checkpoint, claim)
        await deferred(checkpoint, claim, unanswered_writes=1)
        record = await row(checkpoint)
        assert (record.state, record.unanswered_writes) == (JobState.WRITING, 1)

        await rejected(checkpoint, await claimed(checkpoint), unanswered_writes=0)
        record = await row(checkpoint)
        assert (record.state, record.unanswered_writes) == (JobState.REJECTED, 0)

    @pytest.mark.parametrize("finish", [skipped, rejected, deferred])
    async def test_a_synced_job_stays_as_it_is_and_the_claim_ends(
        self, start: Start, finish: Callable[..., Awaitable[None]]
    ) -> None:
        ours, theirs = await start(), await start()
        await synced(ours, await claimed(ours))
        before = await row(ours)

        await finish(ours, await claimed(ours))

        assert await row(ours) == before
        messages = [message.message_id for message in await ours.rejected_messages()]
        assert messages == (["m-3"] if finish is rejected else [])
        await claimed(theirs)


class TestRejected:
    async def test_the_row_of_the_job_and_that_of_the_message(
        self, checkpoint: Checkpoint, clock: FakeClock
    ) -> None:
        await rejected(checkpoint, await claimed(checkpoint))

        record = await row(checkpoint)
        (message,) = await checkpoint.rejected_messages()
        assert (record.state, record.reason, record.detail) == (
            JobState.REJECTED,
            "tags_incomplete",
            "no MODEL_DB_MODEL_NAME",
        )
        assert (message.message_id, message.job_arn, message.rejected_at) == ("m-3", ARN, clock.now)
        assert (message.reason, message.detail, message.body) == (
            "tags_incomplete",
            "no MODEL_DB_MODEL_NAME",
            None,
        )

    async def test_a_message_that_names_no_job_has_a_row_of_its_own_only(
        self, checkpoint: Checkpoint
    ) -> None:
        await rejected(checkpoint, None, None, job_arn="")

        assert await checkpoint.history(HistoryFilter()) == []
        (message,) = await checkpoint.rejected_messages()
        assert message.job_arn == ""

    async def test_a_job_that_was_never_described_has_a_row_that_stays(
        self, checkpoint: Checkpoint
    ) -> None:
        await rejected(
            checkpoint, await claimed(checkpoint), None, job_arn=ARN.replace("churn", "Churn")
        )
        await synced(checkpoint, await claimed(checkpoint))

        by_time = {
            record.creation_time: record.state
            for record in await checkpoint.history(HistoryFilter())
        }
        (message,) = await checkpoint.rejected_messages()

        assert by_time == {"": JobState.REJECTED, MARK.creation_time: JobState.SYNCED}
        assert message.job_arn == ARN

    async def test_a_body_is_kept_and_survives_a_second_rejection(
        self, checkpoint: Checkpoint
    ) -> None:
        await rejected(checkpoint, None, None, job_arn="")

        await checkpoint.keep_body("m-3", '{"detail": ')
        await rejected(checkpoint, None, None, job_arn="")

        (message,) = await checkpoint.rejected_messages()
        assert (message.body, message.reason) == ('{"detail": ', "tags_incomplete")

    async def test_text_that_is_no_unicode_is_kept_as_its_escape(
        self, checkpoint: Checkpoint
    ) -> None:
        await rejected(checkpoint, None, None, job_arn="")
        await checkpoint.keep_body("m-3", "a\ud800b\0c")
        await deferred(checkpoint, await claimed(checkpoint), detail="\udfff")

        (message,) = await checkpoint.rejected_messages()
        assert message.body == "a\\ud800b\0c"
        assert (await row(checkpoint)).detail == "\\udfff"

    @pytest.mark.parametrize("finish", [skipped, rejected, deferred])
    @pytest.mark.parametrize("taken", [True, False])
    async def test_records_of_a_lost_claim_change_nothing(
        self, start: Start, clock: FakeClock, finish: Callable[..., Awaitable[None]], *, taken: bool
    ) -> None:
        ours, theirs = await start(), await start()
        claim = await claimed(ours)
        clock.now += LEASE
        if taken:
            await claimed(theirs)

        with pytest.raises(LeaseLost):
            await finish(ours, claim)

        assert await ours.history(HistoryFilter()) == []
        assert await ours.rejected_messages() == []


class TestLookingBack:
    async def fill(self, checkpoint: Checkpoint, clock: FakeClock) -> None:
        """One job per state, a minute between them."""
        for number, finish in enumerate((synced, skipped, rejected, deferred)):
            await finish(checkpoint, await claimed(checkpoint, arn_of(number)), mark_of(number))
            clock.now += 60
        await begin(checkpoint, await claimed(checkpoint, arn_of(4)), mark_of(4))
        clock.now += 60

    async def test_history_is_newest_first_and_limited(
        self, checkpoint: Checkpoint, clock: FakeClock
    ) -> None:
        await self.fill(checkpoint, clock)

        arns = [record.job_arn for record in await checkpoint.history(HistoryFilter(limit=3))]

        assert arns == [arn_of(4), arn_of(3), arn_of(2)]

    @pytest.mark.parametrize(
        ("wanted", "numbers"),
        [
            (HistoryFilter(states=[JobState.SYNCED, JobState.WRITING]), [4, 0]),
            (HistoryFilter(job="JOB-2"), [2]),
            (HistoryFilter(job="training-job/JOB"), [4, 3, 2, 1, 0]),
            (HistoryFilter(job="%"), []),
            (HistoryFilter(job="job-2", states=[JobState.SYNCED]), []),
        ],
    )
    async def test_history_is_narrowed_by_every_member_given(
        self,
        checkpoint: Checkpoint,
        clock: FakeClock,
        wanted: HistoryFilter,
        numbers: list[int],
    ) -> None:
        await self.fill(checkpoint, clock)

        assert [record.job_arn for record in await checkpoint.history(wanted)] == [
            arn_of(number) for number in numbers
        ]

    async def test_described_rows_have_a_creation_time_and_the_newest_job_comes_first(
        self, checkpoint: Checkpoint, clock: FakeClock
    ) -> None:
        await self.fill(checkpoint, clock)
        older, newer = (
            JobMark(ARN, "2025-11-20T08:40:00.050Z"),
            JobMark(ARN, "2025-11-20T09:00:00.000Z"),
        )
        done, undescribed = JobMark(ARN, "2025-11-20T10:00:00.000Z"), None
        for mark in (newer, older):
            await begin(checkpoint, await claimed(checkpoint), mark)
        await rejected(checkpoint, await claimed(checkpoint), newer)
        await synced(checkpoint, await claimed(checkpoint), done)
        await rejected(checkpoint, await claimed(checkpoint), undescribed)

        described = await checkpoint.described(ARN.upper())

        assert [(record.creation_time, record.state) for record in described] == [
            (done.creation_time, JobState.SYNCED),
            (newer.creation_time, JobState.REJECTED),
            (older.creation_time, JobState.WRITING),
        ]
        assert await checkpoint.described(arn_of(99)) == []

    async def test_rejected_messages_are_newest_first_and_limited(
        self, checkpoint: Checkpoint, clock: FakeClock
    ) -> None:
        for number in range(3):
            await rejected(checkpoint, None, None, job_arn="", message_id=f"m-{number}")
            clock.now += 1

        assert [message.message_id for message in await checkpoint.rejected_messages(2)] == [
            "m-2",
            "m-1",
        ]

    async def test_counts_name_every_state(self, checkpoint: Checkpoint, clock: FakeClock) -> None:
        assert await checkpoint.row_counts() == dict.fromkeys(map(str, JobState), 0)

        await self.fill(checkpoint, clock)

        assert await checkpoint.row_counts() == {
            **dict.fromkeys(map(str, JobState), 1),
            "enqueued": 0,
        }

    async def test_pruning_removes_what_is_old_but_never_what_is_being_written(
        self, checkpoint: Checkpoint, clock: FakeClock
    ) -> None:
        await self.fill(checkpoint, clock)
        await synced(checkpoint, await claimed(checkpoint, arn_of(7)), mark_of(7))

        # synced, skipped, rejected and its message, released
        assert await checkpoint.prune(clock.now) == 5

        states = [record.state for record in await checkpoint.history(HistoryFilter())]
        assert states == [JobState.SYNCED, JobState.WRITING]
        assert await checkpoint.rejected_messages() == []
