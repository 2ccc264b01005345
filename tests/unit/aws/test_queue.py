"""Responses of AWS, moto and ElasticMQ, which differ in form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from structlog.testing import capture_logs

from daemon.aws.ports import Failed, Message, OutgoingMessage, Sent
from daemon.aws.queue import SqsQueue
from daemon.errors import EdgeFault, JobRefused
from daemon.reasons import Reason

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs"
DEAD_LETTERS = "https://sqs.eu-west-1.amazonaws.com/123456789012/dead"
ATTRIBUTES = {
    "QueueArn": "arn:aws:sqs:eu-west-1:123456789012:jobs",
    "VisibilityTimeout": "30",
    "ApproximateNumberOfMessages": "7",
    "ApproximateNumberOfMessagesNotVisible": "2",
    "ApproximateNumberOfMessagesDelayed": "1",
}


class Sqs:
    """A client with prepared responses, by method or by (method, URL of the queue)."""

    def __init__(self, answers: dict[Any, Any]) -> None:
        self.answers = answers
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, method: str) -> Any:
        async def call(**parameters: Any) -> Any:
            self.calls.append((method, parameters))
            answer = self.answers.get(
                (method, parameters.get("QueueUrl")), self.answers.get(method)
            )
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def queue(answers: dict[Any, Any], **options: Any) -> tuple[SqsQueue, Sqs]:
    client: Any = Sqs(answers)
    return SqsQueue(client, client, URL, **options), client


def refusal(code: str, operation: str = "SendMessage", message: str = "no") -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 400}},  # type: ignore[typeddict-item] # the members that matter
        operation,
    )


@pytest.mark.parametrize(
    "answer", [{}, {"Messages": []}, {"Messages": None}], ids=["AWS", "ElasticMQ", "null"]
)
async def test_an_empty_receive_is_no_message(answer: dict[str, Any]) -> None:
    sqs, _ = queue({"receive_message": answer})

    assert await sqs.receive(limit=10, wait_seconds=20, visibility_seconds=60) == []


async def test_a_receive_asks_for_what_the_daemon_uses() -> None:
    sqs, client = queue({"receive_message": {}})

    await sqs.receive(limit=7, wait_seconds=20, visibility_seconds=60)

    assert client.calls == [
        (
            "receive_message",
            {
                "QueueUrl": URL,
                "MaxNumberOfMessages": 7,
                "WaitTimeSeconds": 20,
                "VisibilityTimeout": 60,
                "MessageSystemAttributeNames": [
                    "ApproximateReceiveCount",
                    "SentTimestamp",
                    "DeadLetterQueueSourceArn",
                ],
                "MessageAttributeNames": ["reason", "detail", "origin"],
            },
        )
    ]


async def test_a_message_is_read_whole() -> None:
    received = {
        "MessageId": "m",
        "ReceiptHandle": "h",
        "Body": "b",
        "Attributes": {"ApproximateReceiveCount": "3", "SentTimestamp": "1763628000050"},
        "MessageAttributes": {
            "reason": {"DataType": "String", "StringValue": "job_gone"},
            "detail": {"DataType": "Binary", "BinaryValue": b"x"},
        },
    }
    sqs, _ = queue({"receive_message": {"Messages": [received]}})

    (message,) = await sqs.receive(limit=1, wait_seconds=0, visibility_seconds=30)

    assert message == Message("m", "h", "b", 3, 1763628000.05, {"reason": "job_gone"})


GOOD = {"MessageId": "m-1", "ReceiptHandle": "h-1", "Body": "{}"}
BROKEN: list[Any] = [
    {},
    {**GOOD, "MessageId": None},
    {**GOOD, "ReceiptHandle": 7},
    {**GOOD, "Body": ["{}"]},
    {**GOOD, "Attributes": 5},
    {**GOOD, "MessageAttributes": {"reason": 5}},
    "a message",
    None,
]


@pytest.mark.parametrize("broken", BROKEN, ids=str)
async def test_messages_that_cannot_be_read_do_not_lose_the_good_ones(broken: object) -> None:
    sqs, _ = queue({"receive_message": {"Messages": [broken, GOOD]}})
    with capture_logs() as logs:
        [received] = await sqs.receive(limit=10, wait_seconds=1, visibility_seconds=30)
    assert received.receipt_handle == "h-1"
    assert [line["event"] for line in logs] == [
        "messages that cannot be read are left in the queue"
    ]
    sqs, _ = queue({"receive_message": {"Messages": [broken, broken]}})
    with pytest.raises(EdgeFault) as caught:
        await sqs.receive(limit=10, wait_seconds=1, visibility_seconds=30)
    assert (caught.value.reason, caught.value.curable) == (Reason.NOT_THE_API, True)


@pytest.mark.parametrize("odd", ["soon", "-1", "9" * 5000, "9" * 17, "1e9", True, ["1"], 1.5])
async def test_an_odd_count_or_time_of_a_message_is_left_out(odd: object) -> None:
    system = {"ApproximateReceiveCount": odd, "SentTimestamp": odd}
    sqs, _ = queue({"receive_message": {"Messages": [{**GOOD, "Attributes": system}]}})
    [received] = await sqs.receive(limit=10, wait_seconds=1, visibility_seconds=30)
    assert (received.receive_count, received.sent_at) == (1, None)


@pytest.mark.parametrize(
    "answer",
    [
        {"Failed": [{"Code": "InternalError", "SenderFault": False}]},
        {"Failed": [{"Id": "0", "Code": 5, "SenderFault": False}]},
        {"Failed": [{"Id": "no such", "Code": "InternalError", "SenderFault": False}]},
        {"Failed": ["0"], "Successful": []},
        {"Successful": [{"Id": "1"}]},
        {"Successful": [{}], "Failed": []},
        {"Failed": 7},
    ],
    ids=str,
)
async def test_a_batch_whose_answer_leaves_an_entry_in_doubt_is_a_fault_of_the_queue(
    answer: dict[str, Any],
) -> None:
    sqs, _ = queue({"delete_message_batch": answer, "change_message_visibility_batch": answer})
    for call in (sqs.delete(["h", "i"]), sqs.hide([("h", 5), ("i", 5)])):
        with pytest.raises(EdgeFault) as caught:
            await call
        assert (caught.value.reason, caught.value.curable) == (Reason.NOT_THE_API, True)


async def test_a_message_of_a_server_that_tells_little_is_a_first_receive() -> None:
    sqs, _ = queue(
        {"receive_message": {"Messages": [{"MessageId": "m", "ReceiptHandle": "h", "Body": "b"}]}}
    )

    (message,) = await sqs.receive(limit=1, wait_seconds=0, visibility_seconds=30)

    assert message == Message("m", "h", "b", 1, None, {})


TOTAL = (
    "Value 43200 for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout "
    "for the message is beyond"
)
EXPIRED = (
    "Value AQEB for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."
)


@pytest.mark.parametrize(
    ("code", "message", "stale"),
    [
        ("ReceiptHandleIsInvalid", "The input receipt handle is invalid.", True),
        ("AWS.SimpleQueueService.MessageNotInflight", "", True),
        ("MessageNotInflight", "", True),
        ("InvalidParameterValue", TOTAL, True),
        ("InvalidParameterValue", EXPIRED, True),
        ("InvalidParameterValue", "Visibility timeout invalid", False),
        ("InternalError", "We encountered an internal error. Please try again.", False),
    ],
)
@pytest.mark.parametrize("call", ["delete", "hide"])
async def test_every_refused_entry_is_told_apart(
    code: str, message: str, call: str, *, stale: bool
) -> None:
    answer = {
        "Successful": [{"Id": "0"}, {"Id": "2"}],
        "Failed": [{"Id": "1", "Code": code, "Message": message}],
    }
    sqs, _ = queue({"delete_message_batch": answer, "change_message_visibility_batch": answer})

    if call == "delete":
        entries = await sqs.delete(["a", "b", "c"])
    else:
        entries = await sqs.hide([("a", 0), ("b", 30), ("c", 60)])

    assert entries[0] is entries[2] is None
    assert entries[1] is not None
    assert (entries[1].code, entries[1].stale) == (
        code.removeprefix("AWS.SimpleQueueService."),
        stale,
    )


class RefusesOldHandles(Sqs):
    """Refuses a whole batch for one entry, as moto does for some."""

    async def delete_message_batch(
        self,
        QueueUrl: str,  # noqa: N803 - botocore's name
        Entries: list[dict[str, str]],  # noqa: N803 - botocore's name
    ) -> dict[str, Any]:
        self.calls.append(("delete_message_batch", {"Entries": Entries}))
        if any(entry["ReceiptHandle"] == "old" for entry in Entries):
            raise refusal("ReceiptHandleIsInvalid", "DeleteMessageBatch")
        return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}


async def test_one_bad_entry_does_not_spoil_its_batch_and_is_no_outage() -> None:
    client: Any = RefusesOldHandles({})

    first, old, last = await SqsQueue(client, client, URL).delete(["a", "old", "b"])

    assert first is last is None
    assert old is not None
    assert (old.code, old.stale) == ("ReceiptHandleIsInvalid", True)
    assert len(client.calls) == 4


async def test_an_outage_of_a_batch_is_not_tried_one_by_one() -> None:
    sqs, client = queue({"delete_message_batch": EndpointConnectionError(endpoint_url=URL)})

    with pytest.raises(EdgeFault):
        await sqs.delete(["a", "b"])

    assert len(client.calls) == 1


@pytest.mark.parametrize("size", [0, 11])
async def test_a_batch_has_one_to_ten_entries(size: int) -> None:
    sqs, client = queue({})

    with pytest.raises(ValueError, match="1 to 10"):
        await sqs.delete(["h"] * size)
    with pytest.raises(ValueError, match="1 to 10"):
        await sqs.hide([("h", 0)] * size)

    assert client.calls == []


@pytest.mark.parametrize(
    "code",
    [
        "InvalidMessageContents",
        "InvalidParameterValue",
        "InvalidAttributeValue",
        "MissingParameter",
    ],
)
async def test_a_letter_that_sqs_refuses_is_refused_and_no_outage(code: str) -> None:
    sqs, _ = queue({"send_message": refusal(code, message="too long")})

    with pytest.raises(JobRefused, match="too long"):
        await sqs.send_dead_letter(DEAD_LETTERS, "body", {})


@pytest.mark.parametrize("code", ["AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"])
async def test_a_missing_dead_letter_queue_is_named_and_no_reason_to_end(code: str) -> None:
    sqs, _ = queue({"send_message": refusal(code)})

    with pytest.raises(EdgeFault, match=DEAD_LETTERS) as caught:
        await sqs.send_dead_letter(DEAD_LETTERS, "body", {})

    assert (caught.value.reason, caught.value.curable) == (Reason.NOT_FOUND, True)


@pytest.mark.parametrize("code", ["AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"])
async def test_a_missing_queue_is_incurable(code: str) -> None:
    sqs, _ = queue({"receive_message": refusal(code, "ReceiveMessage")})

    with pytest.raises(EdgeFault, match=r"queue\.url") as caught:
        await sqs.receive(limit=1, wait_seconds=0, visibility_seconds=30)

    assert not caught.value.curable


async def test_calls_are_counted() -> None:
    counted: list[tuple[str, str, str]] = []
    answers = {
        "receive_message": {},
        "delete_message_batch": {},
        "change_message_visibility_batch": refusal(
            "RequestThrottled", "ChangeMessageVisibilityBatch"
        ),
        "send_message": refusal("InvalidMessageContents"),
    }
    sqs, _ = queue(answers, observe=lambda *call: counted.append(call))

    await sqs.receive(limit=1, wait_seconds=0, visibility_seconds=30)
    await sqs.delete(["h"])
    with pytest.raises(EdgeFault):
        await sqs.hide([("h", 0)])
    with pytest.raises(JobRefused):
        await sqs.send_dead_letter(DEAD_LETTERS, "body", {})

    assert counted == [
        ("sqs", "ReceiveMessage", "ok"),
        ("sqs", "DeleteMessageBatch", "ok"),
        ("sqs", "ChangeMessageVisibilityBatch", "throttled"),
        ("sqs", "SendMessage", "refused"),
    ]


def redriving(arn: str, max_receive_count: int | str = 3) -> dict[str, Any]:
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": max_receive_count})
    return {"Attributes": ATTRIBUTES | {"RedrivePolicy": policy}}


@pytest.mark.parametrize("count", [3, "3"], ids=["number", "text"])
async def test_the_state_has_all_counts(count: int | str) -> None:
    answers = {
        ("get_queue_attributes", URL): redriving("arn:aws:sqs:eu-west-1:123456789012:dead", count),
        ("get_queue_attributes", DEAD_LETTERS): {
            "Attributes": {"ApproximateNumberOfMessages": "5"}
        },
        "get_queue_url": {"QueueUrl": DEAD_LETTERS},
    }
    sqs, client = queue(answers)

    state = await sqs.state()
    again = await sqs.state()

    assert state == again
    assert state.arn == ATTRIBUTES["QueueArn"]
    assert (state.visible, state.in_flight, state.delayed, state.visibility_seconds) == (
        7,
        2,
        1,
        30,
    )
    assert (state.max_receive_count, state.dead_letter_url, state.dead_letter_messages) == (
        3,
        DEAD_LETTERS,
        5,
    )
    assert [parameters for method, parameters in client.calls if method == "get_queue_url"] == [
        {"QueueName": "dead"}
    ]


async def test_a_dead_letter_queue_of_another_account_is_asked_for_with_its_owner() -> None:
    answers = {
        ("get_queue_attributes", URL): redriving("arn:aws:sqs:eu-west-1:000000000042:dead"),
        "get_queue_attributes": {"Attributes": {"ApproximateNumberOfMessages": "5"}},
        "get_queue_url": {"QueueUrl": DEAD_LETTERS},
    }
    sqs, client = queue(answers)

    await sqs.state()

    owner = {"QueueName": "dead", "QueueOwnerAWSAccountId": "000000000042"}
    assert ("get_queue_url", owner) in client.calls


async def test_a_queue_without_redrive_policy_has_no_dead_letter_queue() -> None:
    sqs, _ = queue({"get_queue_attributes": {"Attributes": ATTRIBUTES}})

    state = await sqs.state()

    assert (state.max_receive_count, state.dead_letter_url, state.dead_letter_messages) == (
        None,
        None,
        None,
    )
    assert sqs.dead_letter_problem is None


async def test_a_missing_permission_to_find_the_dead_letter_queue_is_logged_once() -> None:
    answers = {
        ("get_queue_attributes", URL): redriving("arn:aws:sqs:eu-west-1:123456789012:dead"),
        "get_queue_url": refusal("AccessDenied", "GetQueueUrl"),
        "get_queue_attributes": refusal("AccessDenied", "GetQueueAttributes"),
    }
    sqs, _ = queue(answers)

    with capture_logs() as logs:
        state = await sqs.state()
        await sqs.state()

    assert (state.visible, state.dead_letter_messages) == (7, None)
    assert sqs.dead_letter_problem is not None
    assert "sqs:GetQueueUrl" in sqs.dead_letter_problem
    assert [line["detail"] for line in logs] == [sqs.dead_letter_problem]


async def test_a_missing_permission_to_count_dead_letters_leaves_their_url() -> None:
    answers = {
        ("get_queue_attributes", URL): {"Attributes": ATTRIBUTES},
        ("get_queue_attributes", DEAD_LETTERS): refusal("AccessDenied", "GetQueueAttributes"),
    }
    sqs, client = queue(answers, dead_letter_url=DEAD_LETTERS)

    state = await sqs.state()
    problem = sqs.dead_letter_problem
    client.answers["get_queue_attributes", DEAD_LETTERS] = {
        "Attributes": {"ApproximateNumberOfMessages": "5"}
    }
    later = await sqs.state()

    assert (state.dead_letter_url, state.dead_letter_messages) == (DEAD_LETTERS, None)
    assert problem is not None
    assert "sqs:GetQueueAttributes" in problem
    assert (later.dead_letter_messages, sqs.dead_letter_problem) == (5, None)


@pytest.mark.parametrize(
    "code", ["AccessDenied", "QueueDoesNotExist", "RequestThrottled", "InvalidAddress", "Odd"]
)
@pytest.mark.parametrize(
    ("url", "arn", "built"),
    [
        (URL, "arn:aws:sqs:eu-west-1:123456789012:dead", DEAD_LETTERS),
        (
            "https://vpce-0a-1b.sqs.eu-west-1.vpce.amazonaws.com/123456789012/jobs",
            "arn:aws:sqs:eu-west-1:000000000042:dead",
            "https://vpce-0a-1b.sqs.eu-west-1.vpce.amazonaws.com/000000000042/dead",
        ),
        (
            "http://localhost:4566/queue/eu-west-1/123456789012/jobs",
            "arn:aws:sqs:eu-west-1:123456789012:dead",
            "http://localhost:4566/queue/eu-west-1/123456789012/dead",
        ),
        (
            "http://elasticmq:9324/000000000000/jobs",
            "arn:aws:sqs:elasticmq:000000000000:dead",
            "http://elasticmq:9324/000000000000/dead",
        ),
    ],
    ids=["AWS", "VPC endpoint, other account", "LocalStack", "ElasticMQ"],
)
async def test_a_dead_letter_queue_that_cannot_be_looked_up_has_the_url_of_its_arn(
    code: str, url: str, arn: str, built: str
) -> None:
    answers = {
        ("get_queue_attributes", url): redriving(arn),
        "get_queue_attributes": refusal(code, "GetQueueAttributes"),
        "get_queue_url": refusal(code, "GetQueueUrl"),
    }
    if code == "Odd":
        answers |= {"get_queue_attributes": {}, "get_queue_url": {}}
    client: Any = Sqs(answers)

    state = await SqsQueue(client, client, url).state()

    assert state.dead_letter_url == built
    assert state.dead_letter_fault is not None
    assert state.dead_letter_fault.curable


async def test_a_built_url_that_works_is_as_good_as_one_that_sqs_has_told() -> None:
    answers = {
        ("get_queue_attributes", URL): redriving("arn:aws:sqs:eu-west-1:123456789012:dead"),
        ("get_queue_attributes", DEAD_LETTERS): {
            "Attributes": {"ApproximateNumberOfMessages": "5"}
        },
        "get_queue_url": refusal("AccessDenied", "GetQueueUrl"),
    }
    sqs, client = queue(answers)

    state = await sqs.state()
    await sqs.state()

    assert (state.dead_letter_url, state.dead_letter_messages) == (DEAD_LETTERS, 5)
    assert (state.dead_letter_fault, sqs.dead_letter_problem) == (None, None)
    assert [method for method, _ in client.calls].count("get_queue_url") == 1


@pytest.mark.parametrize("arn", ["", "dead", "arn:aws:sns:eu-west-1:123456789012:dead"])
async def test_a_redrive_policy_that_names_no_queue_is_not_taken_for_none(arn: str) -> None:
    sqs, _ = queue({"get_queue_attributes": redriving(arn)})

    state = await sqs.state()

    assert state.dead_letter_url is None
    assert state.dead_letter_fault is not None
    assert "redrive policy" in state.dead_letter_fault.detail


ALIAS = "http://10.0.0.7:8080/000000000000/alias"


@pytest.mark.parametrize(
    ("configured", "arn", "key"),
    [
        (ALIAS, None, "queue.dead_letter_url"),
        (URL.replace("https", "http"), None, "queue.dead_letter_url"),
        (None, ATTRIBUTES["QueueArn"], "the redrive policy"),
    ],
    ids=["by its ARN", "by its URL", "redrive policy"],
)
async def test_a_dead_letter_queue_that_is_the_queue_itself_is_a_configuration_error(
    configured: str | None, arn: str | None, key: str
) -> None:
    own = {"Attributes": ATTRIBUTES} if arn is None else redriving(arn)
    answers = {
        "get_queue_attributes": own if configured == ALIAS else refusal("AccessDenied"),
        ("get_queue_attributes", URL): own,
        "get_queue_url": {"QueueUrl": URL},
    }
    sqs, _ = queue(answers, dead_letter_url=configured)

    state = await sqs.state()

    assert state.dead_letter_url is None
    assert state.dead_letter_fault is not None
    assert not state.dead_letter_fault.curable
    assert state.dead_letter_fault.detail.startswith(key)


async def test_an_outage_is_not_taken_for_a_queue_without_dead_letters() -> None:
    answers = {
        ("get_queue_attributes", URL): redriving("arn:aws:sqs:eu-west-1:123456789012:dead"),
        "get_queue_url": EndpointConnectionError(endpoint_url=URL),
    }
    sqs, _ = queue(answers)

    with pytest.raises(EdgeFault) as caught:
        await sqs.state()

    assert caught.value.reason is Reason.UNREACHABLE


@pytest.mark.parametrize(
    "attributes", [{}, ATTRIBUTES | {"VisibilityTimeout": "soon"}], ids=["none", "odd"]
)
async def test_an_answer_that_is_not_of_sqs_is_said_to_be_so(attributes: dict[str, str]) -> None:
    sqs, _ = queue({"get_queue_attributes": {"Attributes": attributes}})

    with pytest.raises(EdgeFault) as caught:
        await sqs.state()

    assert (caught.value.reason, caught.value.curable) == (Reason.NOT_THE_API, False)


@pytest.mark.parametrize("answer", [{}, {"Successful": [], "Failed": []}, {"Failed": None}])
async def test_an_answer_that_names_no_entry_leaves_all_to_be_sent_again(
    answer: dict[str, Any],
) -> None:
    sqs, _ = queue({"delete_message_batch": answer, "change_message_visibility_batch": answer})
    for answers in (await sqs.delete(["h", "i"]), await sqs.hide([("h", 0), ("i", 5)])):
        assert [(failed is not None and failed.stale) for failed in answers] == [False, False]
        assert all(failed is not None for failed in answers)


@pytest.mark.parametrize("answer", [{}, {"MessageId": ""}, {"MessageId": 7}, {"Messages": []}])
async def test_an_answer_without_a_message_id_has_sent_no_dead_letter(
    answer: dict[str, Any],
) -> None:
    sqs, _ = queue({"send_message": answer})
    with pytest.raises(EdgeFault) as caught:
        await sqs.send_dead_letter(DEAD_LETTERS, "body", {})
    assert (caught.value.reason, caught.value.curable) == (Reason.NOT_THE_API, True)


def outgoing(*bodies: str) -> list[OutgoingMessage]:
    return [OutgoingMessage(body, {"origin": "backfill"}) for body in bodies]


async def test_messages_are_sent_with_their_attributes_and_every_entry_is_answered() -> None:
    answer = {
        "Successful": [{"Id": "2", "MessageId": "m-2"}, {"Id": "0", "MessageId": "m-0"}],
        "Failed": [{"Id": "1", "Code": "InternalError", "SenderFault": False, "Message": "again"}],
    }
    sqs, client = queue({"send_message_batch": answer})

    sent = await sqs.send(outgoing("a", "b", "c"))

    assert sent == [
        Sent("m-0"),
        Failed("InternalError", "again", stale=False, reason=Reason.UNAVAILABLE),
        Sent("m-2"),
    ]
    [(_, parameters)] = client.calls
    assert parameters["QueueUrl"] == URL
    assert parameters["Entries"][1] == {
        "Id": "1",
        "MessageBody": "b",
        "MessageAttributes": {"origin": {"DataType": "String", "StringValue": "backfill"}},
    }


@pytest.mark.parametrize(
    ("code", "sender_fault", "refused", "reason"),
    [
        ("InvalidMessageContents", True, True, None),
        ("InternalError", False, False, Reason.UNAVAILABLE),
        ("RequestThrottled", True, False, Reason.THROTTLED),
        ("AWS.SimpleQueueService.KmsThrottled", True, False, Reason.THROTTLED),
        ("KmsAccessDenied", True, False, Reason.ACCESS_DENIED),
    ],
)
async def test_what_is_wrong_with_a_failed_entry_is_told_apart(
    code: str,
    sender_fault: bool,  # noqa: FBT001 - the case
    refused: bool,  # noqa: FBT001 - the case
    reason: Reason | None,
) -> None:
    failed = {"Id": "0", "Code": code, "SenderFault": sender_fault, "Message": "no"}
    sqs, _ = queue({"send_message_batch": {"Failed": [failed]}})

    [entry] = await sqs.send(outgoing("a"))

    assert isinstance(entry, Failed)
    assert (entry.refused, entry.reason) == (refused, reason)


@pytest.mark.parametrize(
    "answer",
    [
        {"Successful": [{"Id": "0", "MessageId": "m"}]},
        {"Successful": [{"Id": "0", "MessageId": "m"}, {"Id": "1"}]},
        {"Successful": [{"Id": "0", "MessageId": ""}, {"Id": "1", "MessageId": "m"}]},
    ],
    ids=str,
)
async def test_a_message_is_not_taken_for_sent_without_an_answer(answer: dict[str, Any]) -> None:
    sqs, _ = queue({"send_message_batch": answer})
    with pytest.raises(EdgeFault) as caught:
        await sqs.send(outgoing("a", "b"))
    assert (caught.value.reason, caught.value.curable) == (Reason.NOT_THE_API, True)


async def test_an_answer_that_names_no_message_is_none() -> None:
    sqs, _ = queue({"send_message_batch": {}})
    assert [isinstance(each, Failed) for each in await sqs.send(outgoing("a", "b"))] == [True, True]


async def test_a_throttled_batch_is_a_fault_of_the_queue() -> None:
    sqs, _ = queue({"send_message_batch": refusal("RequestThrottled", "SendMessageBatch")})
    with pytest.raises(EdgeFault) as caught:
        await sqs.send(outgoing("a"))
    assert caught.value.reason is Reason.THROTTLED


class LimitsBatches(Sqs):
    """Takes no batch of more than a few bytes."""

    async def send_message_batch(
        self,
        QueueUrl: str,  # noqa: N803 - botocore's name
        Entries: list[dict[str, str]],  # noqa: N803 - botocore's name
    ) -> Any:
        self.calls.append((QueueUrl, {}))
        if sum(len(entry["MessageBody"]) for entry in Entries) > len("four"):
            raise refusal("AWS.SimpleQueueService.BatchRequestTooLong", "SendMessageBatch")
        return {"Successful": [{"Id": entry["Id"], "MessageId": "m"} for entry in Entries]}


async def test_a_batch_that_is_too_large_is_sent_one_by_one() -> None:
    client: Any = LimitsBatches({})

    answers = await SqsQueue(client, client, URL).send(outgoing("four", "large", "c"))

    assert [isinstance(answer, Sent) for answer in answers] == [True, False, True]
    assert isinstance(answers[1], Failed)
    assert answers[1].refused


async def test_no_more_than_ten_messages_are_sent_at_once() -> None:
    sqs, _ = queue({})
    for count in (0, 11):
        with pytest.raises(ValueError, match="1 to 10"):
            await sqs.send(outgoing(*"abcdefghijk"[:count]))
