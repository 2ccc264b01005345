"""What the operations (reconcile, backfill, sync, dead letters) keep in every store."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.ports import (
    Claim,
    ClaimedElsewhere,
    EnqueuedJob,
    HistoryFilter,
    JobState,
    WatchedJob,
)
from daemon.story import StoryEvent
from daemon.targets.place import TargetPlace
from tests.support.checkpoint_calls import (
    ARN,
    LEASE,
    MARK,
    NAME,
    TARGET,
    FakeClock,
    arn_of,
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
    from tests.support.checkpoint_kinds import OpenFor, Start

ENQUEUED = EnqueuedJob(ARN, MARK.creation_time, NAME, "backfill", None, "m-9")


class TestEnqueued:
    async def test_a_job_is_enqueued_with_its_time_message_and_story(
        self, checkpoint: Checkpoint, clock: FakeClock
    ) -> None:
        await deferred(checkpoint, await claimed(checkpoint))
        known = replace(ENQUEUED, row_changed_at=(await row(checkpoint)).updated_at)
        clock.now += 100
        other = replace(ENQUEUED, job_arn=arn_of(2).upper(), by="reconcile")
        await checkpoint.record_enqueued([known, other])
        record = await row(checkpoint)
        assert (record.state, record.reason, record.message_id) == (JobState.ENQUEUED, "", "m-9")
        assert (record.attempts, record.updated_at) == (1, clock.now)
        assert record.detail == "sent to the queue by backfill"
        assert (await row(checkpoint, mark_of(2))).state is JobState.ENQUEUED
        (told,) = await checkpoint.story(arn_of(2))
        assert (told.at, told.what, told.message_id, told.detail) == (
            clock.now,
            StoryEvent.ENQUEUED,
            "m-9",
            "by reconcile",
        )

    async def test_what_is_synced_or_being_written_stays_on_record(
        self, checkpoint: Checkpoint
    ) -> None:
        await synced(checkpoint, await claimed(checkpoint))
        await begin(checkpoint, await claimed(checkpoint, arn_of(2)), mark_of(2))
        before = [await row(checkpoint), await row(checkpoint, mark_of(2))]
        await checkpoint.record_enqueued(
            [
                replace(ENQUEUED, job_arn=each.job_arn, row_changed_at=each.updated_at)
                for each in before
            ]
        )
        assert [await row(checkpoint), await row(checkpoint, mark_of(2))] == before
        assert len(await checkpoint.history(HistoryFilter())) == 2

    async def test_what_has_come_of_the_message_meanwhile_stays_on_record(
        self, checkpoint: Checkpoint, clock: FakeClock
    ) -> None:
        clock.now += 1
        await rejected(checkpoint, await claimed(checkpoint))
        before = await row(checkpoint)
        await checkpoint.record_enqueued([ENQUEUED])  # there was no row before the send
        assert await row(checkpoint) == before
        clock.now += 1
        await checkpoint.record_enqueued([replace(ENQUEUED, row_changed_at=before.updated_at)])
        assert (await row(checkpoint)).state is JobState.ENQUEUED

    async def test_a_list_that_rounds_the_creation_time_differently_makes_no_second_row(
        self, checkpoint: Checkpoint
    ) -> None:
        listed = replace(ENQUEUED, creation_time=f"{MARK.creation_time[:-4]}000Z")
        assert listed.creation_time != MARK.creation_time
        await checkpoint.record_enqueued([listed])
        await rejected(checkpoint, await claimed(checkpoint))
        (record,) = await checkpoint.history(HistoryFilter())
        assert (record.creation_time, record.state) == (MARK.creation_time, JobState.REJECTED)

        await checkpoint.record_enqueued([replace(listed, row_changed_at=record.updated_at)])
        (record,) = await checkpoint.history(HistoryFilter())
        assert (record.creation_time, record.state) == (MARK.creation_time, JobState.ENQUEUED)

    async def test_a_write_to_another_place_without_an_answer_stays_known(
        self, open_for: OpenFor, clock: FakeClock
    ) -> None:
        there = await open_for(TargetPlace(TARGET.kind, "http://other"))
        await begin(there, await claimed(there))
        here = await open_for(TARGET)
        await here.record_enqueued([ENQUEUED])
        assert (await row(here)).unanswered_writes == 1


async def test_a_claim_may_be_on_an_operation(start: Start, clock: FakeClock) -> None:
    ours, theirs = await start(), await start()
    claim = await ours.claim("operation:reconcile", LEASE)
    assert isinstance(claim, Claim)
    assert isinstance(await theirs.claim("operation:reconcile", LEASE), ClaimedElsewhere)
    await ours.put_note("reconcile", "2025", claim)
    assert await theirs.note("reconcile") == "2025"
    await ours.release(claim)
    assert isinstance(await theirs.claim("operation:reconcile", LEASE), Claim)
    await theirs.put_note("reconcile", None)
    assert await ours.note("reconcile") is None


async def test_notes_are_found_by_the_beginning_of_their_name(start: Start) -> None:
    ours, theirs = await start(), await start()
    for name in ("replica:b", "replica:a", "replica", "reconcile", "replica_x"):
        await ours.put_note(name, name.upper())
    assert await theirs.notes("replica:") == {"replica:a": "REPLICA:A", "replica:b": "REPLICA:B"}
    assert await theirs.notes("REPLICA:") == {}
    assert len(await theirs.notes("")) == 5


async def test_the_watch_list_gives_what_is_due_and_remembers_the_first_sight(
    checkpoint: Checkpoint,
) -> None:
    jobs = [WatchedJob(arn_of(n), MARK.creation_time, f"job-{n}", 10.0, 100.0 - n) for n in (1, 2)]
    await checkpoint.watch(jobs)
    assert await checkpoint.watched(10, not_after=98.5) == [jobs[1]]
    assert await checkpoint.watched(1, not_after=200.0) == [jobs[1]]
    later = replace(jobs[1], job_arn=arn_of(2).upper(), first_seen_at=50.0, look_again_at=300.0)
    await checkpoint.watch([later])
    assert await checkpoint.watching(arn_of(2)) == [replace(jobs[1], look_again_at=300.0)]
    assert await checkpoint.watched(10, not_after=200.0) == [jobs[0]]
    await checkpoint.unwatch([arn_of(1).upper()])
    assert await checkpoint.watched(10, not_after=900.0) == [replace(jobs[1], look_again_at=300.0)]


class TestRequests:
    async def test_a_request_is_taken_once_and_answered_once(
        self, start: Start, clock: FakeClock
    ) -> None:
        asker, ours, theirs = await start(), await start(), await start()
        asked = await asker.ask("churn", force=True)
        clock.now += 1
        later = await asker.ask("fraud", force=False)
        taken = await ours.take_request(lease_seconds=60)
        assert taken is not None
        assert (taken.request_id, taken.job, taken.force) == (asked.request_id, "churn", True)
        second = await theirs.take_request(lease_seconds=60)
        assert second is not None
        assert second.request_id == later.request_id
        assert await theirs.take_request(lease_seconds=60) is None

        assert not await theirs.answer_request(asked.request_id, "{}")
        clock.now += 100  # after the lease, and nobody else took it
        assert await ours.answer_request(asked.request_id, '{"outcome": "synced"}')
        assert not await ours.answer_request(asked.request_id, "{}")
        answered = await asker.request(asked.request_id)
        assert answered is not None
        assert (answered.taken_by, answered.answer) == (taken.taken_by, '{"outcome": "synced"}')
        assert [each.request_id for each in await asker.requests_about("CHURN")] == [
            asked.request_id
        ]

    async def test_a_request_is_taken_over_after_its_lease(
        self, start: Start, clock: FakeClock
    ) -> None:
        ours, theirs = await start(), await start()
        asked = await ours.ask("churn", force=False)
        assert await ours.take_request(lease_seconds=60) is not None
        clock.now += 59
        assert await theirs.take_request(lease_seconds=60) is None
        clock.now += 1
        assert await theirs.take_request(lease_seconds=60) is not None
        assert not await ours.answer_request(asked.request_id, "{}")

    async def test_a_request_is_taken_over_from_a_process_that_has_ended(
        self, start: Start
    ) -> None:
        ours, theirs = await start(), await start()
        await theirs.ask("churn", force=False)
        assert await ours.take_request(lease_seconds=6000) is not None
        await ours.aclose()
        assert await theirs.take_request(lease_seconds=60) is not None

    async def test_only_what_nobody_has_begun_is_withdrawn(self, start: Start) -> None:
        asker, ours = await start(), await start()
        asked = await asker.ask("churn", force=False)
        assert await asker.withdraw(asked.request_id)
        assert await asker.request(asked.request_id) is None

        taken = await asker.ask("churn", force=False)
        assert await ours.take_request(lease_seconds=60) is not None
        assert await asker.withdraw(taken.request_id)
        assert not await ours.renew_request(taken.request_id, lease_seconds=60, begun=True)

        begun = await asker.ask("churn", force=False)
        assert await ours.take_request(lease_seconds=60) is not None
        assert await ours.renew_request(begun.request_id, lease_seconds=60, begun=True)
        assert not await asker.withdraw(begun.request_id)
        assert not await asker.withdraw("unknown")
        assert await ours.answer_request(begun.request_id, "{}")
        assert not await asker.withdraw(begun.request_id)

    async def test_a_renewed_request_stays_with_its_process_and_says_how_far_it_is(
        self, start: Start, clock: FakeClock
    ) -> None:
        asker, ours, theirs = await start(), await start(), await start()
        asked = await asker.ask("churn", force=False)
        assert await ours.take_request(lease_seconds=60) is not None
        clock.now += 59
        assert await ours.renew_request(asked.request_id, lease_seconds=60, progress="waiting")
        assert not await theirs.renew_request(asked.request_id, lease_seconds=60)
        clock.now += 59
        assert await theirs.take_request(lease_seconds=60) is None
        seen = await asker.request(asked.request_id)
        assert seen is not None
        assert (seen.taken_by != "", seen.progress, seen.begun) == (True, "waiting", False)
        clock.now += 1
        seen = await asker.request(asked.request_id)
        assert seen is not None
        assert (seen.taken_by, seen.progress) == ("", ""), "nobody works on it any more"
        assert await theirs.take_request(lease_seconds=60) is not None
        assert not await ours.renew_request(asked.request_id, lease_seconds=60)

    async def test_a_request_that_is_given_back_is_free_at_once(self, start: Start) -> None:
        asker, ours, theirs = await start(), await start(), await start()
        asked = await asker.ask("churn", force=False)
        assert await ours.take_request(lease_seconds=60) is not None
        assert await ours.renew_request(asked.request_id, lease_seconds=60, begun=True)
        await theirs.give_back_request(asked.request_id)
        assert await theirs.take_request(lease_seconds=60) is None
        await ours.give_back_request(asked.request_id)
        assert not await ours.answer_request(asked.request_id, "{}")
        taken = await theirs.take_request(lease_seconds=60)
        assert taken is not None
        assert taken.begun, "what was begun once is not withdrawn"


async def test_a_kept_body_is_found_and_forgotten(checkpoint: Checkpoint) -> None:
    await rejected(checkpoint, None, None)
    await checkpoint.keep_body("m-3", "the body")
    message = await checkpoint.rejected_message("m-3")
    assert message is not None
    assert message.body == "the body"
    await checkpoint.forget_body("m-3")
    assert await checkpoint.rejected_message("m-3") == replace(message, body=None)
    assert await checkpoint.rejected_message("unknown") is None
    await checkpoint.forget_body("unknown")


@pytest.mark.parametrize("days", [0, 1])
async def test_old_state_is_pruned(checkpoint: Checkpoint, clock: FakeClock, days: int) -> None:
    await checkpoint.note_story(ARN, [])
    await checkpoint.record_enqueued([ENQUEUED])
    await checkpoint.put_note("backfill", "2025")
    await checkpoint.watch([WatchedJob(ARN, MARK.creation_time, NAME, clock.now, clock.now)])
    asked = await checkpoint.ask("churn", force=False)
    clock.now += days * 86400
    pruned = await checkpoint.prune(clock.now - 3600)
    left = [
        len(await checkpoint.jobs_named(ARN)),
        len(await checkpoint.story(ARN)),
        await checkpoint.note("backfill"),
        len(await checkpoint.watching(ARN)),
        await checkpoint.request(asked.request_id),
    ]
    assert (pruned, left) == ((5, [0, 0, None, 0, None]) if days else (0, [1, 1, "2025", 1, asked]))
