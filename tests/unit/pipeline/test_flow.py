"""The flow: what comes out of a message, what is recorded of it, and what is asked of whom
before.
"""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from daemon.checkpoint.ports import Claim, HistoryFilter, JobState
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.errors import EdgeFault, JobFault, JobRefused
from daemon.outcome import Deferred, Duplicate, Edge, Held, Reason, Rejected, Skipped, Synced
from daemon.pipeline.flow import FlowRules
from daemon.training_job.identity import Home
from tests.support.flow_doubles import (
    CREATED,
    DAY,
    TAGS,
    arn_of,
    bench,
    edge_fault,
    event_body,
    mark_of,
    message,
    without,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from daemon.checkpoint.ports import JobRecord
    from daemon.targets.ports import TargetRun, WriteJournal
    from daemon.training_job.training_run import TrainingRun
    from tests.support.flow_doubles import Bench

MARK = mark_of("churn-1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.db"


@pytest_asyncio.fixture
async def stage(path: Path) -> AsyncIterator[Bench]:
    async with bench(path) as made:
        yield made


async def rows(stage: Bench) -> list[JobRecord]:
    return list(await stage.checkpoint.history(HistoryFilter()))


# What is synced
# ---


async def test_a_tagged_job_is_synced_and_recorded_under_its_mark(stage: Bench, path: Path) -> None:
    outcome = await stage.process(message(message_id="m-7"))
    assert outcome == Synced(Reason.CREATED, {"run_id": "id-of-churn-1"})
    [row] = await rows(stage)
    assert (row.job_arn, row.creation_time) == (arn_of("churn-1"), "2025-11-20T08:40:00.050Z")
    assert (row.state, row.reason, row.unanswered_writes) == (JobState.SYNCED, "created", 0)
    assert (row.target, row.target_ids, row.message_id) == (
        "modeldb-v2",
        {"run_id": "id-of-churn-1"},
        "m-7",
    )
    assert not await stage.is_claimed(path)


async def test_the_mark_is_what_describe_says(stage: Bench) -> None:
    stage.jobs.put(
        "Churn-1", arn=arn_of("Churn-1"), CreationTime=CREATED + timedelta(milliseconds=700)
    )
    await stage.process(message(event_body("Churn-1", arn=arn_of("churn-1"))))
    [run] = stage.target.runs
    assert (run.mark.arn, run.mark.creation_time) == (arn_of("churn-1"), "2025-11-20T08:40:00.750Z")


async def test_a_run_that_was_there_already_is_synced_too(stage: Bench) -> None:
    async def find(run: TrainingRun, journal: WriteJournal) -> TargetRun:
        created = await stage.target.create(run, journal)
        return type(created)(created=False, ids=created.ids, detail="named otherwise")

    stage.target.script.append(find)
    assert await stage.process() == Synced(
        Reason.FOUND_IN_TARGET, {"run_id": "id-of-churn-1"}, "named otherwise"
    )


async def test_a_job_that_is_done_is_a_duplicate_and_the_target_is_not_touched(
    stage: Bench,
) -> None:
    await stage.process()
    before = await rows(stage)
    stage.jobs.asked.clear()
    stage.clock.now += 60
    outcome = await stage.process(message(message_id="m-2", receive_count=2))
    assert outcome == Duplicate(Reason.ALREADY_SYNCED, {"run_id": "id-of-churn-1"})
    assert stage.jobs.asked == [("describe", "churn-1")]
    assert len(stage.target.runs) == 1
    assert await rows(stage) == before


async def test_the_steps_are_timed_and_their_success_is_told_to_the_right_edge(
    stage: Bench,
) -> None:
    stage.jobs.put("churn-1", tags=TAGS)
    await stage.process(message(event_body(Tags=None)))
    assert stage.steps == ["describe", "validate", "sync", "record"]
    for edge, step in [
        (Edge.SAGEMAKER, "describe"),
        (Edge.SAGEMAKER, "tags"),
        (Edge.TARGET, "sync"),
        (Edge.CHECKPOINT, "record"),
    ]:
        assert stage.breakers[edge].succeeded_for_others(step, "another message", since=0)
        assert not stage.breakers[edge].succeeded_for_others(step, "m-1", since=0)


async def test_a_step_that_fails_is_no_success(stage: Bench) -> None:
    stage.target.then_raise(edge_fault())
    await stage.process()
    assert not stage.breakers[Edge.TARGET].succeeded_for_others("sync", "another message", since=0)


# Tags
# ---


async def test_an_event_with_all_tags_needs_no_list_tags(stage: Bench) -> None:
    stage.jobs.put("churn-1", tags={})
    assert (await stage.process()).kind == "synced"
    assert stage.jobs.asked == [("describe", "churn-1")]


@pytest.mark.parametrize(
    "told",
    [
        None,
        {},
        {"team": "growth"},
        without("MODEL_DB_SYNC"),
        without("MODEL_DB_MODEL_TYPE"),
        TAGS | {"MODEL_DB_MODEL_NAME": " "},
    ],
)
async def test_no_job_is_skipped_or_rejected_by_the_tags_of_its_event_alone(
    stage: Bench, told: Mapping[str, str] | None
) -> None:
    stage.jobs.put("churn-1", tags=TAGS | {"MODEL_DB_PROJECT_NAME": "as listed"})
    assert (await stage.process(message(event_body(Tags=told)))).kind == "synced"
    assert stage.target.runs[0].project_name == "as listed"
    assert stage.target.runs[0].all_tags["MODEL_DB_MODEL_NAME"] == "churn-xgb"


async def test_a_job_without_the_sync_tag_as_list_tags_says_is_skipped_and_noted(
    stage: Bench, path: Path
) -> None:
    stage.jobs.put("churn-1", tags=without("MODEL_DB_SYNC"))
    outcome = await stage.process(message(event_body(Tags=None)))
    assert isinstance(outcome, Skipped)
    assert outcome.reason is Reason.NOT_TAGGED
    [row] = await rows(stage)
    assert (row.state, row.creation_time) == (JobState.SKIPPED, MARK.creation_time)
    assert not await stage.is_claimed(path)


async def test_a_job_that_was_skipped_is_synced_when_it_is_tagged_later(stage: Bench) -> None:
    stage.jobs.put("churn-1", tags={})
    await stage.process(message(event_body(Tags=None)))
    stage.jobs.put("churn-1", tags=TAGS)
    assert (await stage.process(message(event_body(Tags=None), "m-2"))).kind == "synced"


async def test_a_job_with_half_of_its_tags_as_list_tags_says_is_rejected_by_name_of_what_is_missing(
    stage: Bench,
) -> None:
    stage.jobs.put("churn-1", tags=without("MODEL_DB_MODEL_TYPE", "MODEL_DB_PROJECT_USER"))
    outcome = await stage.process(message(event_body(Tags={"MODEL_DB_SYNC": "1"})))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.TAGS_INCOMPLETE
    assert {"MODEL_DB_MODEL_TYPE", "MODEL_DB_PROJECT_USER"} <= set(
        outcome.detail.replace(",", "").split()
    )
    [row] = await rows(stage)
    assert (row.state, row.creation_time, row.detail) == (
        JobState.REJECTED,
        MARK.creation_time,
        outcome.detail,
    )
    assert not stage.target.runs


async def test_list_tags_is_asked_with_the_arn_as_describe_writes_it(stage: Bench) -> None:
    stage.jobs.put("Churn-1", arn=arn_of("Churn-1"))
    await stage.process(message(event_body("Churn-1", arn=arn_of("churn-1"), Tags=None)))
    assert ("tags", arn_of("Churn-1")) in stage.jobs.asked


async def test_a_message_that_came_back_takes_its_tags_from_list_tags_only(stage: Bench) -> None:
    stage.jobs.put("churn-1", tags=TAGS | {"MODEL_DB_PROJECT_NAME": "mended"})
    await stage.process(
        message(attributes={"reason": "target_refused", "detail": "no such project"})
    )
    assert stage.target.runs[0].project_name == "mended"


async def test_a_message_that_came_back_is_judged_by_list_tags(stage: Bench) -> None:
    stage.jobs.put("churn-1", tags={})
    outcome = await stage.process(message(attributes={"reason": "target_refused"}))
    assert outcome.reason is Reason.NOT_TAGGED


# Which job is it?
# ---


@pytest.mark.parametrize("elsewhere", [{"account": "999999999999"}, {"region": "eu-west-2"}])
async def test_a_job_of_another_account_or_region_is_rejected_unasked(
    stage: Bench, elsewhere: dict[str, str]
) -> None:
    outcome = await stage.process(message(event_body(arn=arn_of("churn-1", **elsewhere))))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.FOREIGN_ACCOUNT
    assert not stage.jobs.asked
    [kept] = await stage.checkpoint.rejected_messages()
    assert (kept.message_id, kept.reason) == ("m-1", "foreign_account")


async def test_with_an_unknown_account_the_described_arn_is_compared(stage: Bench) -> None:
    stage.jobs.home = Home(None, "eu-west-1")
    outcome = await stage.process(
        message(event_body(arn=arn_of("churn-1", account="999999999999")))
    )
    assert outcome.reason is Reason.FOREIGN_ACCOUNT
    assert not stage.target.runs
    assert (await stage.process(message(message_id="m-2"))).kind == "synced"


async def test_a_message_without_an_arn_is_at_home(stage: Bench) -> None:
    assert (await stage.process(message('{"TrainingJobName": "churn-1"}'))).kind == "synced"
    stage.jobs.home = Home(None, "eu-west-1")
    outcome = await stage.process(message('{"TrainingJobName": "churn-1"}', "m-2"))
    assert outcome.reason is Reason.MALFORMED_BODY
    assert "aws.account_id" in outcome.detail


@pytest.mark.parametrize("seconds", [-1.0, 1.0, 86400.0])
async def test_a_name_that_was_used_again_is_another_job(stage: Bench, seconds: float) -> None:
    stage.jobs.put("churn-1", CreationTime=CREATED + timedelta(seconds=seconds))
    outcome = await stage.process()
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.JOB_REPLACED
    assert not stage.target.runs
    [row] = await rows(stage)
    # not the row of the job that has the name now
    assert (row.state, row.creation_time) == (JobState.REJECTED, "")


@pytest.mark.parametrize("seconds", [-0.999, -0.05, 0.0, 0.949, 0.999])
async def test_within_a_second_it_is_the_same_job(stage: Bench, seconds: float) -> None:
    stage.jobs.put("churn-1", CreationTime=CREATED + timedelta(seconds=seconds))
    assert (await stage.process()).kind == "synced"


async def test_an_event_that_tells_no_creation_time_is_taken_as_described(stage: Bench) -> None:
    assert (await stage.process(message(event_body(CreationTime=None)))).kind == "synced"
    assert stage.target.runs[0].mark == MARK


async def test_an_answer_about_another_name_is_not_this_job(stage: Bench) -> None:
    stage.jobs.put("churn-1", arn=arn_of("churn-2"), TrainingJobName="churn-2")
    assert (await stage.process()).reason is Reason.JOB_REPLACED
    assert not stage.target.runs


async def test_a_name_that_was_used_again_is_not_done_because_its_former_job_is(
    stage: Bench,
) -> None:
    await stage.process()
    later = CREATED + timedelta(days=1)
    stage.jobs.put("churn-1", CreationTime=later)
    second = event_body(CreationTime=round(later.timestamp() * 1000))
    assert (await stage.process(message(second, "m-2"))).kind == "synced"
    assert {row.creation_time for row in await rows(stage)} == {
        MARK.creation_time,
        mark_of("churn-1", later).creation_time,
    }


async def test_a_job_that_is_gone_is_rejected_under_its_arn(stage: Bench) -> None:
    stage.jobs.faults["describe"] = deque([JobRefused(Reason.JOB_GONE, "no such job")])
    assert (await stage.process()) == Rejected(Reason.JOB_GONE, "no such job")
    [row] = await rows(stage)
    assert (row.job_arn, row.state, row.reason) == (
        arn_of("churn-1"),
        JobState.REJECTED,
        "job_gone",
    )


# Not now, not ours
# ---


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"detail-type": "Object Created", "source": "aws.s3", "detail": {}}', Reason.OTHER_EVENT),
        (event_body(TrainingJobStatus="InProgress"), Reason.STATUS_NOT_CONFIGURED),
        (event_body(TrainingJobStatus="Failed"), Reason.STATUS_NOT_CONFIGURED),
    ],
)
async def test_what_is_not_ours_is_skipped_unasked_and_unrecorded(
    stage: Bench, body: str, reason: Reason
) -> None:
    outcome = await stage.process(message(body))
    assert (outcome.kind, outcome.reason) == ("skipped", reason)
    assert not stage.jobs.asked
    assert not await rows(stage)


async def test_another_status_of_the_described_job_leaves_no_row(stage: Bench, path: Path) -> None:
    stage.jobs.put("churn-1", TrainingJobStatus="Stopped")
    outcome = await stage.process()
    assert (outcome.kind, outcome.reason) == ("skipped", Reason.STATUS_NOT_CONFIGURED)
    assert not await rows(stage)
    assert not await stage.is_claimed(path)


async def test_the_statuses_are_those_of_the_configuration(path: Path) -> None:
    async with bench(path, rules=FlowRules(statuses=frozenset({"Stopped"}))) as stage:
        stage.jobs.put("churn-1", TrainingJobStatus="Stopped")
        assert (
            await stage.process(message(event_body(TrainingJobStatus="Stopped")))
        ).kind == "synced"
        assert (await stage.process(message(event_body(), "m-2"))).kind == "skipped"


@pytest.mark.parametrize("status", ["InProgress", "Stopping", ""])
async def test_a_job_that_still_goes_on_is_deferred(stage: Bench, path: Path, status: str) -> None:
    stage.jobs.put("churn-1", TrainingJobStatus=status)
    for attempts in (1, 2):
        outcome = await stage.process(message(receive_count=attempts))
        assert (outcome.kind, outcome.reason) == ("deferred", Reason.NOT_TERMINAL)
        [row] = await rows(stage)
        assert (row.state, row.reason, row.attempts) == (
            JobState.RELEASED,
            "not_terminal",
            attempts,
        )
    assert not await stage.is_claimed(path)
    assert not stage.target.runs


async def test_a_body_that_cannot_be_understood_is_recorded_by_its_message(stage: Bench) -> None:
    outcome = await stage.process(message("this is no event", "m-9"))
    assert (outcome.kind, outcome.reason) == ("rejected", Reason.MALFORMED_BODY)
    [kept] = await stage.checkpoint.rejected_messages()
    assert (kept.message_id, kept.job_arn, kept.reason) == ("m-9", "", "malformed_body")
    assert not await rows(stage)


async def test_what_another_process_works_on_is_deferred_until_its_lease_ends(
    stage: Bench, path: Path
) -> None:
    other = await open_sqlite_checkpoint(path, clock=stage.clock)
    assert isinstance(await other.claim(arn_of("churn-1"), 42.0), Claim)
    outcome = await stage.process()
    assert isinstance(outcome, Deferred)
    assert (outcome.reason, outcome.delay_seconds) == (Reason.CLAIMED_ELSEWHERE, 42.0)
    assert not stage.jobs.asked
    assert not await rows(stage)
    await other.aclose()


# Whose fault it is
# ---


async def test_the_targets_own_verdict_is_a_rejection(stage: Bench) -> None:
    stage.target.then_raise(JobRefused(Reason.TARGET_REFUSED, "name taken"), begun=1, answered=1)
    assert await stage.process() == Rejected(Reason.TARGET_REFUSED, "name taken")
    [row] = await rows(stage)
    assert (row.state, row.reason, row.detail) == (
        JobState.REJECTED,
        "target_refused",
        "name taken",
    )


async def test_a_fault_of_the_job_is_a_deferral_with_the_delay_that_the_edge_names(
    stage: Bench,
) -> None:
    stage.target.then_raise(JobFault(Reason.NAME_LOCKED, "locked", delay_seconds=17.0))
    assert await stage.process() == Deferred(Reason.NAME_LOCKED, "locked", 17.0)
    [row] = await rows(stage)
    assert (row.state, row.reason, row.attempts) == (JobState.RELEASED, "name_locked", 1)


async def test_a_bug_costs_the_message_a_retry_and_quotes_nothing(stage: Bench) -> None:
    stage.target.then_raise(ZeroDivisionError("hunter2"))
    outcome = await stage.process()
    assert (outcome.kind, outcome.reason) == ("deferred", Reason.INTERNAL_ERROR)
    assert "ZeroDivisionError" in outcome.detail
    assert "hunter2" not in outcome.detail
    [row] = await rows(stage)
    assert (row.state, row.reason) == (JobState.RELEASED, "internal_error")


@pytest.mark.parametrize(
    ("where", "edge"),
    [
        ("describe", Edge.SAGEMAKER),
        ("tags", Edge.SAGEMAKER),
        ("sync", Edge.TARGET),
        ("begin_write", Edge.CHECKPOINT),
    ],
)
async def test_an_outage_holds_the_message_with_its_claim(
    stage: Bench, path: Path, where: str, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = EdgeFault(edge, Reason.THROTTLED, "slow down", curable=False)
    if where == "sync":
        stage.target.then_raise(fault)
    elif where == "begin_write":
        fail_once(stage, "begin_write", fault, monkeypatch)
    else:
        stage.jobs.faults[where] = deque([fault])
    entry = stage.receive(message(event_body(Tags=None)))
    outcome = await stage.flow.process(entry)
    assert outcome == Held(Reason.THROTTLED, edge, "slow down", curable=False)
    assert entry.claim is not None
    assert await stage.is_claimed(path)
    assert not await rows(stage)
    assert (await stage.flow.process(entry)).kind == "synced"


@pytest.mark.parametrize("outcome", ["synced", "rejected", "deferred", "skipped", "duplicate"])
async def test_no_outcome_counts_before_it_is_recorded(
    stage: Bench, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = f"record_{outcome}"
    if outcome == "duplicate":
        await stage.process(message(message_id="m-0"))
        record = "release"
    elif outcome == "rejected":
        stage.target.then_raise(JobRefused(Reason.TARGET_REFUSED, "no"))
        stage.target.then_raise(JobRefused(Reason.TARGET_REFUSED, "no"))
    elif outcome == "deferred":
        stage.jobs.put("churn-1", TrainingJobStatus="InProgress")
    elif outcome == "skipped":
        stage.jobs.put("churn-1", tags={})
    fail_once(stage, record, edge_fault(Edge.CHECKPOINT, Reason.STORAGE), monkeypatch)
    entry = stage.receive(message(event_body(Tags=None if outcome == "skipped" else TAGS)))
    held = await stage.flow.process(entry)
    assert isinstance(held, Held)
    assert (held.edge, held.reason) == (Edge.CHECKPOINT, Reason.STORAGE)
    assert (await stage.flow.process(entry)).kind == outcome


async def test_a_claim_lost_before_the_record_is_a_deferral(stage: Bench, path: Path) -> None:
    async def slow(run: TrainingRun, journal: WriteJournal) -> TargetRun:
        written = await stage.target.create(run, journal)
        stage.clock.now += 61
        assert not await stage.is_claimed(path)  # another process takes the claim
        return written

    stage.target.script.append(slow)
    outcome = await stage.process()
    assert (outcome.kind, outcome.reason) == ("deferred", Reason.LEASE_LOST)
    [row] = await rows(stage)
    assert (row.state, row.unanswered_writes) == (JobState.WRITING, 1)


# Ambiguous writes
# ---


@pytest.mark.parametrize(
    ("age_seconds", "receive_count", "envelope", "first"),
    [
        (2 * DAY, 1, {}, False),
        (DAY - 1, 1, {}, True),
        (DAY + 1, 1, {}, False),
        (2 * DAY, 2, {}, True),
        (2 * DAY, 1, {"replay-name": "again"}, True),
    ],
)
async def test_a_job_that_the_checkpoint_cannot_vouch_for_is_looked_up_first(
    path: Path, age_seconds: float, receive_count: int, envelope: dict[str, Any], *, first: bool
) -> None:
    async with bench(path, age_seconds=age_seconds) as stage:
        await stage.process(message(event_body(envelope=envelope), receive_count=receive_count))
        assert stage.target.told == [(0, first)]


async def test_a_job_that_was_begun_under_this_checkpoint_is_known_by_its_row(path: Path) -> None:
    async with bench(path, age_seconds=60) as stage:
        stage.target.then_raise(JobFault(Reason.TARGET_FAULT, "refused"), begun=1, answered=1)
        await stage.process()
        await stage.process(message(receive_count=2))
        assert stage.target.told == [(0, True), (0, False)]


async def test_unanswered_writes_survive_a_hold_and_reach_the_checkpoint(stage: Bench) -> None:
    stage.target.then_raise(edge_fault(), begun=2, answered=1)
    stage.target.then_raise(JobFault(Reason.TARGET_FAULT, "no answer again"), begun=1)
    entry = stage.receive()
    assert (await stage.flow.process(entry)).kind == "held"
    assert entry.outcome_unknown
    assert (await stage.flow.process(entry)).kind == "deferred"
    # the checkpoint alone would have said 2
    assert [unanswered for unanswered, _ in stage.target.told] == [0, 1]
    [row] = await rows(stage)
    assert (row.state, row.unanswered_writes) == (JobState.WRITING, 2)
    stage.in_flight.finish(entry, Deferred(Reason.TARGET_FAULT))
    stage.in_flight.remove(entry)
    assert (await stage.process(message(receive_count=2))).kind == "synced"
    assert stage.target.told[-1][0] == 2
    assert (await rows(stage))[0].unanswered_writes == 0


async def test_a_deferral_without_an_open_write_releases_the_row(stage: Bench) -> None:
    stage.target.then_raise(JobFault(Reason.TARGET_FAULT, "refused"), begun=1, answered=1)
    await stage.process()
    [row] = await rows(stage)
    assert (row.state, row.unanswered_writes) == (JobState.RELEASED, 0)


async def test_a_deferral_before_the_target_was_asked_leaves_the_open_writes_of_others(
    stage: Bench,
) -> None:
    stage.target.then_raise(JobFault(Reason.TARGET_FAULT, "no answer"), begun=1)
    await stage.process()
    stage.jobs.faults["tags"] = deque([JobFault(Reason.SAGEMAKER_FAULT, "odd")])
    await stage.process(message(event_body(Tags=None), receive_count=2))
    [row] = await rows(stage)
    assert (row.state, row.unanswered_writes, row.attempts) == (JobState.WRITING, 1, 2)


def fail_once(stage: Bench, call: str, fault: EdgeFault, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call of the checkpoint fails."""
    real = getattr(stage.checkpoint, call)

    async def failing(*_args: object, **_kwargs: object) -> None:
        monkeypatch.setattr(stage.checkpoint, call, real)
        raise fault

    monkeypatch.setattr(stage.checkpoint, call, failing)
