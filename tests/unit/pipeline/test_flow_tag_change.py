"""A change of tags as a second trigger: a job that is tagged after its end is synced."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from daemon.outcome import Rejected, Skipped, Synced
from daemon.pipeline.flow import FlowRules
from daemon.reasons import Reason
from daemon.training_job.event import MalformedBody, OtherEvent, TrainingJobEvent, parse_event
from daemon.training_job.tags import TagKeys
from tests.support.flow_scene import (
    TAGS,
    a_while,
    arn_of,
    event_body,
    flow_scene,
    message,
    without,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.flow_scene import FlowScene

ARN = arn_of("churn-1")


def tag_change(arn: str = ARN, **changes: Any) -> dict[str, Any]:
    """As the Tag Editor's user guide shows it."""
    _, _, _, region, account, _ = arn.split(":", 5)
    detail = {
        "changed-tag-keys": ["MODEL_DB_SYNC", "MODEL_DB_MODEL_TYPE"],
        "tags": dict(TAGS),
        "service": "sagemaker",
        "resource-type": "training-job",
        "version": 7.0,
    } | {member.replace("_", "-"): value for member, value in changes.items()}
    return {
        "version": "0",
        "id": "bddcf1d6-0251-35a1-aab0-adc1fb47c11c",
        "detail-type": "Tag Change on Resource",
        "source": "aws.tag",
        "account": account,
        "time": "2025-11-21T09:00:00Z",
        "region": region,
        "resources": [arn],
        "detail": {name: value for name, value in detail.items() if value != "absent"},
    }


def body(**changes: Any) -> str:
    return json.dumps(tag_change(**changes))


async def test_a_job_that_was_skipped_is_synced_when_its_tags_change(scene: FlowScene) -> None:
    scene.jobs.put("churn-1", tags={})
    skipped = await scene.process(message(event_body(Tags=None)))
    assert skipped.reason is Reason.NOT_TAGGED
    scene.jobs.put("churn-1")
    assert isinstance(await scene.process(message(body(), "m-2")), Synced)
    again = await scene.process(message(body(), "m-3"))
    assert (again.kind, again.reason) == ("duplicate", Reason.ALREADY_SYNCED)
    assert len(scene.target.runs) == 1


async def test_a_job_that_was_rejected_for_its_tags_is_synced_when_they_are_complete(
    scene: FlowScene,
) -> None:
    scene.jobs.put("churn-1", tags=without("MODEL_DB_MODEL_TYPE"))
    rejected = await scene.process(message(event_body(Tags=None)))
    assert rejected.reason is Reason.TAGS_INCOMPLETE
    scene.jobs.put("churn-1")
    change = body(changed_tag_keys=["MODEL_DB_MODEL_TYPE"])
    assert isinstance(await scene.process(message(change, "m-2")), Synced)


async def test_its_tags_are_those_of_list_tags(scene: FlowScene) -> None:
    """Of several changes, one after another, each event has the tags of its moment."""
    scene.jobs.put("churn-1", tags=TAGS | {"MODEL_DB_PROJECT_NAME": "as listed"})
    await scene.process(message(body()))
    assert scene.target.runs[0].project_name == "as listed"


@pytest.mark.parametrize("status", ["InProgress", "Stopping", "Stopped", "Failed"])
async def test_a_job_that_has_not_ended_well_is_left_to_its_own_event(
    scene: FlowScene, status: str
) -> None:
    """Deferred, it would be a dead letter long before a job of five days has ended."""
    scene.jobs.put("churn-1", TrainingJobStatus=status)
    outcome = await scene.process(message(body()))
    assert (outcome.kind, outcome.reason) == ("skipped", Reason.STATUS_NOT_CONFIGURED)
    assert not await scene.rows()
    scene.jobs.put("churn-1")
    assert isinstance(await scene.process(message(event_body(Tags=None), "m-2")), Synced)


def test_it_is_no_proof_that_the_job_is_new() -> None:
    """The change of a tag says nothing of when the job ended."""
    event = parse_event(body())
    assert isinstance(event, TrainingJobEvent)
    assert not event.whole
    assert event.event_time is not None


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tags": "absent"},
        {"changed_tag_keys": ["team"]},
        {"changed_tag_keys": "absent"},
        {"changed_tag_keys": "MODEL_DB_SYNC"},
        {"tags": [{"Key": "MODEL_DB_SYNC", "Value": "true"}]},
        {"tags": [{"key": "MODEL_DB_SYNC", "value": "true"}]},
        {"tags": {"MODEL_DB_SYNC": None}},
        {"tags": None},
        {"service": "SageMaker", "resource_type": "TrainingJob"},
        {"service": "absent", "resource_type": "absent"},
        {"resource_type": "training_job", "version": "7"},
        {"tags": None, "changedTagKeys": ["MODEL_DB_SYNC"], "changed_tag_keys": None},
    ],
)
async def test_a_change_that_concerns_the_sync_tag_in_any_form(
    scene: FlowScene, changes: dict[str, Any]
) -> None:
    assert isinstance(await scene.process(message(body(**changes))), Synced)


@pytest.mark.parametrize(
    "changes",
    [
        {"tags": {"team": "churn"}, "changed_tag_keys": ["team"]},
        {"tags": {}, "changed_tag_keys": ["MODEL_DB_SYNC"]},
        {"tags": "absent", "changed_tag_keys": ["team"]},
        {"tags": {"model_db_sync": "true"}},
        {"arn": "arn:aws:ec2:eu-west-1:123456789012:instance/i-1"},
        {"arn": "arn:aws:sagemaker:eu-west-1:123456789012:endpoint/churn"},
        {"arn": "arn:aws:sagemaker:eu-west-1:123456789012:hyper-parameter-tuning-job/churn"},
    ],
)
async def test_other_changes_of_tags_cost_no_call(
    scene: FlowScene, changes: dict[str, Any]
) -> None:
    outcome = await scene.process(message(body(**changes)))
    assert (outcome.kind, outcome.reason) == ("skipped", Reason.OTHER_EVENT)
    assert not scene.jobs.asked
    assert not await scene.rows()


async def test_the_sync_tag_is_the_configured_one(path: Path) -> None:
    rules = FlowRules(tag_keys=TagKeys(sync="team"))
    async with flow_scene(path, rules=rules) as scene:
        assert isinstance(await scene.process(message(body())), Skipped)
        scene.jobs.put("churn-1", tags=TAGS | {"team": "churn"})
        change = body(tags={"team": "churn"})
        assert isinstance(await scene.process(message(change, "m-2")), Synced)


@pytest.mark.parametrize("changes", [{"tags": 7, "changed_tag_keys": {}}, {"tags": "x"}])
def test_a_change_in_another_form_names_its_job_and_its_keys_or_is_rejected(
    changes: dict[str, Any],
) -> None:
    event = parse_event(body(**({"changed_tag_keys": "absent"} | changes)))
    if "changed_tag_keys" in changes:
        assert isinstance(event, TrainingJobEvent)
        assert event.changed_tags == frozenset()
    else:
        assert isinstance(event, MalformedBody)
        assert "neither tags nor changed-tag-keys" in event.detail


def test_several_jobs_in_one_change_are_rejected() -> None:
    event = parse_event(json.dumps(tag_change() | {"resources": [ARN, arn_of("churn-2")]}))
    assert isinstance(event, MalformedBody)
    assert "churn-2" in event.detail


def test_events_of_tags_of_another_source_are_other() -> None:
    assert isinstance(parse_event(json.dumps(tag_change() | {"source": "acme.tag"})), OtherEvent)


async def test_a_job_of_another_account_is_rejected(scene: FlowScene) -> None:
    outcome = await scene.process(message(body(arn=ARN.replace("123456789012", "210987654321"))))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.FOREIGN_ACCOUNT


@pytest.mark.parametrize("tag_change_first", [True, False])
async def test_the_event_of_the_end_and_a_change_of_tags_do_not_share_an_outcome(
    scene: FlowScene,
    tag_change_first: bool,  # noqa: FBT001 - both orders
) -> None:
    """Each is right at its moment: what is skipped for the one must not be lost to the other."""
    end = message(json.dumps({"TrainingJobName": "churn-1", "TrainingJobArn": ARN}), "m-1")
    change = message(body(), "m-2")
    first, second = (change, end) if tag_change_first else (end, change)
    scene.jobs.put("churn-1", tags={})
    if tag_change_first:
        scene.jobs.put("churn-1", TrainingJobStatus="InProgress")
    delivery = scene.receive(first)
    outcome = await scene.flow.process(delivery)
    assert outcome.kind == "skipped"
    waiting = asyncio.create_task(scene.process(second))
    await a_while()
    scene.jobs.put("churn-1")
    scene.in_flight.finish(delivery, outcome)
    assert isinstance(await waiting, Synced)
