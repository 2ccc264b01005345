"""The queue on moto's server: real HTTP, real clients."""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from daemon.aws.clients import AwsClients, open_clients
from daemon.aws.dead_letter import dead_letter
from daemon.aws.queue import SqsQueue
from daemon.errors import EdgeFault, JobRefused
from daemon.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from daemon.aws.ports import Message

REGION = "eu-west-1"


@dataclass(frozen=True)
class QueueScene:
    """A queue of its own with a dead-letter queue."""

    clients: AwsClients
    url: str
    dead_letter_url: str

    @property
    def queue(self) -> SqsQueue:
        return SqsQueue(self.clients.sqs_polling, self.clients.sqs, self.url)

    async def send(self, *bodies: str) -> None:
        for body in bodies:
            await self.clients.sqs.send_message(QueueUrl=self.url, MessageBody=body)


@pytest.fixture
async def scene(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[QueueScene]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    name = f"jobs-{uuid.uuid4().hex[:8]}"
    url = f"{moto_endpoint}/123456789012/{name}"
    async with open_clients(queue_url=url, region=REGION, wait_seconds=1) as clients:
        dead = await clients.sqs.create_queue(QueueName=f"{name}-dead")
        policy = {
            "deadLetterTargetArn": f"arn:aws:sqs:{REGION}:123456789012:{name}-dead",
            "maxReceiveCount": "3",
        }
        await clients.sqs.create_queue(
            QueueName=name,
            Attributes={"VisibilityTimeout": "45", "RedrivePolicy": json.dumps(policy)},
        )
        yield QueueScene(clients, url, dead["QueueUrl"])


async def receive(queue: SqsQueue, limit: int = 10) -> Sequence[Message]:
    return await queue.receive(limit=limit, wait_seconds=0, visibility_seconds=60)


async def test_a_message_is_received_hidden_and_deleted(scene: QueueScene) -> None:
    queue = scene.queue
    await scene.send("hello é")

    (first,) = await receive(queue)
    assert (first.body, first.receive_count) == ("hello é", 1)
    assert first.sent_at is not None
    assert await receive(queue) == []

    assert await queue.hide([(first.receipt_handle, 0)]) == [None]
    (second,) = await receive(queue)
    assert (second.message_id, second.receive_count, second.sent_at) == (
        first.message_id,
        2,
        first.sent_at,
    )

    assert await queue.delete([second.receipt_handle]) == [None]
    state = await queue.state()
    assert (state.visible, state.in_flight) == (0, 0)


async def test_a_stale_handle_is_distinguished_from_the_rest_of_its_batch(
    scene: QueueScene,
) -> None:
    queue = scene.queue
    await scene.send("a", "b")
    a, b = await receive(queue)
    await queue.delete([a.receipt_handle])

    hidden = await queue.hide([(b.receipt_handle, 30), (a.receipt_handle, 30)])
    deleted = await queue.delete(["no handle", b.receipt_handle])

    assert hidden[0] is deleted[1] is None
    assert hidden[1] is not None
    assert hidden[1].stale
    assert deleted[0] is not None
    assert deleted[0].stale


async def test_a_message_cannot_be_hidden_for_more_than_12_hours_in_all(scene: QueueScene) -> None:
    queue = scene.queue
    await scene.send("a")
    (message,) = await queue.receive(limit=1, wait_seconds=0, visibility_seconds=43000)
    await scene.send("b")
    (other,) = await receive(queue)

    # moto refuses the whole batch for it, AWS the entry
    hidden, refused = await queue.hide(
        [(other.receipt_handle, 30), (message.receipt_handle, 43200)]
    )

    assert hidden is None
    assert refused is not None
    assert (refused.code, refused.stale) == ("InvalidParameterValue", True)


async def test_acknowledgements_do_not_wait_behind_a_long_poll(scene: QueueScene) -> None:
    queue = scene.queue
    await scene.send("a")
    (message,) = await receive(queue)
    polling = asyncio.create_task(queue.receive(limit=10, wait_seconds=5, visibility_seconds=60))

    assert await queue.delete([message.receipt_handle]) == [None]
    assert not polling.done()

    await scene.send("b")
    (arrived,) = await polling
    assert arrived.body == "b"


async def test_the_state_finds_and_counts_the_dead_letter_queue(scene: QueueScene) -> None:
    queue = scene.queue
    await scene.send("a", "b", "c")
    await receive(queue, limit=1)
    await queue.send_dead_letter(scene.dead_letter_url, "x", {})

    state = await queue.state()

    assert (state.visible, state.in_flight, state.delayed) == (2, 1, 0)
    assert (state.visibility_seconds, state.max_receive_count) == (45, 3)
    assert (state.dead_letter_url, state.dead_letter_messages) == (scene.dead_letter_url, 1)


async def test_a_configured_dead_letter_queue_goes_before_the_redrive_policy(
    scene: QueueScene,
) -> None:
    other = (await scene.clients.sqs.create_queue(QueueName=f"other-{uuid.uuid4().hex[:8]}"))[
        "QueueUrl"
    ]

    state = await SqsQueue(
        scene.clients.sqs_polling, scene.clients.sqs, scene.url, dead_letter_url=other
    ).state()

    assert (state.dead_letter_url, state.dead_letter_messages) == (other, 0)


async def test_a_dead_letter_queue_that_was_deleted_is_not_taken_for_none(
    scene: QueueScene,
) -> None:
    await scene.clients.sqs.delete_queue(QueueUrl=scene.dead_letter_url)

    state = await scene.queue.state()

    assert state.dead_letter_url == f"{scene.url}-dead"
    assert state.dead_letter_fault is not None
    assert state.dead_letter_fault.reason is Reason.NOT_FOUND


async def test_the_queue_itself_is_known_by_its_arn_in_every_spelling(scene: QueueScene) -> None:
    # moto, like ElasticMQ, looks only at the name
    alias = scene.url.replace("123456789012", "000000000000")
    queue = SqsQueue(scene.clients.sqs_polling, scene.clients.sqs, scene.url, dead_letter_url=alias)

    state = await queue.state()

    assert state.dead_letter_url is None
    assert state.dead_letter_fault is not None
    assert not state.dead_letter_fault.curable
    assert "queue.dead_letter_url names the queue itself" in state.dead_letter_fault.detail


async def test_a_dead_letter_comes_back_with_its_reason_and_detail(scene: QueueScene) -> None:
    letter = dead_letter(
        '{"detail": "é"}', Reason.TAGS_INCOMPLETE, "missing: MODEL_DB_MODEL_TYPE\x00"
    )
    assert letter is not None
    await scene.queue.send_dead_letter(scene.dead_letter_url, letter.body, letter.attributes)

    # as after a redrive: the same attributes on the main queue
    redriven = SqsQueue(scene.clients.sqs_polling, scene.clients.sqs, scene.dead_letter_url)
    (message,) = await receive(redriven)

    assert message.body == letter.body
    assert message.attributes == {
        "reason": "tags_incomplete",
        "detail": "missing: MODEL_DB_MODEL_TYPE\ufffd",
    }


# aiohttp's, for more than 1 MiB
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_a_letter_over_the_limit_is_refused(scene: QueueScene) -> None:
    with pytest.raises(JobRefused, match="1048576"):
        await scene.queue.send_dead_letter(scene.dead_letter_url, "x" * 1_048_577, {})


async def test_a_queue_that_does_not_exist_is_incurable(scene: QueueScene) -> None:
    queue = SqsQueue(scene.clients.sqs_polling, scene.clients.sqs, f"{scene.url}-not")

    for call in (receive(queue), queue.delete(["h"]), queue.hide([("h", 0)]), queue.state()):
        with pytest.raises(EdgeFault, match=r"queue\.url") as caught:
            await call
        assert (caught.value.reason, caught.value.curable) == (Reason.NOT_FOUND, False)
