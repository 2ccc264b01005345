"""A job that is being deleted when the event of its end is handled: what is in hand is synced, and
nothing is taken for another job's.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from daemon.checkpoint.ports import JobState
from daemon.errors import JobRefused
from daemon.outcome import Deferred, Duplicate, Rejected, Skipped, Synced
from daemon.pipeline.flow import FlowRules
from daemon.reasons import Reason
from tests.support.flow_scene import (
    CREATED,
    ENDED,
    TAGS,
    edge_fault,
    event_body,
    flow_scene,
    message,
    without,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.flow_scene import FlowScene

MODEL = {"S3ModelArtifacts": "s3://models/churn-1/model.tar.gz"}
ALL: dict[str, Any] = {
    "TrainingJobStatus": "Deleting",
    "SecondaryStatus": "Deleting",
    "TrainingStartTime": CREATED,
    "TrainingEndTime": ENDED,
    "ModelArtifacts": MODEL,
    "FinalMetricDataList": [{"MetricName": "train:auc", "Value": 0.5, "Timestamp": ENDED}],
}
CREATED_MS = round(CREATED.timestamp() * 1000)
ALL_STATUSES = frozenset({"Completed", "Failed", "Stopped"})
GONE = JobRefused(Reason.JOB_GONE, "no such job")


@pytest.mark.parametrize(
    "members",
    [
        ALL,
        {**ALL, "SecondaryStatus": "Completed"},
        {**ALL, "SecondaryStatus": "Stopping"},
        {**ALL, "SecondaryStatus": None},
        {**ALL, "ModelArtifacts": None, "FinalMetricDataList": None},
        {**ALL, "TrainingEndTime": None},
        {"TrainingJobStatus": "Deleting"},
        {**ALL, "TrainingJobStatus": "Deleted"},
        {**ALL, "TrainingJobStatus": "PendingDeletion"},
        {**ALL, "CreationTime": CREATED + timedelta(milliseconds=900)},
    ],
    ids=range(10),
)
async def test_a_completed_job_that_is_being_deleted_is_synced_as_completed(
    scene: FlowScene, members: dict[str, Any]
) -> None:
    scene.jobs.put("churn-1", **members)
    outcome = await scene.process()
    assert outcome == Synced(Reason.CREATED, {"run_id": "id-of-churn-1"})
    [run] = scene.target.runs
    assert (run.status, run.secondary_status) == ("Completed", members.get("SecondaryStatus"))
    assert [metric.value for metric in run.metrics] == [
        item["Value"] for item in members.get("FinalMetricDataList") or ()
    ]
    [row] = await scene.rows()
    assert (row.state, row.reason) == (JobState.SYNCED, "created")


@pytest.mark.parametrize("status", sorted(ALL_STATUSES))
async def test_with_other_statuses_configured_the_run_has_the_events(
    path: Path, status: str
) -> None:
    async with flow_scene(path, rules=FlowRules(statuses=ALL_STATUSES)) as scene:
        scene.jobs.put("churn-1", **ALL)
        await scene.process(message(event_body(TrainingJobStatus=status)))
        assert [run.status for run in scene.target.runs] == [status]


@pytest.mark.parametrize("status", ["Failed", "Stopped", "Deleting", "InProgress"])
async def test_an_event_in_another_status_stays_skipped(scene: FlowScene, status: str) -> None:
    scene.jobs.put("churn-1", **ALL)
    outcome = await scene.process(message(event_body(TrainingJobStatus=status)))
    assert outcome == Skipped(Reason.STATUS_NOT_CONFIGURED, f"churn-1 is {status}")
    assert not scene.target.runs


async def test_it_is_synced_once(scene: FlowScene) -> None:
    scene.jobs.put("churn-1", **ALL)
    await scene.process()
    assert await scene.process(message(message_id="m-2", receive_count=2)) == Duplicate(
        Reason.ALREADY_SYNCED, {"run_id": "id-of-churn-1"}
    )
    assert scene.target.created == ["churn-1"]


async def test_a_job_that_was_synced_and_is_then_deleted_is_a_duplicate(scene: FlowScene) -> None:
    await scene.process()
    scene.jobs.put("churn-1", **ALL)
    outcome = await scene.process(message(message_id="m-2", receive_count=2))
    assert outcome.kind == "duplicate"


@pytest.mark.parametrize("seconds", [-3600, -2, 2, 3600])
async def test_the_deletion_of_another_job_of_this_name_is_not_taken_for_this_one(
    scene: FlowScene, seconds: int
) -> None:
    scene.jobs.put("churn-1", **ALL | {"CreationTime": CREATED + timedelta(seconds=seconds)})
    outcome = await scene.process()
    assert (outcome.kind, outcome.reason) == ("rejected", Reason.JOB_REPLACED)
    assert not scene.target.runs


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        (ALL, "synced"),
        ({**ALL, "SecondaryStatus": "Completed", "TrainingEndTime": None}, "synced"),
        ({**ALL, "TrainingEndTime": None}, "deferred"),
        ({**ALL, "ModelArtifacts": None}, "deferred"),
        # this job failed: the event is of an earlier one
        ({**ALL, "SecondaryStatus": "Failed"}, "skipped"),
        ({"TrainingJobStatus": "Deleting"}, "deferred"),
    ],
    ids=range(6),
)
async def test_without_a_creation_time_the_description_must_show_the_end(
    scene: FlowScene, members: dict[str, Any], kind: str
) -> None:
    scene.jobs.put("churn-1", **members)
    assert (await scene.process(message(event_body(CreationTime=None)))).kind == kind
    assert [run.status for run in scene.target.runs] == ["Completed"] * (kind == "synced")


@pytest.mark.parametrize("created", [CREATED_MS, None])
@pytest.mark.parametrize(
    ("secondary", "kind"),
    [("Completed", "synced"), ("Failed", "skipped"), ("Deleting", "deferred"), (None, "deferred")],
)
async def test_without_a_status_in_the_message_the_secondary_one_tells_it(
    scene: FlowScene, created: int | None, secondary: str | None, kind: str
) -> None:
    scene.jobs.put("churn-1", **ALL | {"SecondaryStatus": secondary})
    body = event_body(TrainingJobStatus=None, CreationTime=created)
    outcome = await scene.process(message(body))
    assert outcome.kind == kind
    if isinstance(outcome, Deferred):
        assert outcome.reason is Reason.NOT_TERMINAL
        assert outcome.detail == "churn-1 is Deleting according to DescribeTrainingJob"


@pytest.mark.parametrize("status", ["InProgress", "Stopping", ""])
async def test_a_description_that_lags_is_waited_for_and_then_synced_whole(
    scene: FlowScene, status: str
) -> None:
    metrics = {"FinalMetricDataList": ALL["FinalMetricDataList"]}
    scene.jobs.put("churn-1", TrainingJobStatus=status, SecondaryStatus="Uploading")
    assert (await scene.process()).kind == "deferred"
    scene.jobs.put("churn-1", **ALL | metrics)
    assert (await scene.process(message(receive_count=2))).kind == "synced"
    [run] = scene.target.runs
    assert [metric.name for metric in run.metrics] == ["train:auc"]


# Tags of a job that is being deleted
# ---


async def test_complete_tags_of_the_event_need_no_list_tags(scene: FlowScene) -> None:
    scene.jobs.put("churn-1", **ALL)
    scene.jobs.faults["tags"] = deque([GONE])
    assert (await scene.process()).kind == "synced"
    assert scene.jobs.asked == [("describe", "churn-1")]


async def test_tags_that_the_event_lacks_are_listed_while_they_can_be(scene: FlowScene) -> None:
    scene.jobs.put("churn-1", **ALL)
    assert (await scene.process(message(event_body(Tags=None)))).kind == "synced"


@pytest.mark.parametrize("tags", [None, {}, without("MODEL_DB_MODEL_TYPE")])
async def test_tags_that_nobody_has_any_more_are_a_job_that_is_gone(
    scene: FlowScene, tags: dict[str, str] | None
) -> None:
    scene.jobs.put("churn-1", **ALL)
    scene.jobs.faults["tags"] = deque([GONE])
    outcome = await scene.process(message(event_body(Tags=tags)))
    assert outcome == Rejected(Reason.JOB_GONE, "no such job")
    assert not scene.target.runs


@pytest.mark.parametrize("status", ["Deleting", "Completed"])
async def test_a_redriven_message_has_no_tags_but_those_that_are_listed(
    scene: FlowScene, status: str
) -> None:
    scene.jobs.put("churn-1", **ALL | {"TrainingJobStatus": status})
    scene.jobs.faults["tags"] = deque([GONE])
    redriven = message(attributes={"reason": "target_refused"}, receive_count=2)
    assert await scene.process(redriven) == Rejected(Reason.JOB_GONE, "no such job")
    assert not scene.target.runs


async def test_a_redriven_message_takes_the_listed_tags_of_a_job_that_is_being_deleted(
    scene: FlowScene,
) -> None:
    scene.jobs.put("churn-1", tags=TAGS | {"MODEL_DB_MODEL_NAME": "churn-2"}, **ALL)
    await scene.process(message(attributes={"reason": "target_refused"}, receive_count=2))
    assert [run.model_name for run in scene.target.runs] == ["churn-2"]


async def test_a_write_that_has_begun_is_completed_with_the_tags_it_began_with(
    scene: FlowScene,
) -> None:
    # the event's own tags, of another project, would make half a run in each of two projects
    scene.jobs.put("churn-1", tags=TAGS | {"MODEL_DB_PROJECT_NAME": "moved"}, **ALL)
    scene.target.then_raise(edge_fault(), begun=1)
    delivery = scene.receive(message(attributes={"reason": "target_refused"}, receive_count=2))
    assert (await scene.flow.process(delivery)).kind == "held"
    scene.jobs.faults["tags"] = deque([GONE])
    assert (await scene.flow.process(delivery)).kind == "synced"
    assert [run.project_name for run in scene.target.runs] == ["moved", "moved"]


async def test_the_end_of_a_job_is_as_described(scene: FlowScene) -> None:
    later = ENDED + timedelta(minutes=3)
    scene.jobs.put("churn-1", **ALL | {"LastModifiedTime": later})
    await scene.process()
    [run] = scene.target.runs
    assert isinstance(run.end_time, datetime)
    assert (run.end_time, run.last_modified_time) == (ENDED, later)
