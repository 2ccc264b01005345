"""The dead-letter queue, behind `daemon.aws.dead_letter_ports.DeadLetterQueue`. Only an operator's
verbs use it: the daemon has no permission to read what it has rejected.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from daemon.aws.dead_letter_ports import (
    BATCH_SIZE,
    DeadLetterQueueState,
    MoveTask,
    NoMoveTask,
    ReceivedLetter,
)
from daemon.aws.errors import (
    AWS_ERRORS,
    SQS,
    OddAnswerError,
    edge_call,
    edge_fault,
    error_code,
    observed,
    request_is_refused,
    said,
    unobserved,
)
from daemon.aws.queue import SqsQueue
from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from types_aiobotocore_sqs import SQSClient

    from daemon.aws.errors import Observe
    from daemon.aws.ports import Failed

_STRING = "String"
_MOVES_SHOWN = 10
"""The most that ListMessageMoveTasks returns."""
_NOT_ABOUT_MOVES = {Reason.UNREACHABLE, Reason.CREDENTIALS, Reason.THROTTLED}
"""Faults that a copy would meet as well."""


class SqsDeadLetterQueue:
    """A dead-letter queue whose messages are looked at, sent back or deleted.

    Args:
        polling: the client used only for ReceiveMessage.
        client: the client for everything else.
        url: of the dead-letter queue.
        observe: called after each call.
    """

    def __init__(
        self, polling: SQSClient, client: SQSClient, url: str, *, observe: Observe = unobserved
    ) -> None:
        self._polling = polling
        self._client = client
        self._dead_letter_url = url
        self._observe = observe
        self._handles = SqsQueue(polling, client, url, observe=observe)

    async def state(self) -> DeadLetterQueueState:
        """See `daemon.aws.dead_letter_ports.DeadLetterQueue.state`."""
        with edge_call(self._observe, Edge.QUEUE, "GetQueueAttributes"):
            answer = await self._client.get_queue_attributes(
                QueueUrl=self._dead_letter_url,
                AttributeNames=[
                    "QueueArn",
                    "RedrivePolicy",
                    "ApproximateNumberOfMessages",
                    "ApproximateNumberOfMessagesNotVisible",
                    "ApproximateNumberOfMessagesDelayed",
                ],
            )
            return _state(answer.get("Attributes") or {})

    async def receive(
        self, *, visibility_seconds: int, wait_seconds: int
    ) -> Sequence[ReceivedLetter]:
        """See `daemon.aws.dead_letter_ports.DeadLetterQueue.receive`."""
        with edge_call(self._observe, Edge.QUEUE, "ReceiveMessage"):
            answer = await self._polling.receive_message(
                QueueUrl=self._dead_letter_url,
                MaxNumberOfMessages=BATCH_SIZE,
                WaitTimeSeconds=wait_seconds,
                VisibilityTimeout=visibility_seconds,
                MessageSystemAttributeNames=[
                    "ApproximateReceiveCount",
                    "ApproximateFirstReceiveTimestamp",
                    "SentTimestamp",
                    "DeadLetterQueueSourceArn",
                ],
                MessageAttributeNames=["All"],
            )
            return [_letter(each) for each in answer.get("Messages") or []]

    async def delete(self, receipt_handles: Sequence[str]) -> Sequence[Failed | None]:
        """See `daemon.aws.dead_letter_ports.DeadLetterQueue.delete`."""
        return await self._handles.delete(receipt_handles)

    async def hide(self, entries: Sequence[tuple[str, int]]) -> Sequence[Failed | None]:
        """See `daemon.aws.dead_letter_ports.DeadLetterQueue.hide`."""
        return await self._handles.hide(entries)

    async def start_move(self, source_arn: str, destination_arn: str) -> None:
        """See `daemon.aws.dead_letter_ports.DeadLetterQueue.start_move`."""
        with self._move_call("StartMessageMoveTask"):
            # without a destination, messages that no redrive policy has moved are left behind
            await self._client.start_message_move_task(
                SourceArn=source_arn, DestinationArn=destination_arn
            )

    async def moves(self, source_arn: str) -> Sequence[MoveTask]:
        """See `daemon.aws.dead_letter_ports.DeadLetterQueue.moves`."""
        with self._move_call("ListMessageMoveTasks"):
            answer = await self._client.list_message_move_tasks(
                SourceArn=source_arn, MaxResults=_MOVES_SHOWN
            )
            tasks = [_move(each) for each in answer.get("Results") or []]
        return sorted(tasks, key=lambda task: task.started_at, reverse=True)

    async def cancel_move(self, handle: str) -> None:
        """See `daemon.aws.dead_letter_ports.DeadLetterQueue.cancel_move`."""
        try:
            with observed(self._observe, SQS, "CancelMessageMoveTask"):
                await self._client.cancel_message_move_task(TaskHandle=handle)
        except AWS_ERRORS as error:
            if request_is_refused(error) or "ResourceNotFound" in error_code(error):
                return
            raise edge_fault(error, Edge.QUEUE) from error

    @contextmanager
    def _move_call(self, operation: str) -> Iterator[None]:
        try:
            with observed(self._observe, SQS, operation):
                yield
        except AWS_ERRORS as error:
            fault = edge_fault(error, Edge.QUEUE)
            if fault.reason in _NOT_ABOUT_MOVES:
                raise fault from error
            code = error_code(error)
            raise NoMoveTask(f"{operation} does not work here ({code}: {said(error)})") from error


def _state(attributes: Mapping[Any, str]) -> DeadLetterQueueState:
    try:
        policy = json.loads(attributes.get("RedrivePolicy") or "{}")
        return DeadLetterQueueState(
            arn=attributes["QueueArn"],
            visible=int(attributes["ApproximateNumberOfMessages"]),
            in_flight=int(attributes["ApproximateNumberOfMessagesNotVisible"]),
            delayed=int(attributes["ApproximateNumberOfMessagesDelayed"]),
            max_receive_count=int(policy["maxReceiveCount"]) if policy else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise EdgeFault(
            Edge.QUEUE,
            Reason.NOT_THE_API,
            "the answer about the dead-letter queue is not SQS's: check aws.sqs_endpoint_url",
        ) from error


def _letter(received: Mapping[str, Any]) -> ReceivedLetter:
    system = received.get("Attributes") or {}
    attributes = received.get("MessageAttributes") or {}
    strings = {
        name: value["StringValue"]
        for name, value in attributes.items()
        if value.get("DataType") == _STRING and isinstance(value.get("StringValue"), str)
    }
    body = received.get("Body", "")
    if not isinstance(body, str):
        raise OddAnswerError("a body is no text")
    return ReceivedLetter(
        message_id=str(received["MessageId"]),
        receipt_handle=str(received["ReceiptHandle"]),
        body=body,
        receive_count=int(system.get("ApproximateReceiveCount") or 1),
        sent_at=_seconds(system.get("SentTimestamp")),
        first_received_at=_seconds(system.get("ApproximateFirstReceiveTimestamp")),
        attributes=strings,
        other_attributes=tuple(name for name in attributes if name not in strings),
        source_arn=str(system.get("DeadLetterQueueSourceArn") or ""),
    )


def _move(result: Mapping[str, Any]) -> MoveTask:
    to_move = result.get("ApproximateNumberOfMessagesToMove")
    return MoveTask(
        handle=str(result.get("TaskHandle") or ""),
        status=str(result.get("Status") or ""),
        moved=int(result.get("ApproximateNumberOfMessagesMoved") or 0),
        to_move=None if to_move is None else int(to_move),
        started_at=int(result.get("StartedTimestamp") or 0) / 1000,
        failure=str(result.get("FailureReason") or ""),
    )


def _seconds(milliseconds: object) -> float | None:
    text = str(milliseconds or "")
    return int(text) / 1000 if text.isascii() and text.isdigit() else None
