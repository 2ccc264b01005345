"""The rules of the checkpoint, without any storage. That a store carries them out is shown beside
the store.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from daemon.checkpoint import rules
from daemon.checkpoint.ports import (
    Claim,
    ClaimedElsewhere,
    EnqueuedJob,
    JobRecord,
    JobState,
    LeaseLost,
    NameLocked,
    RejectedMessage,
    WriterElsewhere,
    WriterLease,
)
from daemon.checkpoint.rules import ClaimRow, NameLockRow, WriterLeaseRow
from daemon.reasons import Reason
from tests.support.checkpoint_calls import TARGET

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1000.0
ARN = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/churn"
CREATED = "2025-11-20T08:40:00.050Z"
OURS, WANTED = Claim(ARN, "us", 7), Claim(ARN, "us", 9)
THEIRS = Claim(ARN, "them", 8)
STATES = ("no row", *JobState)


class TestClaim:
    @pytest.mark.parametrize(
        ("held", "holder_gone", "expected"),
        [
            (None, False, WANTED),
            (ClaimRow(OURS, NOW + 1), False, OURS),
            (ClaimRow(OURS, NOW), False, WANTED),
            (ClaimRow(THEIRS, NOW + 1), False, ClaimedElsewhere("them", 1.0)),
            (ClaimRow(THEIRS, NOW + 1), True, WANTED),
            (ClaimRow(THEIRS, NOW), False, WANTED),
        ],
        ids=["free", "ours", "ours-ran-out", "theirs", "theirs-gone", "theirs-ran-out"],
    )
    def test_claim(
        self, held: ClaimRow | None, *, holder_gone: bool, expected: Claim | ClaimedElsewhere
    ) -> None:
        answer = rules.claim(held, WANTED, now=NOW, lease_until=NOW + 60, holder_gone=holder_gone)
        taken = ClaimRow(expected, NOW + 60) if isinstance(expected, Claim) else expected
        assert answer == taken

    @pytest.mark.parametrize(
        ("held", "renewed", "valid"),
        [
            (ClaimRow(OURS, NOW + 1), True, True),
            (ClaimRow(OURS, NOW), True, False),
            (ClaimRow(WANTED, NOW + 1), False, False),
            (ClaimRow(THEIRS, NOW + 1), False, False),
            (ClaimRow(replace(OURS, owner="them"), NOW + 1), False, False),
            (None, False, False),
        ],
        ids=["held", "ran-out", "newer-fence", "another-owner", "same-fence", "released"],
    )
    def test_who_may_renew_and_who_may_write(
        self, held: ClaimRow | None, *, renewed: bool, valid: bool
    ) -> None:
        row = rules.renew(held, OURS, lease_until=NOW + 60)
        assert row == (ClaimRow(OURS, NOW + 60) if renewed else None)
        with nullcontext() if valid else pytest.raises(LeaseLost):
            assert rules.require_lease(held, OURS, now=NOW) is held


class TestNameLock:
    @pytest.mark.parametrize(
        ("claim", "lease_until", "holder_gone", "refused"),
        [
            (WANTED, NOW + 5, False, False),
            (OURS, NOW + 5, False, True),
            (THEIRS, NOW + 5, False, True),
            (THEIRS, NOW + 5, True, False),
            (THEIRS, NOW, False, False),
        ],
        ids=["same-claim", "own-other-claim", "theirs", "theirs-gone", "theirs-ran-out"],
    )
    def test_a_lock_that_is_held(
        self, claim: Claim, lease_until: float, *, holder_gone: bool, refused: bool
    ) -> None:
        held = NameLockRow("project/churn", claim, lease_until)
        wanted = NameLockRow("project/churn", WANTED, NOW + 60)
        take = partial(rules.lock_name, held, wanted, now=NOW, holder_gone=holder_gone)
        if not refused:
            assert take() == wanted
            return
        with pytest.raises(NameLocked, match="'project/churn'") as caught:
            take()
        assert caught.value.delay_seconds == 5

    def test_a_free_lock(self) -> None:
        wanted = NameLockRow("project/churn", WANTED, NOW + 60)
        assert rules.lock_name(None, wanted, now=NOW, holder_gone=False) == wanted


class TestWriterLease:
    GRACE = 50.0

    @pytest.mark.parametrize(
        ("owner", "lease_until", "expected"),
        [
            ("us", NOW + 1, 3),
            ("us", NOW, 4),
            ("us", 0.0, 4),
            ("them", NOW + 1, WriterElsewhere("them", 51.0)),
            ("them", NOW, WriterElsewhere("them", 50.0, ended=True)),
            ("them", NOW - 49, WriterElsewhere("them", 1.0, ended=True)),
            ("them", NOW - 50, 4),
            ("them", 0.0, 4),
        ],
        ids=[
            "ours-keeps-its-term",
            "ours-ran-out",
            "ours-given-back",
            "theirs",
            "theirs-ended",
            "theirs-ended-within-grace",
            "theirs-ended-and-grace-over",
            "theirs-given-back",
        ],
    )
    def test_take(self, owner: str, lease_until: float, expected: int | WriterElsewhere) -> None:
        answer = self.take(WriterLeaseRow(WriterLease("s", owner, 3), lease_until))
        if isinstance(expected, int):
            expected_row = WriterLeaseRow(WriterLease("s", "us", expected), NOW + 60)
            assert answer == expected_row
        else:
            assert answer == expected

    def test_the_first_term(self) -> None:
        assert self.take(None) == WriterLeaseRow(WriterLease("s", "us", 1), NOW + 60)

    @pytest.mark.parametrize(
        ("lease_until", "ended_at"),
        [(NOW + 30, NOW), (NOW - 30, NOW - 30), (0.0, 0.0)],
        ids=["it-ran", "it-had-run-out", "it-was-given-back"],
    )
    def test_a_holder_that_is_gone_sends_nothing_more_but_the_server_may_not_be_done(
        self, lease_until: float, ended_at: float
    ) -> None:
        held = WriterLeaseRow(WriterLease("s", "them", 3), lease_until)
        assert rules.end_writer_lease(held, now=NOW) == WriterLeaseRow(held.lease, ended_at)

    def take(self, held: WriterLeaseRow | None) -> WriterLeaseRow | WriterElsewhere:
        return rules.take_writer_lease(
            held,
            "s",
            "us",
            now=NOW,
            lease_seconds=60,
            grace_seconds=self.GRACE,
        )

    @pytest.mark.parametrize(
        ("held", "lost"),
        [
            (WriterLease("s", "us", 3), False),
            (WriterLease("s", "us", 4), True),
            (WriterLease("s", "them", 3), True),
            (None, True),
        ],
    )
    @pytest.mark.parametrize("lease_until", [NOW - 1, NOW + 1])
    def test_only_the_holder_renews_or_gives_back_even_after_it_ran_out(
        self, held: WriterLease | None, *, lost: bool, lease_until: float
    ) -> None:
        ours = WriterLease("s", "us", 3)
        row = None if held is None else WriterLeaseRow(held, lease_until)
        renewed = rules.renew_writer_lease(row, ours, lease_until=NOW + 60)
        released = rules.release_writer_lease(row, ours)
        if lost:
            assert (renewed, released) == (None, None)
        else:
            assert (renewed, released) == (
                WriterLeaseRow(ours, NOW + 60),
                WriterLeaseRow(ours, 0.0),
            )


def record(state: JobState, **members: Any) -> JobRecord:
    known = JobRecord(
        job_arn=ARN,
        creation_time=CREATED,
        job_name="churn",
        state=state,
        reason="target_fault",
        detail="503",
        attempts=2,
        unanswered_writes=0,
        target=TARGET.kind,
        place=TARGET.place,
        target_ids={"run_id": "r-0"},
        message_id="m-0",
        first_seen_at=1.0,
        updated_at=2.0,
        steps={"run_id": "7"},
    )
    return replace(known, **members)


def row_in(state: str, **members: Any) -> JobRecord:
    """A job's row in a state, or as it begins."""
    known = None if state == "no row" else record(JobState(state), **members)
    return job_row(known, None)


job_row = partial(
    rules.job_row,
    target=TARGET,
    job_arn=ARN,
    creation_time=CREATED,
    job_name="churn",
    now=NOW,
)


begin_write = partial(rules.begin_write, now=NOW)
record_synced = partial(
    rules.record_synced,
    reason=Reason.CREATED,
    detail="d",
    target_ids={"run_id": "r-1"},
    message_id="m-1",
    now=NOW,
)
record_skipped = partial(rules.record_skipped, reason=Reason.NOT_TAGGED, message_id="m-1", now=NOW)
record_rejected = partial(
    rules.record_rejected,
    reason=Reason.TAGS_INCOMPLETE,
    detail="d",
    message_id="m-1",
    unanswered_writes=None,
    now=NOW,
)
record_deferred = partial(
    rules.record_deferred,
    reason=Reason.NAME_LOCKED,
    detail="d",
    message_id="m-1",
    unanswered_writes=None,
    now=NOW,
)
ENQUEUED = EnqueuedJob(ARN, CREATED, "churn", "backfill", None, "m-9")
record_enqueued = partial(rules.record_enqueued, job=ENQUEUED, now=NOW)
UNCHANGED = "unchanged"


class TestJobRow:
    # the table of the module's text, in the order of STATES
    @pytest.mark.parametrize(
        ("event", "states"),
        [
            (begin_write, ["writing"] * 7),
            (record_synced, ["synced"] * 7),
            (record_skipped, [*["skipped"] * 2, *[UNCHANGED] * 3, *["skipped"] * 2]),
            (record_rejected, [*["rejected"] * 3, UNCHANGED, *["rejected"] * 3]),
            (record_deferred, [*["released"] * 2, "writing", UNCHANGED, *["released"] * 3]),
            (record_enqueued, [*["enqueued"] * 2, UNCHANGED, UNCHANGED, *["enqueued"] * 3]),
        ],
        ids=[
            "begin_write",
            "record_synced",
            "record_skipped",
            "record_rejected",
            "deferred",
            "enqueued",
        ],
    )
    def test_every_event_in_every_state(
        self, event: Callable[[JobRecord], JobRecord], states: list[str]
    ) -> None:
        assert STATES == (
            "no row",
            "enqueued",
            "writing",
            "synced",
            "rejected",
            "skipped",
            "released",
        )
        for before, after in zip(STATES, states, strict=True):
            row = row_in(before, unanswered_writes=1 if before == "writing" else 0)
            changed = event(row)
            if after == UNCHANGED:
                assert changed is row, before
            else:
                assert (changed.state, changed.updated_at) == (after, NOW), before
                assert changed.first_seen_at == row.first_seen_at

    def test_what_each_event_writes(self) -> None:
        row = row_in("writing", unanswered_writes=2)
        assert begin_write(row) == replace(
            row, reason="", detail="", unanswered_writes=3, updated_at=NOW
        )
        assert record_synced(row) == replace(
            row,
            state=JobState.SYNCED,
            reason="created",
            detail="d",
            unanswered_writes=0,
            target_ids={"run_id": "r-1"},
            message_id="m-1",
            updated_at=NOW,
            steps={},
        )
        assert record_rejected(row) == replace(
            row,
            state=JobState.REJECTED,
            reason="tags_incomplete",
            detail="d",
            message_id="m-1",
            updated_at=NOW,
        )
        assert record_deferred(row) == replace(
            row, reason="name_locked", detail="d", attempts=3, message_id="m-1", updated_at=NOW
        )
        skippable = row_in("released")
        assert record_skipped(skippable) == replace(
            skippable,
            state=JobState.SKIPPED,
            reason="not_tagged",
            detail="",
            message_id="m-1",
            updated_at=NOW,
        )

    @pytest.mark.parametrize(
        ("known", "state", "left"), [(None, "writing", 2), (1, "writing", 1), (0, "released", 0)]
    )
    def test_unanswered_writes_stay_until_it_is_known_better(
        self, known: int | None, state: str, left: int
    ) -> None:
        row = row_in("writing", unanswered_writes=2)
        deferred = record_deferred(row, unanswered_writes=known)
        assert (deferred.state, deferred.unanswered_writes) == (state, left)
        rejected = record_rejected(row, unanswered_writes=known)
        assert (rejected.state, rejected.unanswered_writes) == (JobState.REJECTED, left)

    @pytest.mark.parametrize("state", STATES)
    def test_steps_are_noted_while_writing_only(self, state: str) -> None:
        known = None if state == "no row" else record(JobState(state))
        note = partial(rules.note_steps, known, OURS, {"fit": "done"}, now=NOW)
        if known is None or known.state is not JobState.WRITING:
            with pytest.raises(LeaseLost):
                note()
            return
        assert note() == replace(known, steps={"run_id": "7", "fit": "done"}, updated_at=NOW)

    @pytest.mark.parametrize("state", STATES)
    @pytest.mark.parametrize(
        "held", [ClaimRow(OURS, NOW + 1), ClaimRow(OURS, NOW - 1), ClaimRow(THEIRS, NOW + 1), None]
    )
    def test_a_finished_write_is_recorded_unless_another_took_the_job(
        self, held: ClaimRow | None, state: str
    ) -> None:
        known = None if state == "no row" else record(JobState(state))
        ours = held is not None and held.claim == OURS
        recorded = known is not None and known.state is JobState.SYNCED
        with nullcontext() if ours or recorded else pytest.raises(LeaseLost):
            assert rules.may_record_synced(held, OURS, known) is ours

    @pytest.mark.parametrize("known", [None, record(JobState.WRITING)])
    def test_deferrals_from_before_the_creation_time_was_known_go_over(
        self, known: JobRecord | None
    ) -> None:
        undescribed = record(JobState.RELEASED, creation_time="", attempts=5, first_seen_at=0.5)
        row = job_row(known, undescribed)
        assert (row.creation_time, row.first_seen_at) == (CREATED, 0.5)
        assert row.attempts == (5 if known is None else 7)
        assert rules.absorbs(row, undescribed)

    @pytest.mark.parametrize("state", [state for state in JobState if state != "released"])
    def test_a_row_without_a_creation_time_may_be_of_an_earlier_job_of_that_name(
        self, state: JobState
    ) -> None:
        known, undescribed = record(JobState.WRITING), record(state, creation_time="")
        row = job_row(known, undescribed)
        assert row == known
        assert not rules.absorbs(row, undescribed)

    def test_the_row_without_a_creation_time_is_not_its_own(self) -> None:
        undescribed = record(JobState.RELEASED, creation_time="")
        row = job_row(undescribed, undescribed, creation_time="")
        assert row == undescribed
        assert not rules.absorbs(row, undescribed)

    @pytest.mark.parametrize("state", [state for state in JobState if state != "synced"])
    @pytest.mark.parametrize("kind", [TARGET.kind, ""])
    def test_what_is_under_way_at_an_unknown_place_goes_on_here(
        self, state: JobState, kind: str
    ) -> None:
        known = record(state, target=kind, place="", unanswered_writes=2)
        row = job_row(known, None)
        assert row == replace(known, target=TARGET.kind, place=TARGET.place)
        assert rules.takes_over(row, known)
        assert rules.takes_over(record_deferred(row), known)

    def test_a_job_synced_to_an_unknown_place_is_no_row_here(self) -> None:
        known = record(JobState.SYNCED, place="")
        row = job_row(known, None)
        assert (known.done, row) == (False, row_in("no row"))
        for event in (begin_write, record_deferred, record_skipped, record_rejected):
            assert not rules.takes_over(event(row), known)
        with pytest.raises(LeaseLost):
            rules.may_record_synced(None, OURS, known)

    @pytest.mark.parametrize("run_id", ["r-0", "r-1"])
    def test_a_row_of_an_unknown_place_ends_when_its_run_was_found_here(self, run_id: str) -> None:
        known = record(JobState.SYNCED, place="")
        row = record_synced(job_row(known, None), target_ids={"run_id": run_id})
        assert (row.done, row.place) == (True, TARGET.place)
        assert rules.takes_over(row, known) is (run_id == "r-0")

    def test_of_another_place_only_the_unanswered_writes_count(self) -> None:
        there = record(JobState.REJECTED, place="http://other", unanswered_writes=2, attempts=3)
        here = rules.seen_from(TARGET, there)
        assert (here.state, here.place, here.unanswered_writes) == (
            JobState.WRITING,
            TARGET.place,
            2,
        )
        assert (here.attempts, here.steps, here.target_ids) == (0, {}, {})
        assert not rules.takes_over(begin_write(here), here)
        for row in (record(JobState.WRITING), record(JobState.WRITING, place="")):
            assert rules.seen_from(TARGET, row) is row

    def test_a_row_of_this_place_replaces_no_other(self) -> None:
        known = record(JobState.SYNCED)
        assert known.done
        assert not rules.takes_over(begin_write(job_row(known, None)), known)

    def test_what_is_being_written_is_never_pruned(self) -> None:
        assert {JobState.WRITING} == rules.NEVER_PRUNED


def test_a_kept_body_survives_a_second_rejection_and_needs_no_first_one() -> None:
    reject = partial(rules.reject_message, job_arn=ARN, reason=Reason.JOB_GONE, detail="\ud800")
    kept = rules.keep_body(reject(None, "m-1", now=1.0), "m-1", "\ud800", now=2.0)
    assert kept == RejectedMessage("m-1", ARN, "job_gone", "\\ud800", "\\ud800", 1.0)
    assert reject(kept, "m-1", now=3.0) == replace(kept, rejected_at=3.0)
    assert rules.keep_body(None, "m-1", "body", now=2.0) == RejectedMessage(
        "m-1", "", "", "", "body", 2.0
    )


DAY = 86400.0
MADE = rules.EARLIEST_CLOCK + 100 * DAY


@pytest.mark.parametrize(
    ("recorded", "last_used_at", "now", "kept"),
    [
        (MADE, MADE + 50 * DAY, MADE + 50 * DAY + 60, True),
        (MADE, MADE + 50 * DAY, MADE + 51 * DAY, True),
        (MADE, MADE + 60, MADE, True),  # a clock that was corrected by a minute
        (None, MADE, MADE + 1, False),
        (0.0, MADE, MADE + 1, False),  # made by a clock that began in 1970
        (MADE + 2 * DAY, MADE, MADE + DAY, False),  # made by a clock that was ahead
        (MADE, MADE + 2 * DAY, MADE + DAY, False),  # a clock that went back
        (MADE, MADE + 2, MADE + 31 * DAY, False),  # a clock a month behind, or a backup
    ],
)
def test_since_when_a_checkpoint_saw_every_job(
    recorded: float | None, last_used_at: float, now: float, *, kept: bool
) -> None:
    found = rules.created_at(recorded, last_used_at=last_used_at, now=now)
    assert found == (recorded if kept else now)
