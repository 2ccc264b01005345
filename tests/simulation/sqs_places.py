"""The same SQS calls on the model, on moto's server and on ElasticMQ, and the known differences
between them.
"""

from __future__ import annotations

import asyncio
import json
import random
import selectors
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.aws.clients import Endpoints, open_clients
from daemon.aws.queue import SqsQueue
from tests.simulation.aws_calls import PlainNetwork
from tests.simulation.sqs import SimulatedQueue, SimulatedSqs, SimulatedSqsClient
from tests.simulation.sqs_queue import REGION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from daemon.aws.ports import Message

VISIBILITY_SECONDS = 45
MAX_RECEIVES = 3


@dataclass(frozen=True)
class Habits:
    """In what servers of SQS's interface differ. The model follows AWS, as its documentation and
    its users describe it.

    Attributes:
        no_queue_code: of the error, whose class is QueueDoesNotExist everywhere.
        empty_answer: a receive without messages.
        old_handle_delete: what a delete with the handle of an earlier receive says, and whether it
            deletes; None: perhaps.
        old_handle_hides: whether that handle hides; None: perhaps.
        deletes_again: whether a second delete succeeds.
        hides_after_expiry: whether a message that is visible again can be hidden with its last
            handle.
        limits_visibility: whether 12 hours are the most at once, and in all since the receive.
        tells_source: whether a redriven message has DeadLetterQueueSourceArn.
        bad_batches: classes of the errors for no entry, for eleven and for two of one id; None: no
            error.
        refused_messages: what SendMessage refuses beside a body over the limit.
    """

    no_queue_code: str
    empty_answer: dict[str, Any]
    old_handle_delete: tuple[bool, bool | None]
    old_handle_hides: bool | None
    deletes_again: bool
    hides_after_expiry: bool
    limits_visibility: bool
    tells_source: bool
    bad_batches: tuple[str | None, str, str]
    refused_messages: set[str]


AWS = Habits(
    no_queue_code="AWS.SimpleQueueService.NonExistentQueue",
    empty_answer={},
    old_handle_delete=(True, None),  # "succeeds, but the message may not be deleted"
    old_handle_hides=None,  # not said; its doubles disagree
    deletes_again=True,
    hides_after_expiry=False,  # MessageNotInflight
    limits_visibility=True,
    tells_source=True,
    bad_batches=("EmptyBatchRequest", "TooManyEntriesInBatchRequest", "BatchEntryIdsNotDistinct"),
    refused_messages={
        "attributes over the limit",
        "control character",
        "empty body",
        "empty attribute",
    },
)
MOTO = Habits(
    no_queue_code="AWS.SimpleQueueService.NonExistentQueue",
    empty_answer={},
    old_handle_delete=(True, True),
    old_handle_hides=True,
    deletes_again=True,
    hides_after_expiry=True,
    limits_visibility=True,
    tells_source=False,
    bad_batches=("EmptyBatchRequest", "BatchEntryIdsNotDistinct", "BatchEntryIdsNotDistinct"),
    refused_messages=set(),
)
ELASTICMQ = Habits(
    no_queue_code="QueueDoesNotExist",
    empty_answer={"Messages": []},
    old_handle_delete=(False, False),  # ReceiptHandleIsInvalid
    old_handle_hides=False,
    deletes_again=False,  # ReceiptHandleIsInvalid
    hides_after_expiry=True,
    limits_visibility=False,
    tells_source=True,
    bad_batches=(None, "TooManyEntriesInBatchRequest", "BatchEntryIdsNotDistinct"),
    refused_messages={"control character", "empty body", "empty attribute"},
)


@dataclass(frozen=True)
class Place:
    """A queue with a dead-letter queue on one server."""

    habits: Habits
    client: Any
    polling: Any
    url: str
    dead_letter_url: str
    model: SimulatedQueue | None = None

    @property
    def queue(self) -> SqsQueue:
        """The daemon's own adapter."""
        return SqsQueue(self.polling, self.client, self.url)

    @property
    def dead_letters(self) -> SqsQueue:
        """The dead-letter queue, through the same adapter."""
        return SqsQueue(self.polling, self.client, self.dead_letter_url)

    async def send(self, *bodies: str) -> None:
        for body in bodies:
            await self.client.send_message(QueueUrl=self.url, MessageBody=body)

    async def receive(
        self, *, limit: int = 10, wait: int = 0, visibility: int = 60
    ) -> Sequence[Message]:
        return await self.queue.receive(
            limit=limit, wait_seconds=wait, visibility_seconds=visibility
        )

    async def receive_one(self, *, visibility: int = 60, wait: int = 0) -> Message:
        (message,) = await self.receive(limit=1, wait=wait, visibility=visibility)
        return message


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that advances its clock instead of waiting. Sockets are never ready."""

    def __init__(self) -> None:
        self.now = 1000.0
        selector = selectors.DefaultSelector()
        super().__init__(selector)
        poll = selector.select

        def select(timeout: float | None = None) -> Any:
            assert timeout is not None, "nothing will ever happen again"
            self.now += timeout
            return poll(0)

        selector.select = select  # type: ignore[method-assign] # the one thing that is not asyncio's own here

    def time(self) -> float:
        return self.now


def model_place(rng: random.Random, **chances: float) -> Place:
    """At the model, with nothing left to chance but what is given and the order of receives."""
    dead = SimulatedQueue("jobs-dead", rng)
    queue = SimulatedQueue(
        "jobs",
        rng,
        visibility_seconds=VISIBILITY_SECONDS,
        max_receive_count=MAX_RECEIVES,
        dead_letters=dead,
    )
    for name, chance in chances.items():
        setattr(queue.chances, name, chance)
    sqs = SimulatedSqs(rng, queue, dead)
    spawn = asyncio.ensure_future
    client = SimulatedSqsClient(sqs, PlainNetwork(), spawn)
    polling = SimulatedSqsClient(sqs, PlainNetwork(), spawn, attempts=1, read_seconds=30)
    return Place(AWS, client, polling, queue.url, dead.url, queue)


@asynccontextmanager
async def server_place(endpoint: str, habits: Habits) -> AsyncIterator[Place]:
    """At a server, through the daemon's real clients."""
    name = f"place-{random.SystemRandom().getrandbits(40):010x}"
    endpoints = Endpoints(sqs=endpoint)
    async with open_clients(
        queue_url=endpoint, region=REGION, endpoints=endpoints, wait_seconds=2, pollers=4
    ) as clients:
        dead = (await clients.sqs.create_queue(QueueName=f"{name}-dead"))["QueueUrl"]
        answer = await clients.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])
        policy = {
            "deadLetterTargetArn": answer["Attributes"]["QueueArn"],
            "maxReceiveCount": str(MAX_RECEIVES),
        }
        made = await clients.sqs.create_queue(
            QueueName=name,
            Attributes={
                "VisibilityTimeout": str(VISIBILITY_SECONDS),
                "RedrivePolicy": json.dumps(policy),
            },
        )
        yield Place(habits, clients.sqs, clients.sqs_polling, made["QueueUrl"], dead)
