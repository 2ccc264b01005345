"""The flow: the outcome of a message, what is recorded, and which calls are made before."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from daemon.checkpoint.ports import Claim, JobState
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.errors import EdgeFault, JobFault, JobRefused
from daemon.outcome import Deferred, Duplicate, Held, Rejected, Skipped, Synced
from daemon.pipeline import flow
from daemon.pipeline.flow import FlowRules
from daemon.pipeline.step import Step
from daemon.reasons import Edge, Reason
from daemon.training_job.identity import Home
from tests.support.checkpoint_calls import TARGET
from tests.support.flow_scene import (
    ACCOUNT,
    CREATED,
    DAY,
    ENDED,
    TAGS,
    arn_of,
    edge_fault,
    event_body,
    flow_scene,
    mark_of,
    message,
    without,
)
from tests.support.log_lines import log_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from daemon.aws.ports import Message
    from daemon.targets.ports import TargetRun, WriteJournal
    from daemon.training_job.training_run import TrainingRun
    from tests.support.flow_scene import FlowScene

MARK = mark_of("churn-1")


# What is synced
# ---


async def test_a_tagged_job_is_synced_and_recorded_under_its_mark(
    scene: FlowScene, path: Path
) -> None:
    outcome = await scene.process(message(message_id="m-7"))
    assert outcome == Synced(Reason.CREATED, {"run_id": "id-of-churn-1"})
    [row] = await scene.rows()
    assert (row.job_arn, row.creation_time) == (arn_of("churn-1"), "2025-11-20T08:40:00.050Z")
    assert (row.state, row.reason, row.unanswered_writes) == (JobState.SYNCED, "created", 0)
    assert (row.target, row.target_ids, row.message_id) == (
        "modeldb-v2",
        {"run_id": "id-of-churn-1"},
        "m-7",
    )
    assert not await scene.is_claimed(path)


async def test_the_mark_is_what_describe_says(scene: FlowScene) -> None:
    scene.jobs.put(
        "Churn-1", arn=arn_of("Churn-1"), CreationTime=CREATED + timedelta(milliseconds=700)
    )
    await scene.process(message(event_body("Churn-1", arn=arn_of("churn-1"))))
    [run] = scene.target.runs
    assert (run.mark.arn, run.mark.creation_time) == (arn_of("churn-1"), "2025-11-20T08:40:00.750Z")


async def test_a_run_that_was_there_already_is_synced_too(scene: FlowScene) -> None:
    async def find(run: TrainingRun, journal: WriteJournal) -> TargetRun:
        created = await scene.target.create(run, journal)
        return type(created)(created=False, ids=created.ids, detail="named otherwise")

    scene.target.script.append(find)
    assert await scene.process() == Synced(
        Reason.FOUND_IN_TARGET, {"run_id": "id-of-churn-1"}, "named otherwise"
    )


async def test_a_job_that_is_done_is_a_duplicate_and_the_target_is_not_touched(
    scene: FlowScene,
) -> None:
    await scene.process()
    before = await scene.rows()
    scene.jobs.asked.clear()
    scene.clock.now += 60
    outcome = await scene.process(message(message_id="m-2", receive_count=2))
    assert outcome == Duplicate(Reason.ALREADY_SYNCED, {"run_id": "id-of-churn-1"})
    assert scene.jobs.asked == [("describe", "churn-1")]
    assert len(scene.target.runs) == 1
    assert await scene.rows() == before


async def test_the_steps_are_timed_and_their_success_is_noted_for_the_right_edge(
    scene: FlowScene,
) -> None:
    scene.jobs.put("churn-1", tags=TAGS)
    await scene.process(message(event_body(Tags=None)))
    assert scene.steps == ["describe", "validate", "sync", "record"]
    for edge, step in [
        (Edge.SAGEMAKER, Step.DESCRIBE),
        (Edge.SAGEMAKER, Step.TAGS),
        (Edge.TARGET, Step.SYNC),
        (Edge.CHECKPOINT, Step.RECORD),
    ]:
        assert scene.breakers[edge].succeeded_for_others(step, "another message", since=0)
        assert not scene.breakers[edge].succeeded_for_others(step, "m-1", since=0)


async def test_a_step_that_fails_is_no_success(scene: FlowScene) -> None:
    scene.target.then_raise(edge_fault())
    await scene.process()
    assert not scene.breakers[Edge.TARGET].succeeded_for_others(
        Step.SYNC, "another message", since=0
    )


# Tags
# ---


async def test_an_event_with_all_tags_needs_no_list_tags(scene: FlowScene) -> None:
    scene.jobs.put("churn-1", tags={})
    assert (await scene.process()).kind == "synced"
    assert scene.jobs.asked == [("describe", "churn-1")]


@pytest.mark.parametrize(
    "event_tags",
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
    scene: FlowScene, event_tags: Mapping[str, str] | None
) -> None:
    scene.jobs.put("churn-1", tags=TAGS | {"MODEL_DB_PROJECT_NAME": "as listed"})
    assert (await scene.process(message(event_body(Tags=event_tags)))).kind == "synced"
    assert scene.target.runs[0].project_name == "as listed"
    assert scene.target.runs[0].all_tags["MODEL_DB_MODEL_NAME"] == "churn-xgb"


async def test_a_job_without_the_sync_tag_as_list_tags_says_is_skipped_and_noted(
    scene: FlowScene, path: Path
) -> None:
    scene.jobs.put("churn-1", tags=without("MODEL_DB_SYNC"))
    outcome = await scene.process(message(event_body(Tags=None)))
    assert isinstance(outcome, Skipped)
    assert outcome.reason is Reason.NOT_TAGGED
    [row] = await scene.rows()
    assert (row.state, row.creation_time) == (JobState.SKIPPED, MARK.creation_time)
    assert not await scene.is_claimed(path)


async def test_a_job_that_was_skipped_is_synced_when_it_is_tagged_later(scene: FlowScene) -> None:
    scene.jobs.put("churn-1", tags={})
    await scene.process(message(event_body(Tags=None)))
    scene.jobs.put("churn-1", tags=TAGS)
    assert (await scene.process(message(event_body(Tags=None), "m-2"))).kind == "synced"


async def test_a_job_with_half_of_its_tags_as_list_tags_says_is_rejected_by_name_of_what_is_missing(
    scene: FlowScene,
) -> None:
    scene.jobs.put("churn-1", tags=without("MODEL_DB_MODEL_TYPE", "MODEL_DB_PROJECT_USER"))
    outcome = await scene.process(message(event_body(Tags={"MODEL_DB_SYNC": "1"})))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.TAGS_INCOMPLETE
    assert {"MODEL_DB_MODEL_TYPE", "MODEL_DB_PROJECT_USER"} <= set(
        outcome.detail.replace(",", "").split()
    )
    [row] = await scene.rows()
    assert (row.state, row.creation_time, row.detail) == (
        JobState.REJECTED,
        MARK.creation_time,
        outcome.detail,
    )
    assert not scene.target.runs


async def test_list_tags_is_asked_with_the_arn_as_describe_writes_it(scene: FlowScene) -> None:
    scene.jobs.put("Churn-1", arn=arn_of("Churn-1"))
    await scene.process(message(event_body("Churn-1", arn=arn_of("churn-1"), Tags=None)))
    assert ("tags", arn_of("Churn-1")) in scene.jobs.asked


@pytest.mark.parametrize(
    "redriven",
    [
        message(attributes={"reason": "target_refused", "detail": "no such project"}),
        message(attributes={"origin": "redrive"}),
        # received too often, and moved back by SQS: nobody has given it attributes
        replace(message(), was_dead_letter=True),
    ],
    ids=["rejected by us", "copied", "moved"],
)
async def test_a_redriven_message_takes_its_tags_from_list_tags_only(
    scene: FlowScene, redriven: Message
) -> None:
    scene.jobs.put("churn-1", tags=TAGS | {"MODEL_DB_PROJECT_NAME": "fixed"})
    await scene.process(redriven)
    assert scene.target.runs[0].project_name == "fixed"


async def test_a_redriven_message_is_judged_by_list_tags(scene: FlowScene) -> None:
    scene.jobs.put("churn-1", tags={})
    outcome = await scene.process(message(attributes={"reason": "target_refused"}))
    assert outcome.reason is Reason.NOT_TAGGED


# Which job is it?
# ---


@pytest.mark.parametrize("elsewhere", [{"account": "999999999999"}, {"region": "eu-west-2"}])
async def test_a_job_of_another_account_or_region_is_rejected_without_a_request(
    scene: FlowScene, elsewhere: dict[str, str]
) -> None:
    outcome = await scene.process(message(event_body(arn=arn_of("churn-1", **elsewhere))))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.FOREIGN_ACCOUNT
    assert not scene.jobs.asked
    [kept] = await scene.checkpoint.rejected_messages()
    assert (kept.message_id, kept.reason) == ("m-1", "foreign_account")


def abroad(number: int, **elsewhere: str) -> Message:
    arn = arn_of(f"abroad-{number}", **(elsewhere or {"account": "999999999999"}))
    return message(event_body(f"abroad-{number}", arn=arn), f"abroad-{number}")


@pytest.mark.parametrize("elsewhere", [{"account": "999999999999"}, {"region": "eu-west-2"}])
async def test_a_queue_of_which_nothing_is_ours_is_held_and_not_emptied(
    scene: FlowScene, elsewhere: dict[str, str]
) -> None:
    outcomes = [await scene.process(abroad(number, **elsewhere)) for number in range(9)]
    assert [outcome.kind for outcome in outcomes] == ["rejected"] * 2 + ["held"] * 7
    assert outcomes[-1].reason is Reason.ACCESS_DENIED
    assert not scene.jobs.asked
    assert len(await scene.checkpoint.rejected_messages()) == 2


async def test_the_first_job_of_ours_lets_foreign_ones_be_rejected(scene: FlowScene) -> None:
    for number in range(3):
        await scene.process(abroad(number))
    assert (await scene.process(abroad(3))).kind == "held"
    await scene.process(message())
    assert (await scene.process(abroad(3))).kind == "rejected"


async def test_a_message_without_an_arn_does_not_prove_the_account(scene: FlowScene) -> None:
    await scene.process(message('{"TrainingJobName": "churn-1"}'))
    outcomes = [await scene.process(abroad(number)) for number in range(3)]
    assert outcomes[-1].kind == "held"


async def test_an_account_that_sts_confirms_is_not_in_doubt(scene: FlowScene) -> None:
    scene.jobs.home = Home(ACCOUNT, "eu-west-1", confirmed=True)
    outcomes = [await scene.process(abroad(number)) for number in range(9)]
    assert {outcome.reason for outcome in outcomes} == {Reason.FOREIGN_ACCOUNT}


async def test_with_an_unknown_account_the_described_arn_is_compared(scene: FlowScene) -> None:
    scene.jobs.home = Home(None, "eu-west-1")
    outcome = await scene.process(
        message(event_body(arn=arn_of("churn-1", account="999999999999")))
    )
    assert outcome.reason is Reason.FOREIGN_ACCOUNT
    assert not scene.target.runs
    assert (await scene.process(message(message_id="m-2"))).kind == "synced"


async def test_a_message_without_an_arn_gets_the_home_account(scene: FlowScene) -> None:
    assert (await scene.process(message('{"TrainingJobName": "churn-1"}'))).kind == "synced"


async def test_a_message_without_an_arn_gets_the_described_one_while_the_account_is_unknown(
    scene: FlowScene,
) -> None:
    scene.jobs.home = Home(None, "eu-west-1")
    outcome = await scene.process(message('{"TrainingJobName": "churn-1"}'))
    assert outcome.kind == "synced"
    [row] = await scene.rows()
    assert (row.job_arn, row.state) == (arn_of("churn-1"), JobState.SYNCED)
    # a message about the same job with its ARN is the same job
    assert (await scene.process(message(message_id="m-2"))).kind == "duplicate"


async def test_a_message_without_an_arn_is_held_while_neither_sts_nor_sagemaker_answers(
    scene: FlowScene,
) -> None:
    scene.jobs.home = Home(None, "eu-west-1")
    scene.jobs.faults["describe"] = deque([edge_fault(Edge.SAGEMAKER)])
    body = '{"TrainingJobName": "churn-1"}'
    assert (await scene.process(message(body))).kind == "held"
    assert (await scene.process(message(body))).kind == "synced"


@pytest.mark.parametrize("seconds", [-1.0, 1.0, 86400.0])
async def test_a_name_that_was_used_again_is_another_job(scene: FlowScene, seconds: float) -> None:
    scene.jobs.put("churn-1", CreationTime=CREATED + timedelta(seconds=seconds))
    outcome = await scene.process()
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.JOB_REPLACED
    assert not scene.target.runs
    [row] = await scene.rows()
    # not the row of the job that has the name now
    assert (row.state, row.creation_time) == (JobState.REJECTED, "")


@pytest.mark.parametrize("seconds", [-0.999, -0.05, 0.0, 0.949, 0.999])
async def test_within_a_second_it_is_the_same_job(scene: FlowScene, seconds: float) -> None:
    scene.jobs.put("churn-1", CreationTime=CREATED + timedelta(seconds=seconds))
    assert (await scene.process()).kind == "synced"


async def test_an_event_without_a_creation_time_matches_the_described_job(scene: FlowScene) -> None:
    assert (await scene.process(message(event_body(CreationTime=None)))).kind == "synced"
    assert scene.target.runs[0].mark == MARK


async def test_an_answer_about_another_name_is_not_this_job(scene: FlowScene) -> None:
    scene.jobs.put("churn-1", arn=arn_of("churn-2"), TrainingJobName="churn-2")
    assert (await scene.process()).reason is Reason.JOB_REPLACED
    assert not scene.target.runs


async def test_a_name_that_was_used_again_is_not_done_because_its_former_job_is(
    scene: FlowScene,
) -> None:
    await scene.process()
    later = CREATED + timedelta(days=1)
    scene.jobs.put("churn-1", CreationTime=later)
    second = event_body(CreationTime=round(later.timestamp() * 1000))
    assert (await scene.process(message(second, "m-2"))).kind == "synced"
    assert {row.creation_time for row in await scene.rows()} == {
        MARK.creation_time,
        mark_of("churn-1", later).creation_time,
    }


async def test_a_job_that_is_gone_is_rejected_under_its_arn(scene: FlowScene) -> None:
    scene.jobs.faults["describe"] = deque([JobRefused(Reason.JOB_GONE, "no such job")])
    assert (await scene.process()) == Rejected(Reason.JOB_GONE, "no such job")
    [row] = await scene.rows()
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
async def test_other_events_and_statuses_are_skipped_without_request_or_record(
    scene: FlowScene, body: str, reason: Reason
) -> None:
    outcome = await scene.process(message(body))
    assert (outcome.kind, outcome.reason) == ("skipped", reason)
    assert not scene.jobs.asked
    assert not await scene.rows()


async def test_another_status_of_the_described_job_leaves_no_row(
    scene: FlowScene, path: Path
) -> None:
    scene.jobs.put("churn-1", TrainingJobStatus="Stopped")
    outcome = await scene.process()
    assert (outcome.kind, outcome.reason) == ("skipped", Reason.STATUS_NOT_CONFIGURED)
    assert not await scene.rows()
    assert not await scene.is_claimed(path)


async def test_the_statuses_are_those_of_the_configuration(path: Path) -> None:
    async with flow_scene(path, rules=FlowRules(statuses=frozenset({"Stopped"}))) as scene:
        scene.jobs.put("churn-1", TrainingJobStatus="Stopped")
        assert (
            await scene.process(message(event_body(TrainingJobStatus="Stopped")))
        ).kind == "synced"
        assert (await scene.process(message(event_body(), "m-2"))).kind == "skipped"


@pytest.mark.parametrize("status", ["InProgress", "Stopping", ""])
async def test_a_job_that_still_goes_on_is_deferred(
    scene: FlowScene, path: Path, status: str
) -> None:
    scene.jobs.put("churn-1", TrainingJobStatus=status)
    for attempts in (1, 2):
        outcome = await scene.process(message(receive_count=attempts))
        assert (outcome.kind, outcome.reason) == ("deferred", Reason.NOT_TERMINAL)
        [row] = await scene.rows()
        assert (row.state, row.reason, row.attempts) == (
            JobState.RELEASED,
            "not_terminal",
            attempts,
        )
    assert not await scene.is_claimed(path)
    assert not scene.target.runs


async def test_a_body_that_cannot_be_understood_is_recorded_by_its_message(
    scene: FlowScene,
) -> None:
    outcome = await scene.process(message("this is no event", "m-9"))
    assert (outcome.kind, outcome.reason) == ("rejected", Reason.MALFORMED_BODY)
    [kept] = await scene.checkpoint.rejected_messages()
    assert (kept.message_id, kept.job_arn, kept.reason) == ("m-9", "", "malformed_body")
    assert not await scene.rows()


async def test_what_another_process_works_on_is_deferred_until_its_lease_ends(
    scene: FlowScene, path: Path
) -> None:
    other = await open_sqlite_checkpoint(path, TARGET)
    assert isinstance(await other.claim(arn_of("churn-1"), 42.0), Claim)
    outcome = await scene.process()
    assert isinstance(outcome, Deferred)
    assert (outcome.reason, outcome.delay_seconds) == (Reason.CLAIMED_ELSEWHERE, 42.0)
    assert not scene.jobs.asked
    assert not await scene.rows()
    await other.aclose()


# Whose fault it is
# ---


async def test_the_targets_own_verdict_is_a_rejection(scene: FlowScene) -> None:
    scene.target.then_raise(JobRefused(Reason.TARGET_REFUSED, "name taken"), begun=1, answered=1)
    assert await scene.process() == Rejected(Reason.TARGET_REFUSED, "name taken")
    [row] = await scene.rows()
    assert (row.state, row.reason, row.detail) == (
        JobState.REJECTED,
        "target_refused",
        "name taken",
    )


async def test_a_fault_of_the_job_is_a_deferral_with_the_delay_that_the_edge_names(
    scene: FlowScene,
) -> None:
    scene.target.then_raise(JobFault(Reason.NAME_LOCKED, "locked", delay_seconds=17.0))
    assert await scene.process() == Deferred(Reason.NAME_LOCKED, "locked", 17.0)
    [row] = await scene.rows()
    assert (row.state, row.reason, row.attempts) == (JobState.RELEASED, "name_locked", 1)


@pytest.mark.parametrize("edge", [Edge.TARGET, Edge.SAGEMAKER])
async def test_what_an_edge_raises_and_nobody_foresees_holds_the_message(
    scene: FlowScene, edge: Edge
) -> None:
    if edge is Edge.TARGET:
        scene.target.then_raise(FileNotFoundError("hunter2"))
    else:
        scene.jobs.faults["describe"] = deque([FileNotFoundError("hunter2")])
    with capture_logs() as logs:
        outcome = await scene.process()
    assert isinstance(outcome, Held)
    assert (outcome.fault.edge, outcome.reason) == (edge, Reason.NOT_THE_API)
    assert outcome.fault.curable
    assert "FileNotFoundError" in outcome.detail
    assert "hunter2" not in outcome.detail + str(logs)


async def test_a_bug_costs_the_message_a_retry_and_quotes_nothing(
    scene: FlowScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "training_run", _raises(ZeroDivisionError("hunter2")))
    outcome = await scene.process()
    assert (outcome.kind, outcome.reason) == ("deferred", Reason.INTERNAL_ERROR)
    assert "ZeroDivisionError" in outcome.detail
    assert "hunter2" not in outcome.detail
    [row] = await scene.rows()
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
    scene: FlowScene, path: Path, where: str, edge: Edge
) -> None:
    fault = EdgeFault(edge, Reason.THROTTLED, "slow down", curable=False)
    if where == "sync":
        scene.target.then_raise(fault)
    elif where == "begin_write":
        scene.fail_checkpoint("begin_write", fault)
    else:
        scene.jobs.faults[where] = deque([fault])
    delivery = scene.receive(message(event_body(Tags=None)))
    outcome = await scene.flow.process(delivery)
    assert outcome == Held(fault)
    assert delivery.job.claim is not None
    assert await scene.is_claimed(path)
    assert not await scene.rows()
    assert (await scene.flow.process(delivery)).kind == "synced"


@pytest.mark.parametrize("outcome", ["synced", "rejected", "deferred", "skipped", "duplicate"])
async def test_no_outcome_counts_before_it_is_recorded(scene: FlowScene, outcome: str) -> None:
    record = f"record_{outcome}"
    if outcome == "duplicate":
        await scene.process(message(message_id="m-0"))
        record = "release"
    elif outcome == "rejected":
        scene.target.then_raise(JobRefused(Reason.TARGET_REFUSED, "no"))
        scene.target.then_raise(JobRefused(Reason.TARGET_REFUSED, "no"))
    elif outcome == "deferred":
        scene.jobs.put("churn-1", TrainingJobStatus="InProgress")
    elif outcome == "skipped":
        scene.jobs.put("churn-1", tags={})
    scene.fail_checkpoint(record, edge_fault(Edge.CHECKPOINT, Reason.STORAGE))
    delivery = scene.receive(message(event_body(Tags=None if outcome == "skipped" else TAGS)))
    held = await scene.flow.process(delivery)
    assert isinstance(held, Held)
    assert (held.fault.edge, held.reason) == (Edge.CHECKPOINT, Reason.STORAGE)
    assert (await scene.flow.process(delivery)).kind == outcome


async def test_a_claim_lost_before_the_record_is_a_deferral(scene: FlowScene, path: Path) -> None:
    async def slow(run: TrainingRun, journal: WriteJournal) -> TargetRun:
        written = await scene.target.create(run, journal)
        scene.clock.now += 61
        assert not await scene.is_claimed(path)  # another process takes the claim
        return written

    scene.target.script.append(slow)
    outcome = await scene.process()
    assert (outcome.kind, outcome.reason) == ("deferred", Reason.LEASE_LOST)
    [row] = await scene.rows()
    assert (row.state, row.unanswered_writes) == (JobState.WRITING, 1)


# Ambiguous writes
# ---


async def test_a_fresh_event_of_a_job_that_ended_under_this_checkpoint_needs_no_look_up(
    scene: FlowScene,
) -> None:
    await scene.process()
    assert scene.target.attempts == [(0, False)]


@dataclass
class Doubt:
    """What is not as with a fresh event of a job that ended under an old checkpoint."""

    age_seconds: float = 2 * DAY
    receive_count: int = 1
    envelope: dict[str, Any] = field(default_factory=dict)
    body: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    was_dead_letter: bool = False
    sent_after_seconds: float = 0
    ended: datetime | None = ENDED
    created_at: float | None = None


DETAIL_ALONE = json.dumps(json.loads(event_body())["detail"])
BY_HAND = [{member: None} for member in ("version", "id", "account", "region", "resources", "time")]
AN_HOUR_EARLIER = {"time": "2025-11-20T08:00:00Z"}
DOUBTS = {
    "a young checkpoint": Doubt(age_seconds=DAY - 1),
    "received before": Doubt(receive_count=2),
    "replayed": Doubt(envelope={"replay-name": "again"}),
    "the detail alone": Doubt(body=DETAIL_ALONE),
    "a name alone": Doubt(body=json.dumps({"TrainingJobName": "churn-1"})),
    **{f"without {next(iter(each))}": Doubt(envelope=each) for each in BY_HAND},
    "redriven by us": Doubt(attributes={"reason": "tags_incomplete"}),
    "moved back by SQS": Doubt(was_dead_letter=True),
    "sent a day after the event": Doubt(sent_after_seconds=DAY),
    "sent before the event": Doubt(sent_after_seconds=-DAY / 24),
    "an event of before the checkpoint": Doubt(envelope=AN_HOUR_EARLIER),
    "ended before the checkpoint": Doubt(ended=datetime(2025, 11, 20, 8, 44, tzinfo=UTC)),
    "ended long before the event": Doubt(ended=datetime(2025, 11, 20, 8, 45, tzinfo=UTC)),
    "no end known": Doubt(ended=None),
    "made by a clock of 1970": Doubt(created_at=60.0),
    "made by a clock ahead of now": Doubt(created_at=CREATED.timestamp() + 900 * DAY),
    "made later than it was sent": Doubt(created_at=ENDED.timestamp() + 1),
    "the clock is behind": Doubt(age_seconds=0, created_at=CREATED.timestamp() - 40 * DAY),
}


@pytest.mark.parametrize("doubt", DOUBTS.values(), ids=DOUBTS.keys())
async def test_a_job_that_the_checkpoint_cannot_vouch_for_is_looked_up_first(
    path: Path, doubt: Doubt
) -> None:
    async with flow_scene(path, age_seconds=doubt.age_seconds) as scene:
        scene.jobs.put("churn-1", LastModifiedTime=doubt.ended)
        if doubt.created_at is not None:
            scene.checkpoint._database.created_at = doubt.created_at
        received = message(
            doubt.body or event_body(envelope=doubt.envelope),
            receive_count=doubt.receive_count,
            attributes=doubt.attributes,
            sent_at=ENDED.timestamp() + doubt.sent_after_seconds,
        )
        await scene.process(replace(received, was_dead_letter=doubt.was_dead_letter))
        assert scene.target.attempts == [(0, True)]


async def test_a_job_that_ended_before_the_checkpoint_was_opened_is_looked_up_first(
    scene: FlowScene, path: Path
) -> None:
    """The file may be an older copy, put back while no daemon ran."""
    await scene.checkpoint.aclose()
    again = await open_sqlite_checkpoint(path, TARGET)
    again._database.created_at = scene.checkpoint.created_at
    scene.flow._checkpoint = again
    await scene.process()
    assert scene.target.attempts == [(0, True)]
    await again.aclose()


async def test_the_row_of_a_refused_write_does_not_save_the_look_up(scene: FlowScene) -> None:
    """It may be of an older copy of the checkpoint: what came after it is not in it."""
    scene.target.then_raise(JobFault(Reason.TARGET_FAULT, "refused"), begun=1, answered=1)
    await scene.process()
    await scene.process(message(receive_count=2))
    assert scene.target.attempts == [(0, False), (0, True)]


async def test_unanswered_writes_survive_a_hold_and_reach_the_checkpoint(scene: FlowScene) -> None:
    scene.target.then_raise(edge_fault(), begun=2, answered=1)
    scene.target.then_raise(JobFault(Reason.TARGET_FAULT, "no answer again"), begun=1)
    delivery = scene.receive()
    assert (await scene.flow.process(delivery)).kind == "held"
    assert delivery.job.outcome_unknown
    assert (await scene.flow.process(delivery)).kind == "deferred"
    # the checkpoint alone would have said 2
    assert [unanswered for unanswered, _ in scene.target.attempts] == [0, 1]
    [row] = await scene.rows()
    assert (row.state, row.unanswered_writes) == (JobState.WRITING, 2)
    scene.in_flight.finish(delivery, Deferred(Reason.TARGET_FAULT))
    scene.in_flight.remove(delivery)
    assert (await scene.process(message(receive_count=2))).kind == "synced"
    assert scene.target.attempts[-1][0] == 2
    assert (await scene.rows())[0].unanswered_writes == 0


async def test_a_deferral_without_an_open_write_releases_the_row(scene: FlowScene) -> None:
    scene.target.then_raise(JobFault(Reason.TARGET_FAULT, "refused"), begun=1, answered=1)
    await scene.process()
    [row] = await scene.rows()
    assert (row.state, row.unanswered_writes) == (JobState.RELEASED, 0)


async def test_a_deferral_before_the_target_was_asked_leaves_the_open_writes_of_others(
    scene: FlowScene,
) -> None:
    scene.target.then_raise(JobFault(Reason.TARGET_FAULT, "no answer"), begun=1)
    await scene.process()
    scene.jobs.faults["tags"] = deque([JobFault(Reason.SAGEMAKER_FAULT, "odd")])
    await scene.process(message(event_body(Tags=None), receive_count=2))
    [row] = await scene.rows()
    assert (row.state, row.unanswered_writes, row.attempts) == (JobState.WRITING, 1, 2)


async def test_a_description_without_a_creation_time_puts_its_job_off(scene: FlowScene) -> None:
    """Without it there is no mark, and a job without a mark would be recorded twice."""
    scene.jobs.put("churn-1", CreationTime=None)
    outcome = await scene.handle()
    assert (outcome.kind, outcome.reason) == ("deferred", Reason.SAGEMAKER_FAULT)
    assert not scene.target.runs


async def test_a_bug_is_logged_with_its_step_and_traceback(
    scene: FlowScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "training_run", _raises(ZeroDivisionError("division")))
    with capture_logs() as logs:
        assert (await scene.handle()).reason is Reason.INTERNAL_ERROR
    [line] = log_lines(logs, "internal error")
    assert (line["log_level"], line["step"]) == ("error", "validate")
    assert isinstance(line["exc_info"], ZeroDivisionError)


def _raises(error: Exception) -> Callable[..., object]:
    def call(*_arguments: object) -> object:
        raise error

    return call


@pytest.mark.parametrize("ended", ["deferred", "rejected", "skipped"])
async def test_a_row_of_a_job_that_was_never_written_vouches_for_nothing(
    path: Path, ended: str
) -> None:
    """A young checkpoint got a row at the first delivery; at the second it still cannot know what a
    lost one knew.
    """
    async with flow_scene(path, age_seconds=60) as scene:
        match ended:
            case "deferred":
                scene.target.then_raise(JobFault(Reason.TARGET_FAULT, "the look-up failed"))
            case "rejected":
                scene.jobs.put("churn-1", tags={"MODEL_DB_SYNC": ""})
            case "skipped":
                scene.jobs.put("churn-1", tags={})
        await scene.process(message(event_body(Tags=None)))
        scene.jobs.put("churn-1", tags=TAGS)
        await scene.process(message(event_body(Tags=None), receive_count=2))
        unanswered, looks_first = scene.target.attempts[-1]
        assert (unanswered, looks_first) == (0, True)


async def test_what_another_process_began_while_the_lease_was_lost_is_known(
    scene: FlowScene, path: Path
) -> None:
    """Held, lease gone, another process began a create and died: its unanswered write is in the
    row, not in our memory.
    """
    scene.target.then_raise(edge_fault(), begun=1, answered=1)
    delivery = scene.receive()
    assert (await scene.flow.process(delivery)).kind == "held"
    scene.clock.now += 61
    other = await open_sqlite_checkpoint(path, TARGET)
    claim = await other.claim(arn_of("churn-1"), 60.0)
    assert isinstance(claim, Claim)
    await other.begin_write(claim, mark_of("churn-1"), "churn-1", lock_name="run/x")
    await other.aclose()
    delivery.lose_claim()
    await scene.flow.process(delivery)
    unanswered, _ = scene.target.attempts[-1]
    assert unanswered > 0


async def test_a_run_that_could_not_be_recorded_is_looked_up_before_it_is_written_again(
    scene: FlowScene,
) -> None:
    """The create was answered, then the disk was full: meanwhile the run may have been renamed
    or the project's tag changed.
    """
    scene.fail_checkpoint("record_synced", edge_fault(Edge.CHECKPOINT, Reason.STORAGE))
    delivery = scene.receive()
    assert (await scene.flow.process(delivery)).kind == "held"
    await scene.flow.process(delivery)
    _, looks_first = scene.target.attempts[-1]
    assert looks_first


async def test_a_bug_while_an_outcome_is_recorded_costs_the_message_a_retry(
    scene: FlowScene,
) -> None:
    scene.fail_checkpoint("record_synced", KeyError("a bug"))
    outcome = await scene.process()
    assert isinstance(outcome, Deferred)
    assert outcome.reason is Reason.INTERNAL_ERROR


async def test_a_job_claimed_elsewhere_during_a_hold_waits_for_the_others_lease(
    scene: FlowScene, path: Path
) -> None:
    scene.target.then_raise(edge_fault())
    delivery = scene.receive()
    await scene.flow.process(delivery)
    scene.clock.now += 61
    other = await open_sqlite_checkpoint(path, TARGET)
    await other.claim(arn_of("churn-1"), 42.0)
    outcome = await scene.flow.process(delivery)
    await other.aclose()
    assert isinstance(outcome, Deferred)
    assert (outcome.reason, outcome.delay_seconds) == (Reason.CLAIMED_ELSEWHERE, 42.0)


async def test_a_foreign_job_is_remembered_by_its_arn(scene: FlowScene) -> None:
    await scene.process(message(event_body(arn=arn_of("churn-1", account="999999999999"))))
    [row] = await scene.rows()
    assert (row.job_arn, row.reason) == (
        arn_of("churn-1", account="999999999999"),
        Reason.FOREIGN_ACCOUNT,
    )
