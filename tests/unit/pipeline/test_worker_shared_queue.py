"""A queue that is shared: what is not about a training job is left to its own consumers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from daemon.pipeline.flow import FlowRules
from daemon.reasons import Reason
from tests.support.flow_scene import event_body, flow_scene, message
from tests.support.log_lines import log_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.flow_scene import FlowScene

ENDPOINT = {
    "detail-type": "SageMaker Endpoint State Change",
    "source": "aws.sagemaker",
    "detail": {"EndpointName": "churn"},
}


@pytest_asyncio.fixture
async def shared(path: Path) -> AsyncIterator[FlowScene]:
    async with flow_scene(path, rules=FlowRules(shared_queue=True)) as scene:
        yield scene


FOREIGN: list[Any] = [
    ENDPOINT,
    {"detail-type": "Order Placed", "source": "acme.shop", "detail": {"id": 7}},
    {"Records": [{"eventSource": "aws:s3", "s3": {"object": {"key": "a"}}}]},
    {"Service": "Amazon S3", "Event": "s3:TestEvent"},
    {"orderId": 7, "items": ["a"]},
    {"jobName": "nightly", "status": "Completed"},
    {"Type": "Notification", "TopicArn": "t", "Message": "disk full"},
    "plain text of somebody else",
    "<order id='7'/>",
    [1, 2],
    7,
]


@pytest.mark.parametrize("document", FOREIGN)
async def test_messages_of_others_are_visible_again_at_once(
    shared: FlowScene, document: Any
) -> None:
    body = document if isinstance(document, str) else json.dumps(document)
    outcome = await shared.handle(message(body))
    assert (outcome.kind, outcome.reason) == ("skipped", Reason.OTHER_EVENT)
    assert shared.queue.hidden == [("m-1/1", 0)]
    assert not shared.queue.deleted
    assert not shared.queue.dead_letters
    assert not await shared.rows()
    assert len(shared.in_flight) == 0


@pytest.mark.parametrize("document", FOREIGN)
async def test_otherwise_they_are_deleted_or_rejected(scene: FlowScene, document: Any) -> None:
    await scene.handle(message(document if isinstance(document, str) else json.dumps(document)))
    assert not scene.queue.hidden
    assert scene.queue.deleted == ["m-1/1"]


@pytest.mark.parametrize(
    "body",
    [
        '{"trainingJobName": 17}',
        '{"about": {"training_job_arn": "x"}}',
        '{"cut": "arn:aws:sagemaker:eu-west-1:123456789012:training-job/churn-1',
        "SageMaker Training Job State Change",
    ],
)
async def test_what_mentions_a_training_job_is_ours_to_reject(shared: FlowScene, body: str) -> None:
    assert (await shared.handle(message(body))).reason is Reason.MALFORMED_BODY
    assert len(shared.queue.dead_letters) == 1
    assert shared.queue.deleted == ["m-1/1"]


async def test_our_own_messages_are_deleted_whatever_comes_of_them(shared: FlowScene) -> None:
    shared.jobs.put("untagged", tags={})
    bodies = [event_body(), event_body(TrainingJobStatus="Failed"), event_body("untagged", Tags={})]
    kinds = {
        (await shared.handle(message(body, f"m-{number}"))).kind
        for number, body in enumerate(bodies)
    }
    assert kinds == {"synced", "skipped"}
    assert len(shared.queue.deleted) == len(bodies)
    assert not shared.queue.hidden


async def test_it_is_said_once(shared: FlowScene) -> None:
    with capture_logs() as logs:
        for number in range(5):
            await shared.handle(message(json.dumps(ENDPOINT), f"m-{number}"))
    [said] = log_lines(logs, "messages of others are left in the queue")
    assert said["log_level"] == "warning"
    assert said["first"] == "SageMaker Endpoint State Change"
    assert len(shared.outcomes) == 5
