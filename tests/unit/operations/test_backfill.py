"""Backfill: which jobs are sent, in which order things are done, and where it goes on."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest

from daemon.aws.ports import Failed
from daemon.checkpoint.ports import ClaimedElsewhere, JobState, LeaseLost
from daemon.errors import EdgeFault
from daemon.operations.backfill import (
    TRIES,
    AlreadyRunning,
    Finding,
    Position,
    Progress,
    Tally,
    finding_of,
    note_name,
)
from daemon.operations.when import Period
from daemon.reasons import Edge, Reason
from tests.support.backfill_scene import (
    BEGIN,
    COMPLETED,
    PERIOD,
    BackfillScene,
    Killed,
    listed,
    row,
)

JOB = listed("job-1", 60)
THROTTLED = EdgeFault(Edge.SAGEMAKER, Reason.THROTTLED, "Rate exceeded")
EXPIRED = EdgeFault(Edge.SAGEMAKER, Reason.CREDENTIALS, "expired")
SHORT_OUTAGE = EdgeFault(Edge.SAGEMAKER, Reason.UNAVAILABLE, "500")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.operations.backfill._pause", lambda _failures: 0.0)


@pytest.mark.parametrize(
    ("status", "finding"),
    [
        ("Completed", Finding.TO_SEND),
        ("Failed", Finding.OTHER_STATUS),
        ("Stopped", Finding.OTHER_STATUS),
        ("Deleting", Finding.OTHER_STATUS),
        ("InProgress", Finding.UNFINISHED),
        ("Stopping", Finding.UNFINISHED),
        ("Hatching", Finding.UNFINISHED),
    ],
)
def test_only_what_has_ended_as_wanted_is_sent(status: str, finding: Finding) -> None:
    assert finding_of(replace(JOB, status=status), None, COMPLETED) is finding


@pytest.mark.parametrize("state", list(JobState))
def test_only_what_is_synced_to_this_target_is_left_out(state: JobState) -> None:
    known = row(JOB, state)
    expected = Finding.SYNCED if state is JobState.SYNCED else Finding.TO_SEND
    assert finding_of(JOB, known, COMPLETED) is expected
    assert finding_of(JOB, replace(known, place=""), COMPLETED) is Finding.TO_SEND


async def test_every_job_of_the_period_that_is_not_synced_is_sent_in_tens() -> None:
    jobs = [listed(f"job-{number:02d}", number) for number in range(25)]
    outside = [listed("before", -0.001), listed("after", 86_400)]
    scene = BackfillScene([*jobs, *outside, listed("running", 30, "InProgress")], page_size=12)
    scene.rows = {job.arn.lower(): row(job, JobState.SYNCED) for job in jobs[:2]}
    backfill = scene.backfill()

    assert await backfill.run(PERIOD)

    assert scene.sent == [job.name for job in jobs[2:]]
    assert max(scene.batches) == 10
    assert backfill.progress is not None
    assert backfill.progress.tally == Tally(listed=26, sent=23, synced=2, unfinished=1)
    assert scene.notes == {}
    assert [state.state for state in scene.rows.values()].count(JobState.ENQUEUED) == 23


async def test_a_throttled_request_is_repeated_as_it_was_however_often() -> None:
    scene = BackfillScene([listed("a"), listed("b", 1)], page_size=1)
    scene.faults["list"] = deque([None, *[THROTTLED] * 20])

    assert await scene.run()

    assert scene.sent == ["a", "b"]
    assert [token for _, _, token in scene.asked] == [None, *["1"] * 21]


async def test_after_another_fault_the_list_begins_where_it_was_without_its_token() -> None:
    scene = BackfillScene([listed(f"job-{number}", number * 100) for number in range(4)])
    scene.page_size = 2
    scene.faults["list"] = deque([None, SHORT_OUTAGE])

    assert await scene.run()

    assert scene.sent == [f"job-{number}" for number in range(4)]
    assert scene.asked[2] == (BEGIN + 100 - 1, PERIOD.until + 1, None)


async def test_an_outage_ends_it_after_some_tries_and_the_next_run_goes_on() -> None:
    scene = BackfillScene([listed(f"job-{number}", number) for number in range(4)], page_size=2)
    scene.faults["list"] = deque([None, *[SHORT_OUTAGE] * TRIES])
    with pytest.raises(EdgeFault):
        await scene.run()
    assert len(scene.asked) == 1 + TRIES

    later = Period(PERIOD.since + 3600, PERIOD.until + 3600)
    backfill = scene.backfill()
    assert await backfill.run(later)

    assert scene.sent == [f"job-{number}" for number in range(4)]
    assert backfill.resumed
    assert backfill.progress is not None
    assert backfill.progress.period == PERIOD  # what the first run made of "7d"
    assert backfill.progress.tally.listed == 4


async def test_expired_credentials_end_it_at_once() -> None:
    scene = BackfillScene([listed("a")])
    scene.faults["list"] = deque([EXPIRED])
    with pytest.raises(EdgeFault):
        await scene.run()
    assert len(scene.asked) == 1


@pytest.mark.parametrize("call", ["send", "record", "save"])
@pytest.mark.parametrize("late", [False, True])
async def test_a_kill_at_any_step_loses_no_job(call: str, *, late: bool) -> None:
    scene = BackfillScene([listed(f"job-{number:02d}", number) for number in range(25)])
    before: deque[BaseException | None] = deque([None, Killed()])
    (scene.late_faults if late else scene.faults)[call] = before
    with pytest.raises(Killed):
        await scene.run()
    assert not before

    assert await scene.run()

    assert scene.sent_once == {job.name for job in scene.jobs}
    assert scene.again <= 10


async def test_a_run_that_begins_anew_forgets_the_position() -> None:
    scene = BackfillScene([listed("a"), listed("b", 1)], page_size=1)
    scene.faults["list"] = deque([None, EXPIRED])
    with pytest.raises(EdgeFault):
        await scene.run()

    assert await scene.run(restart=True)

    assert scene.sent == ["a", "a", "b"]


async def test_a_stop_is_obeyed_between_two_batches() -> None:
    scene = BackfillScene([listed(f"job-{number:02d}", number) for number in range(25)])
    backfill = scene.backfill()
    backfill.on_progress = lambda progress: scene.stop.set() if progress.tally.sent else None

    assert not await backfill.run(PERIOD)
    assert len(scene.sent) == 10

    scene.stop.clear()
    assert await scene.run()
    assert scene.again == 0
    assert scene.sent_once == {job.name for job in scene.jobs}


def failed(reason: Reason | None = None, *, refused: bool = False) -> Failed:
    return Failed("Code", "detail", stale=False, refused=refused, reason=reason)


async def test_failed_entries_are_sent_again_and_no_other() -> None:
    scene = BackfillScene([listed(name) for name in "abc"])
    scene.answers = deque([None, failed(Reason.UNAVAILABLE), failed(Reason.THROTTLED)])

    assert await scene.run()

    assert sorted(scene.sent) == ["a", "b", "c"]
    assert scene.batches == [3, 2]


async def test_a_queue_that_takes_no_message_ends_it_and_saves_no_position_behind_it() -> None:
    scene = BackfillScene([listed("a"), listed("b", 1)])
    scene.answers = deque([None, *[failed(Reason.UNAVAILABLE)] * TRIES])
    with pytest.raises(EdgeFault) as caught:
        await scene.run()
    assert caught.value.edge is Edge.QUEUE
    assert scene.sent == ["a"]

    assert await scene.run()

    assert scene.sent_once == {"a", "b"}


async def test_a_message_that_sqs_refuses_is_counted_and_named() -> None:
    scene = BackfillScene([listed("a"), listed("b", 1)])
    scene.answers = deque([failed(refused=True)])
    backfill = scene.backfill()

    assert await backfill.run(PERIOD)

    assert scene.sent == ["b"]
    assert backfill.progress is not None
    tally = backfill.progress.tally
    assert (tally.sent, tally.refused, tally.refused_names) == (1, 1, ("a",))


async def test_two_do_not_run_at_once() -> None:
    scene = BackfillScene([JOB], holder=ClaimedElsewhere("host-1:123", 200.0))
    with pytest.raises(AlreadyRunning, match="host-1:123"):
        await scene.run()
    assert scene.asked == []


async def test_who_has_lost_the_claim_sends_nothing_more() -> None:
    scene = BackfillScene([listed("a"), listed("b", 1)], page_size=1)
    backfill = scene.backfill()

    def lose(progress: Progress) -> None:
        scene.lost = progress.tally.sent == 1

    backfill.on_progress = lose
    with pytest.raises(LeaseLost):
        await backfill.run(PERIOD)
    assert scene.sent == ["a"]


def test_a_note_is_read_as_it_was_written() -> None:
    progress = Progress(
        PERIOD,
        BEGIN + 5,
        Position.at(BEGIN).after(JOB).after(listed("other", 60)),
        Tally(listed=3, sent=1, refused=1, refused_names=("x",)),
    )
    assert Progress.of_note(progress.note()) == progress
    assert progress.position.arns == {JOB.arn, listed("other").arn}


def test_the_same_command_has_the_same_note() -> None:
    same = note_name("7D ", None, frozenset({"Failed", "Completed"}))
    assert same == note_name("7d", None, frozenset({"Completed", "Failed"}))
    assert same != note_name("7d", None, frozenset({"Completed"}))
    assert same != note_name("7d", "1d", frozenset({"Failed", "Completed"}))
