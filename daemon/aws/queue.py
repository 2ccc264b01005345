"""The SQS queue that EventBridge writes to, behind `daemon.aws.ports.Queue`."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from daemon.aws.dead_letter import DETAIL, REASON
from daemon.aws.errors import (
    AWS_ERRORS,
    SQS,
    OddAnswerError,
    edge_call,
    edge_fault,
    error_code,
    observed,
    reason_of_code,
    request_is_refused,
    said,
    unobserved,
)
from daemon.aws.ports import ORIGIN, Failed, Message, QueueState, Sent
from daemon.aws.queue_names import QueueName, may_be_one_queue, url_beside
from daemon.errors import EdgeFault, JobRefused
from daemon.reasons import Edge, Reason
from daemon.text import is_plain, one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from types_aiobotocore_sqs import SQSClient
    from types_aiobotocore_sqs.type_defs import (
        ChangeMessageVisibilityBatchRequestEntryTypeDef,
        ChangeMessageVisibilityBatchResultTypeDef,
        DeleteMessageBatchRequestEntryTypeDef,
        DeleteMessageBatchResultTypeDef,
        MessageTypeDef,
        SendMessageBatchRequestEntryTypeDef,
        SendMessageBatchResultTypeDef,
    )

    from daemon.aws.errors import Observe
    from daemon.aws.ports import OutgoingMessage

    _BatchAnswer = (
        DeleteMessageBatchResultTypeDef
        | ChangeMessageVisibilityBatchResultTypeDef
        | SendMessageBatchResultTypeDef
    )
    _Entry = TypeVar(
        "_Entry",
        DeleteMessageBatchRequestEntryTypeDef,
        ChangeMessageVisibilityBatchRequestEntryTypeDef,
        SendMessageBatchRequestEntryTypeDef,
    )
    _Done = TypeVar("_Done")

log = structlog.get_logger(__name__)

BATCH_SIZE = 10
"""Entries per batch call (SQS)."""

_OF_ALL_QUEUES = {Reason.UNREACHABLE, Reason.UNAVAILABLE, Reason.CREDENTIALS}
"""Faults that say nothing about a single queue."""
_STALE = {"MessageNotInflight", "ReceiptHandleIsInvalid"}
_ABOUT_THE_HANDLE = re.compile(r"receipt ?handle|total visibility ?timeout", re.IGNORECASE)
"""SQS also sends InvalidParameterValue for an outdated handle, and for a message that has been
hidden for 12 hours in total."""


class SqsQueue:
    """A standard queue and its dead-letter queue.

    Args:
        polling: the client used only for ReceiveMessage.
        client: the client for everything else.
        url: of the queue.
        dead_letter_url: None: taken from the queue's redrive policy.
        observe: called after each call.
    """

    def __init__(
        self,
        polling: SQSClient,
        client: SQSClient,
        url: str,
        *,
        dead_letter_url: str | None = None,
        observe: Observe = unobserved,
    ) -> None:
        self._polling = polling
        self._client = client
        self._url = url
        self._dead_letters = _DeadLetterQueue(client, url, dead_letter_url, observe)
        self._observe = observe

    @property
    def dead_letter_problem(self) -> str | None:
        """Why the last `state` could not find or count the dead-letter queue, and the remedy."""
        return self._dead_letters.problem

    async def receive(
        self, *, limit: int, wait_seconds: int, visibility_seconds: int
    ) -> Sequence[Message]:
        """See `daemon.aws.ports.Queue.receive`."""
        with self._call("ReceiveMessage"):
            answer = await self._polling.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=limit,
                WaitTimeSeconds=wait_seconds,
                VisibilityTimeout=visibility_seconds,
                MessageSystemAttributeNames=[
                    "ApproximateReceiveCount",
                    "SentTimestamp",
                    "DeadLetterQueueSourceArn",
                ],
                MessageAttributeNames=[REASON, DETAIL, ORIGIN],
            )
            return _messages(answer.get("Messages") or [])

    async def delete(self, receipt_handles: Sequence[str]) -> Sequence[Failed | None]:
        """See `daemon.aws.ports.Queue.delete`."""
        entries: list[DeleteMessageBatchRequestEntryTypeDef] = [
            {"Id": str(index), "ReceiptHandle": handle}
            for index, handle in enumerate(receipt_handles)
        ]
        return await self._batch(
            "DeleteMessageBatch",
            entries,
            lambda batch: self._client.delete_message_batch(QueueUrl=self._url, Entries=batch),
            _nothing,
        )

    async def hide(self, entries: Sequence[tuple[str, int]]) -> Sequence[Failed | None]:
        """See `daemon.aws.ports.Queue.hide`."""
        batch_entries: list[ChangeMessageVisibilityBatchRequestEntryTypeDef] = [
            {"Id": str(index), "ReceiptHandle": handle, "VisibilityTimeout": seconds}
            for index, (handle, seconds) in enumerate(entries)
        ]
        return await self._batch(
            "ChangeMessageVisibilityBatch",
            batch_entries,
            lambda batch: self._client.change_message_visibility_batch(
                QueueUrl=self._url, Entries=batch
            ),
            _nothing,
        )

    async def send(self, entries: Sequence[OutgoingMessage]) -> Sequence[Sent | Failed]:
        """See `daemon.aws.ports.Queue.send`."""
        batch_entries: list[SendMessageBatchRequestEntryTypeDef] = [
            {
                "Id": str(index),
                "MessageBody": entry.body,
                "MessageAttributes": {
                    name: {"DataType": "String", "StringValue": value}
                    for name, value in entry.attributes.items()
                },
            }
            for index, entry in enumerate(entries)
        ]
        return await self._batch(
            "SendMessageBatch",
            batch_entries,
            lambda batch: self._client.send_message_batch(QueueUrl=self._url, Entries=batch),
            lambda entry: Sent(_text(entry, "MessageId")),
        )

    async def send_dead_letter(self, url: str, body: str, attributes: Mapping[str, str]) -> None:
        """See `daemon.aws.ports.Queue.send_dead_letter`."""
        try:
            with observed(self._observe, SQS, "SendMessage"):
                answer = await self._client.send_message(
                    QueueUrl=url,
                    MessageBody=body,
                    MessageAttributes={
                        name: {"DataType": "String", "StringValue": value}
                        for name, value in attributes.items()
                    },
                )
                _text(answer, "MessageId")  # an answer without it has sent nothing
        except AWS_ERRORS as error:
            if request_is_refused(error):
                raise JobRefused(
                    Reason.MALFORMED_BODY,
                    f"the dead-letter queue refuses the message: {said(error)}",
                ) from error
            raise _of_dead_letters(edge_fault(error, Edge.QUEUE), url) from error

    async def state(self) -> QueueState:
        """See `daemon.aws.ports.Queue.state`."""
        with self._call("GetQueueAttributes"):
            answer = await self._client.get_queue_attributes(
                QueueUrl=self._url,
                AttributeNames=[
                    "QueueArn",
                    "RedrivePolicy",
                    "VisibilityTimeout",
                    "ApproximateNumberOfMessages",
                    "ApproximateNumberOfMessagesNotVisible",
                    "ApproximateNumberOfMessagesDelayed",
                ],
            )
            try:
                state, dead_letter_arn = _state(answer.get("Attributes") or {})
            except (KeyError, ValueError) as error:
                raise EdgeFault(
                    Edge.QUEUE,
                    Reason.NOT_THE_API,
                    "the answer about the queue is not SQS's "
                    f"({one_line(repr(error))[:200]}): check {SQS.endpoint_key}",
                    curable=False,
                ) from error
        return await self._dead_letters.look(state, dead_letter_arn)

    async def _batch(
        self,
        operation: str,
        entries: list[_Entry],
        send: Callable[[list[_Entry]], Awaitable[_BatchAnswer]],
        read: Callable[[Mapping[str, Any]], _Done],
    ) -> list[_Done | Failed]:
        """The result of each entry, in order; `read` makes it from a successful one. A batch
        rejected whole is sent one by one.
        """
        if not 1 <= len(entries) <= BATCH_SIZE:
            raise ValueError(f"a batch has 1 to {BATCH_SIZE} entries, not {len(entries)}")
        try:
            with observed(self._observe, SQS, operation):
                answer = await send(entries)
                answers = _answers_to_entries(answer, {entry["Id"] for entry in entries}, read)
        except AWS_ERRORS as error:
            if not request_is_refused(error):
                raise edge_fault(error, Edge.QUEUE) from error
            if len(entries) == 1:
                return [_failed(error_code(error), said(error), of_the_sender=True)]
            return [(await self._batch(operation, [entry], send, read))[0] for entry in entries]
        return [answers[entry["Id"]] for entry in entries]

    def _call(self, operation: str) -> AbstractContextManager[None]:
        return edge_call(self._observe, Edge.QUEUE, operation)


class _DeadLetterQueue:
    """Finds the dead-letter queue and counts its messages. What keeps it from that is logged once
    and does not keep the daemon from the queue; it is never taken for "there is none".

    Args:
        client: for all calls.
        main_url: of the queue itself.
        url: ``queue.dead_letter_url``; None: the redrive policy names the queue.
        observe: called after each call.

    Attributes:
        problem: what the last look was kept from by, and the remedy.
    """

    def __init__(self, client: SQSClient, main_url: str, url: str | None, observe: Observe) -> None:
        self.problem: str | None = None
        self._client = client
        self._main_url = main_url
        self._configured_url = url
        self._observe = observe
        self._urls: dict[str, str] = {}

    async def look(self, state: QueueState, arn: str | None) -> QueueState:
        """The state with what is known of the dead-letter queue.

        Args:
            state: of the main queue.
            arn: of the dead-letter queue, from the redrive policy.

        Raises:
            EdgeFault: SQS does not work.
        """
        url, fault, messages = self._configured_url, None, None
        if url is None and arn is not None:
            url, fault = await self._find(state.arn, arn)
        if url is not None:
            try:
                messages, own_arn = await self._count(url)
            except EdgeFault as uncounted:
                if uncounted.reason in _OF_ALL_QUEUES:
                    raise
                # that it does not exist says more than a missing permission
                if fault is None or uncounted.reason is Reason.NOT_FOUND:
                    fault = _of_dead_letters(uncounted, url)
                own_arn = None
            else:
                fault = None
                if self._configured_url is None and arn is not None:
                    self._urls[arn] = url
            if own_arn == state.arn or may_be_one_queue(url, self._main_url):
                url, messages, fault = None, None, self._itself(state.arn)
        self._report(None if fault is None else fault.detail)
        return replace(
            state, dead_letter_url=url, dead_letter_messages=messages, dead_letter_fault=fault
        )

    async def _find(self, queue_arn: str, arn: str) -> tuple[str | None, EdgeFault | None]:
        """The URL of the queue of a redrive policy, and why SQS does not tell it: then the URL is
        the one that it must have at this endpoint.
        """
        if arn in self._urls:
            return self._urls[arn], None
        queue = QueueName.of_arn(arn)
        if queue is None:
            detail = f"the redrive policy names {one_line(str(arn))[:200]}, which is no queue's ARN"
            return None, EdgeFault(Edge.QUEUE, Reason.NOT_FOUND, detail)
        if arn == queue_arn:
            return None, self._itself(queue_arn)
        own = QueueName.of_arn(queue_arn)
        owner = (
            {}
            if own is None or queue.account == own.account
            else {"QueueOwnerAWSAccountId": queue.account}
        )
        try:
            with edge_call(self._observe, Edge.QUEUE, "GetQueueUrl"):
                answer = await self._client.get_queue_url(QueueName=queue.name, **owner)
                self._urls[arn] = _text(answer, "QueueUrl")
        except EdgeFault as fault:
            if fault.reason in _OF_ALL_QUEUES:
                raise
            return url_beside(self._main_url, queue), _of_dead_letters(fault, arn)
        return self._urls[arn], None

    async def _count(self, url: str) -> tuple[int, str | None]:
        """The number of messages, and the queue's own ARN."""
        with edge_call(self._observe, Edge.QUEUE, "GetQueueAttributes"):
            answer = await self._client.get_queue_attributes(
                QueueUrl=url, AttributeNames=["QueueArn", "ApproximateNumberOfMessages"]
            )
            attributes = answer.get("Attributes") or {}
            own_arn = _text(attributes, "QueueArn") if "QueueArn" in attributes else None
            return _count_of(attributes, "ApproximateNumberOfMessages"), own_arn

    def _itself(self, queue_arn: str) -> EdgeFault:
        names = "the redrive policy" if self._configured_url is None else "queue.dead_letter_url"
        return EdgeFault(
            Edge.QUEUE,
            Reason.NOT_FOUND,
            f"{names} names the queue itself ({queue_arn}): rejected messages would be received "
            "again and again; name the dead-letter queue there",
            curable=False,
        )

    def _report(self, problem: str | None) -> None:
        if problem is not None and problem != self.problem:
            log.warning("dead-letter queue cannot be watched", detail=problem)
        self.problem = problem


def _of_dead_letters(fault: EdgeFault, queue: str | None) -> EdgeFault:
    """The same fault of the dead-letter queue, curable: the daemon can work without it."""
    detail = fault.detail
    if fault.reason is Reason.NOT_FOUND:
        detail = (
            "it does not exist, or not with these credentials: check the redrive policy and "
            "queue.dead_letter_url"
        )
    return EdgeFault(fault.edge, fault.reason, f"dead-letter queue {queue}: {detail}")


def _messages(received: Sequence[MessageTypeDef]) -> list[Message]:
    """The messages of a receive, without those that cannot be read: they are received again."""
    messages, unreadable = [], 0
    for each in received:
        try:
            messages.append(_message(each))
        except (OddAnswerError, AttributeError, KeyError, TypeError) as error:
            unreadable += 1
            seen = error
    if unreadable and not messages:
        raise OddAnswerError(f"none of {unreadable} messages can be read") from seen
    if unreadable:
        log.warning(
            "messages that cannot be read are left in the queue",
            unreadable=unreadable,
            read=len(messages),
        )
    return messages


def _message(received: MessageTypeDef) -> Message:
    system: Mapping[Any, Any] = received.get("Attributes") or {}
    sent = _whole(system.get("SentTimestamp"))
    body = received.get("Body", "")
    if not isinstance(body, str):
        raise OddAnswerError("a body is no text")
    attributes = {
        name: attribute["StringValue"]
        for name, attribute in (received.get("MessageAttributes") or {}).items()
        if "StringValue" in attribute and isinstance(attribute["StringValue"], str)
    }
    return Message(
        message_id=_text(received, "MessageId"),
        receipt_handle=_text(received, "ReceiptHandle"),
        body=body,
        receive_count=_whole(system.get("ApproximateReceiveCount")) or 1,
        sent_at=sent / 1000 if sent else None,
        attributes=attributes,
        was_dead_letter="DeadLetterQueueSourceArn" in system,
    )


def _state(attributes: Mapping[Any, str]) -> tuple[QueueState, str | None]:
    """The state of the queue, and the ARN in its redrive policy.

    Raises:
        KeyError, ValueError: it is not SQS's.
    """
    redrive = json.loads(attributes.get("RedrivePolicy") or "{}")
    if not isinstance(redrive, dict):
        raise OddAnswerError("the redrive policy is no object")
    arn = redrive.get("deadLetterTargetArn")
    return QueueState(
        visible=_count_of(attributes, "ApproximateNumberOfMessages"),
        in_flight=_count_of(attributes, "ApproximateNumberOfMessagesNotVisible"),
        delayed=_count_of(attributes, "ApproximateNumberOfMessagesDelayed"),
        visibility_seconds=_count_of(attributes, "VisibilityTimeout"),
        max_receive_count=int(redrive["maxReceiveCount"]) if redrive else None,
        dead_letter_url=None,
        dead_letter_messages=None,
        arn=_text(attributes, "QueueArn"),
    ), None if arn is None else str(arn)


def _answers_to_entries(
    answer: _BatchAnswer, sent: set[str], read: Callable[[Mapping[str, Any]], _Done]
) -> dict[str, _Done | Failed]:
    """The answers to the entries of a batch by their ids. In an answer that names entries, every
    one must be named: one that is left out is neither rejected nor carried out. An answer that
    names none says nothing of any, so that all are to be sent again.

    Args:
        answer: to the batch.
        sent: the ids.
        read: makes a result of a successful entry.
    """
    answers: dict[str, _Done | Failed] = {
        _text(entry, "Id"): read(entry) for entry in answer.get("Successful") or []
    }
    # an entry that is named twice has failed
    answers |= {
        _text(entry, "Id"): _failed(
            _text(entry, "Code"),
            str(entry.get("Message") or ""),
            of_the_sender=entry.get("SenderFault") is True,
        )
        for entry in answer.get("Failed") or []
    }
    if not answers:
        return dict.fromkeys(sent, Failed("NoAnswer", "the answer names no entry", stale=False))
    if answers.keys() != sent:
        raise OddAnswerError("the answer to a batch does not answer its entries")
    return answers


_LONGEST_NUMBER = 15
"""Digits; of a time in milliseconds, beyond the year 9999."""


def _whole(value: object) -> int | None:
    """A number that SQS writes as text; None if it is none."""
    text = str(value) if isinstance(value, str | int) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < _LONGEST_NUMBER else None


def _count_of(attributes: Mapping[Any, str], name: str) -> int:
    """Raises KeyError or ValueError for anything but a number that SQS writes as text."""
    number = _whole(attributes[name])
    if number is None:
        raise ValueError(f"{name} is no number")
    return number


def _text(fields: Mapping[str, Any] | Any, name: str) -> str:  # noqa: ANN401 - typed dictionaries of the stubs
    """A text that is not empty.

    Raises:
        KeyError: it is missing.
        OddAnswerError: it is something else.
    """
    value = fields[name]
    if not isinstance(value, str) or not value or not is_plain(value):
        raise OddAnswerError(f"{name} is no text")
    return value


def _nothing(_entry: Mapping[str, Any]) -> None:
    """What a deletion or a hiding results in."""


def _failed(code: str, detail: str, *, of_the_sender: bool) -> Failed:
    reason = reason_of_code(code)
    code = code.removeprefix("AWS.SimpleQueueService.")
    stale = code in _STALE or (
        code == "InvalidParameterValue" and _ABOUT_THE_HANDLE.search(detail) is not None
    )
    # throttled and forbidden entries are marked as the sender's fault, too
    refused = of_the_sender and reason is None and not stale
    return Failed(code, one_line(detail)[:300], stale, refused, reason)
