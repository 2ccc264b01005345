"""A model of the SQS service, with a client in the shape of aiobotocore's. The queues are in
`tests.simulation.sqs_queue`.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import re
from typing import TYPE_CHECKING, Any, NoReturn

from tests.simulation.aws_calls import (
    ATTEMPTS,
    READ_SECONDS,
    AwsCaller,
    Fault,
    FaultAnswers,
    Refusal,
    ServiceFaults,
)
from tests.simulation.sqs_queue import (
    ACCOUNT,
    MAX_BATCH,
    MAX_BYTES,
    MAX_VISIBILITY_SECONDS,
    REGION,
    Chances,
    SimulatedQueue,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

    from tests.simulation.aws_calls import Network, Spawn
    from tests.simulation.sqs_message import Copy

__all__ = ["Chances", "SimulatedQueue", "SimulatedSqs", "SimulatedSqsClient"]

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ANSWERS = FaultAnswers(
    throttled=Fault("RequestThrottled", "Request is throttled.", 403, "RequestThrottled"),
    failing=(
        Fault("InternalFailure", "", 500),
        Fault("ServiceUnavailable", "", 503),
    ),
    credentials_expired=Fault(
        "ExpiredToken", "The security token included in the request is expired", 403
    ),
    denied=lambda operation: Fault(
        "AccessDenied",
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/modeldb-sync/i-0abc is not authorized to "
        f"perform: sqs:{operation.lower()} on resource: arn:aws:sqs:{REGION}:{ACCOUNT}:jobs "
        f"because no identity-based policy allows the sqs:{operation.lower()} action",
        403,
    ),
)


class SimulatedSqs:
    """The service: its queues by URL, and its faults."""

    def __init__(self, rng: random.Random, *queues: SimulatedQueue) -> None:
        self.faults = ServiceFaults()
        self.queues = {queue.url: queue for queue in queues}
        self.random = rng

    def queue(self, url: str) -> SimulatedQueue:
        """The queue with a URL.

        Raises:
            Refusal: there is none.
        """
        return self.queues.get(url) or _no_queue()


class SimulatedSqsClient:
    """What `daemon.aws.queue.SqsQueue` calls of aiobotocore's client.

    Args:
        sqs: the service.
        network: between them.
        spawn: starts the server's side of a long poll, which nothing on the caller's side ends.
        name: whose client it is, for the lives of messages.
        attempts: 1 for a client that polls.
        read_seconds: WaitTimeSeconds and a margin for a client that polls.
    """

    def __init__(
        self,
        sqs: SimulatedSqs,
        network: Network,
        spawn: Spawn,
        *,
        name: str = "",
        attempts: int = ATTEMPTS,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        self._sqs = sqs
        self._network = network
        self._spawn = spawn
        self._name = name
        self._caller = AwsCaller(
            "sqs",
            network,
            sqs.faults,
            _ANSWERS,
            sqs.random,
            attempts=attempts,
            read_seconds=read_seconds,
        )

    async def receive_message(self, **request: Any) -> dict[str, Any]:
        """ReceiveMessage."""

        def begin() -> asyncio.Task[list[dict[str, Any]]]:
            queue = self._sqs.queue(request["QueueUrl"])
            limit, wait = request.get("MaxNumberOfMessages", 1), request.get("WaitTimeSeconds", 0)
            visibility = request.get("VisibilityTimeout", queue.visibility_seconds)
            _within("MaxNumberOfMessages", limit, 1, MAX_BATCH)
            _within("WaitTimeSeconds", wait, 0, 20)
            _within("VisibilityTimeout", visibility, 0, MAX_VISIBILITY_SECONDS)
            return self._spawn(serve(queue, limit, wait, visibility))

        async def serve(
            queue: SimulatedQueue, limit: int, wait: int, visibility: int
        ) -> list[dict[str, Any]]:
            taken = await queue.poll(limit, wait, visibility, self._name)
            return [_received(copy, handle, request) for copy, handle in taken]

        def bring(messages: list[dict[str, Any]]) -> dict[str, Any]:
            if self._sqs.faults.down:
                raise ConnectionResetError("sqs")
            return {"Messages": messages} if messages else {}

        async def attempt() -> dict[str, Any]:
            poll = await self._caller.leg("ReceiveMessage", begin)
            messages = await asyncio.shield(poll)
            return await self._network.call(
                "ReceiveMessage answer", functools.partial(bring, messages)
            )

        return await self._caller.attempts("ReceiveMessage", attempt)

    async def delete_message_batch(self, **request: Any) -> dict[str, Any]:
        """DeleteMessageBatch."""
        return await self._batch(
            "DeleteMessageBatch", request, lambda queue, entry: queue.delete(entry["ReceiptHandle"])
        )

    async def change_message_visibility_batch(self, **request: Any) -> dict[str, Any]:
        """ChangeMessageVisibilityBatch."""
        return await self._batch(
            "ChangeMessageVisibilityBatch",
            request,
            lambda queue, entry: queue.hide(entry["ReceiptHandle"], entry["VisibilityTimeout"]),
        )

    async def send_message(self, **request: Any) -> dict[str, Any]:
        """SendMessage."""

        def carry_out() -> dict[str, Any]:
            queue = self._sqs.queue(request["QueueUrl"])
            body, attributes = request["MessageBody"], request.get("MessageAttributes") or {}
            _check_message(body, attributes)
            message = queue.send(body, attributes, delay_seconds=request.get("DelaySeconds", 0))
            return {"MD5OfMessageBody": _md5(body), "MessageId": message.message_id}

        return await self._caller.call("SendMessage", carry_out)

    async def send_message_batch(self, **request: Any) -> dict[str, Any]:
        """SendMessageBatch."""

        def send(queue: SimulatedQueue, entry: Mapping[str, Any]) -> dict[str, Any]:
            body, attributes = entry["MessageBody"], entry.get("MessageAttributes") or {}
            _check_message(body, attributes)
            message = queue.send(body, attributes, delay_seconds=entry.get("DelaySeconds", 0))
            return {"MD5OfMessageBody": _md5(body), "MessageId": message.message_id}

        return await self._batch("SendMessageBatch", request, send, _check_batch_size)

    async def get_queue_attributes(self, **request: Any) -> dict[str, Any]:
        """GetQueueAttributes."""

        def carry_out() -> dict[str, Any]:
            attributes = self._sqs.queue(request["QueueUrl"]).attributes(
                request.get("AttributeNames", ())
            )
            return {"Attributes": attributes} if attributes else {}

        return await self._caller.call("GetQueueAttributes", carry_out)

    async def get_queue_url(self, **request: Any) -> dict[str, Any]:
        """GetQueueUrl."""

        def carry_out() -> dict[str, Any]:
            owner = request.get("QueueOwnerAWSAccountId", ACCOUNT)
            found = [
                queue
                for queue in self._sqs.queues.values()
                if queue.name == request["QueueName"] and owner == ACCOUNT
            ]
            return {"QueueUrl": found[0].url if found else _no_queue().url}

        return await self._caller.call("GetQueueUrl", carry_out)

    async def _batch(
        self,
        operation: str,
        request: Mapping[str, Any],
        do: Callable[[SimulatedQueue, Mapping[str, Any]], dict[str, Any] | None],
        check: Callable[[Sequence[Mapping[str, Any]]], None] = lambda _entries: None,
    ) -> dict[str, Any]:
        """Does something with each entry, which may be answered with members of its own.

        Args:
            operation: its name.
            request: with all entries.
            do: for each of them.
            check: raises `Refusal` of the whole batch.
        """

        def carry_out() -> dict[str, Any]:
            queue, entries = self._sqs.queue(request["QueueUrl"]), request["Entries"]
            _check_batch(entries)
            check(entries)
            answer: dict[str, list[dict[str, Any]]] = {"Successful": [], "Failed": []}
            for entry in entries:
                if (
                    queue.chances.entry_fails
                    and self._sqs.random.random() < queue.chances.entry_fails
                ):
                    answer["Failed"].append(_internal_error(entry))
                    continue
                try:
                    members = do(queue, entry) or {}
                except Refusal as refusal:
                    fault = refusal.fault
                    failed = {
                        "Id": entry["Id"],
                        "SenderFault": True,
                        "Code": fault.code,
                        "Message": fault.message,
                    }
                    answer["Failed"].append(failed)
                    continue
                if (
                    queue.chances.entry_fails_after
                    and self._sqs.random.random() < queue.chances.entry_fails_after
                ):
                    answer["Failed"].append(_internal_error(entry))
                else:
                    answer["Successful"].append({"Id": entry["Id"], **members})
            return {name: entries for name, entries in answer.items() if entries}

        return await self._caller.call(operation, carry_out)


def _no_queue() -> NoReturn:
    raise Refusal(
        "AWS.SimpleQueueService.NonExistentQueue",
        "The specified queue does not exist.",
        shape="QueueDoesNotExist",
    )


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        reason = f"Must be between {low} and {high}, if provided."
        raise Refusal(
            "InvalidParameterValue",
            f"Value {value} for parameter {name} is invalid. Reason: {reason}",
        )


def _check_batch(entries: Sequence[Mapping[str, Any]]) -> None:
    prefix = "AWS.SimpleQueueService."
    if not entries:
        raise Refusal(
            f"{prefix}EmptyBatchRequest",
            "There should be at least one entry in the request.",
            shape="EmptyBatchRequest",
        )
    if len(entries) > MAX_BATCH:
        message = (
            f"Maximum number of entries per request are {MAX_BATCH}. You have sent {len(entries)}."
        )
        raise Refusal(
            f"{prefix}TooManyEntriesInBatchRequest", message, shape="TooManyEntriesInBatchRequest"
        )
    if len({entry["Id"] for entry in entries}) < len(entries):
        raise Refusal(
            f"{prefix}BatchEntryIdsNotDistinct",
            "Two or more batch entries have the same Id.",
            shape="BatchEntryIdsNotDistinct",
        )


def _check_message(body: str, attributes: Mapping[str, Mapping[str, Any]]) -> None:
    """SQS's rules of SendMessage (API reference, MessageAttributeValue)."""
    if not body:
        raise Refusal("MissingParameter", "The request must contain the parameter MessageBody.")
    texts = [str(value.get("StringValue", "")) for value in attributes.values()]
    if any(_NOT_XML.search(text) for text in (body, *texts)):
        raise Refusal(
            "InvalidMessageContents",
            "Invalid binary character was found in the message body.",
            shape="InvalidMessageContents",
        )
    for name, value in attributes.items():
        if not value.get("StringValue"):
            message = (
                f"Message (user) attribute '{name}' must contain a non-empty value "
                "of type 'String'."
            )
            raise Refusal("InvalidParameterValue", message)
    if len(attributes) > MAX_BATCH:
        raise Refusal(
            "InvalidParameterValue",
            "Number of message attributes exceeds the allowed maximum [10].",
        )
    if _size(body, attributes) > MAX_BYTES:
        reason = f"Message must be shorter than {MAX_BYTES} bytes."
        raise Refusal(
            "InvalidParameterValue", f"One or more parameters are invalid. Reason: {reason}"
        )


def _check_batch_size(entries: Sequence[Mapping[str, Any]]) -> None:
    total = sum(
        _size(entry["MessageBody"], entry.get("MessageAttributes") or {}) for entry in entries
    )
    if total > MAX_BYTES:
        raise Refusal(
            "AWS.SimpleQueueService.BatchRequestTooLong",
            f"Batch requests cannot be longer than {MAX_BYTES} bytes. You have sent {total} bytes.",
            shape="BatchRequestTooLong",
        )


def _size(body: str, attributes: Mapping[str, Mapping[str, Any]]) -> int:
    return len(body.encode()) + sum(
        len(name.encode())
        + len(str(value["DataType"]).encode())
        + len(str(value["StringValue"]).encode())
        for name, value in attributes.items()
    )


def _received(copy: Copy, handle: str, request: Mapping[str, Any]) -> dict[str, Any]:
    message = copy.message
    system = {
        "ApproximateReceiveCount": str(copy.receive_count),
        "SentTimestamp": str(round(message.sent_at * 1000)),
    }
    if copy.redriven_from is not None:
        system["DeadLetterQueueSourceArn"] = copy.redriven_from
    asked = set(request.get("MessageSystemAttributeNames", ()))
    names = set(request.get("MessageAttributeNames", ()))
    answer = {
        "MessageId": message.message_id,
        "ReceiptHandle": handle,
        "MD5OfBody": _md5(message.body),
        "Body": message.body,
        "Attributes": {
            name: value for name, value in system.items() if name in asked or "All" in asked
        },
        "MessageAttributes": {
            name: dict(value)
            for name, value in message.attributes.items()
            if name in names or "All" in names
        },
    }
    return {name: value for name, value in answer.items() if value or name == "Body"}


def _internal_error(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Id": entry["Id"],
        "SenderFault": False,
        "Code": "InternalError",
        "Message": "We encountered an internal error.",
    }


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
