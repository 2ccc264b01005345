"""What services put around an event between the rule and the queue: opened, or rejected; never
skipped.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from daemon.training_job.event import MalformedBody, OtherEvent, TrainingJobEvent, parse_event

NAME = "router-2026-02-02-02-40"
ARN = f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{NAME}"


def event(name: str = NAME, **detail: Any) -> dict[str, Any]:
    arn = ARN.replace(NAME, name)
    return {
        "version": "0",
        "id": "5e0c2f1a-8d5b-4a6e-9a53-7c1f6f1f0a01",
        "detail-type": "SageMaker Training Job State Change",
        "source": "aws.sagemaker",
        "account": "123456789012",
        "time": "2026-02-02T03:32:05Z",
        "region": "eu-west-1",
        "resources": [arn],
        "detail": {
            "TrainingJobName": name,
            "TrainingJobArn": arn,
            "TrainingJobStatus": "Completed",
            "CreationTime": 1770000000461,
        }
        | detail,
    }


ENDPOINT = {
    **event(),
    "detail-type": "SageMaker Endpoint State Change",
    "resources": [],
    "detail": {"EndpointName": "churn", "EndpointStatus": "IN_SERVICE"},
}


def sns(message: object) -> dict[str, Any]:
    return {
        "Type": "Notification",
        "TopicArn": "arn:aws:sns:eu-west-1:123456789012:jobs",
        "MessageId": "m",
        "Message": json.dumps(message),
    }


def lambda_sns(message: object) -> dict[str, Any]:
    record = {"EventSource": "aws:sns", "EventVersion": "1.0", "Sns": sns(message)}
    return {"Records": [record]}


def sqs(body: object, **changes: Any) -> dict[str, Any]:
    return {
        "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
        "receiptHandle": "AQEB",
        "body": body if isinstance(body, str) else json.dumps(body),
        "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:first",
        "awsRegion": "eu-west-1",
    } | changes


def destination(payload: object) -> dict[str, Any]:
    return {
        "version": "1.0",
        "timestamp": "2026-02-02T03:35:05.000Z",
        "requestContext": {"functionArn": "arn:aws:lambda:eu-west-1:123456789012:function:filter"},
        "requestPayload": payload,
        "responseContext": {"statusCode": 200, "functionError": "Unhandled"},
        "responsePayload": {"errorMessage": f"boom at {ARN}"},
    }


def pipe(detail: object) -> dict[str, Any]:
    return {
        **ENDPOINT,
        "source": "Pipe jobs",
        "detail-type": "Event from aws:sqs",
        "detail": detail,
    }


def result(detail: object) -> dict[str, Any]:
    kind = "Lambda Function Invocation Result - Failure"
    return {**ENDPOINT, "source": "lambda", "detail-type": kind, "detail": detail}


WRAPPED = {
    "sqs record": sqs(event()),
    "sqs records": {"Records": [sqs(event())]},
    "a list with an sqs record": [sqs(event())],
    "ReceiveMessage": {"Messages": [1], "Body": json.dumps(event()), "MessageId": "m"},
    "a Lambda's event written by hand": {"records": [{"body": event()}]},
    "destination": destination(event()),
    "destination of records": destination({"Records": [sqs(event())]}),
    "destination of a pipe": destination([sqs(event())]),
    "destination of sns": destination(lambda_sns(event())),
    "destination on the bus": result(destination(event())),
    "pipe to the bus": pipe(sqs(event())),
    "sns for lambda": lambda_sns(event()),
    "sns in sns": sns(sns(event())),
    "sns in an sqs record": sqs(sns(event())),
    "sqs record in sns": sns(sqs(event())),
    "sns without its topic": {"Type": "Notification", "Message": json.dumps(event())},
    "sns per protocol": sns({"default": json.dumps(event())}),
    "event": {"event": event()},
    "event as text": {"event": json.dumps(event())},
    "detail alone": {"detail": event()["detail"]},
    "detail beside its resources": {"resources": [ARN], "detail": event()["detail"]},
    "envelope in other spelling": {"detailType": "x", "Detail": json.dumps(event()["detail"])},
    "event and the rule": {"rule": "jobs", "event": event(), "time": "2026-02-02T03:32:05Z"},
    "input of step functions": {"Input": event(), "Cause": "x"},
    "output of step functions": {"output": json.dumps({"TrainingJobArn": ARN}), "status": "x"},
    "all of ReceiveMessage": {"Messages": [{"Body": json.dumps(event()), "MessageId": "m"}]},
    "entries of PutEvents": {
        "Entries": [{"Source": "acme", "Detail": json.dumps(event()["detail"])}]
    },
    "a list of jobs": {"jobs": [{"name": NAME, "arn": ARN}]},
    "a proxy of API Gateway": {"httpMethod": "POST", "body": json.dumps(event())},
    "encoded twice": json.dumps(event()),
    "encoded three times": json.dumps(json.dumps(event())),
    "four deep": sqs(sns(destination({"Records": [sqs(event())]}))),
    "detail as text": {**event(), "detail": json.dumps(event()["detail"])},
    "other member names inside": sqs({"trainingJobName": NAME, "trainingJobArn": ARN}),
    "same event twice": {"Records": [sqs(event()), sqs(event())]},
    "with another event": {"Records": [sqs(ENDPOINT), sqs(event())]},
}


@pytest.mark.parametrize("document", WRAPPED.values(), ids=WRAPPED)
def test_wrappers_are_opened(document: object) -> None:
    found = parse_event(json.dumps(document))
    assert isinstance(found, TrainingJobEvent), found
    assert found.arn is not None
    assert (found.name, found.arn.text) == (NAME, ARN)
    # it may have waited anywhere, so that it does not prove that its job is new
    assert not found.whole


def test_only_sns_delivers_an_event_whole() -> None:
    found = parse_event(json.dumps(sns(event())))
    assert isinstance(found, TrainingJobEvent)
    assert found.whole


def test_a_batch_of_one_job_says_what_its_events_agree_on() -> None:
    batch = {
        "Records": [sqs(event(TrainingJobStatus="InProgress")), sqs(event()), sqs({"arn": ARN})]
    }
    found = parse_event(json.dumps(batch))
    assert isinstance(found, TrainingJobEvent)
    assert (found.name, found.status) == (NAME, None)
    assert found.creation_time is not None


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"Records": [sqs(event()), sqs(event("churn-1"))]}, ["2 training jobs", NAME, "churn-1"]),
        ([sqs(event()), sqs(event("churn-1"))], ["2 training jobs"]),
        (destination([sqs(event(f"job-{n}")) for n in range(7)]), ["7 training jobs"]),
        ({"Records": [sqs(event()), sqs(event(CreationTime=1))]}, ["2 training jobs"]),
        ({"event": event(), "detail": event("churn-1")}, ["2 training jobs", "churn-1"]),
        ({"Records": [sqs(event()), sqs("garbage")]}, ["not an event"]),
        ({"Records": []}, ["not an event", "Records"]),
        (sqs("training has finished"), ["not an event", "body"]),
        (sqs('{"cut'), ["body is text, not an object", "Unterminated"]),
        ({"Records": [sqs({"TrainingJobName": 1})]}, ["TrainingJobName is a number"]),
        ({"Records": [{"eventSource": "aws:kinesis", "kinesis": {"data": "eyJ"}}]}, ["not an"]),
        ({"Records": [{"eventSource": "aws:s3", "s3": {"about": ARN}}]}, ["in s3.about"]),
        ({"Records": [{"eventSource": "acme:jobs"}]}, ["not an event"]),
        ([event()], ["a list, not an object"]),
        ([event(), event("churn-1")], ["a list, not an object"]),
        ({"event": ENDPOINT, "about": ARN}, ["mentioned in about"]),
        ({"event": ENDPOINT, "context": {"trainingJobName": NAME}}, ["context.trainingJobName"]),
        (pipe({"trainingJobName": [1]}), ["trainingJobName is a list"]),
        (sns({"about": ARN[4:]}), ["not an event", "mentioned in about"]),
    ],
)
def test_what_cannot_be_opened_is_rejected(document: object, words: list[str]) -> None:
    found = parse_event(json.dumps(document))
    assert isinstance(found, MalformedBody), found
    assert not [word for word in words if word not in found.detail], found.detail


def test_wrappers_too_deep_are_rejected() -> None:
    document: object = event()
    for _ in range(20):
        document = {"event": document}
    found = parse_event(json.dumps(document))
    assert isinstance(found, MalformedBody)
    assert "layers" in found.detail


@pytest.mark.parametrize(
    "document",
    [
        sqs(ENDPOINT),
        {"Records": [sqs(ENDPOINT), sqs(ENDPOINT)]},
        destination(ENDPOINT) | {"responsePayload": None},
        {"event": ENDPOINT},
        {"detail": {"ProcessingJobName": "debugger", "TrainingJobArn": ARN}},
        lambda_sns(ENDPOINT),
        sqs({"Records": [{"eventSource": "aws:s3", "s3": {"object": {"key": "a"}}}]}),
        pipe({"records": "of another kind"}),
        pipe(sqs(ENDPOINT)),
        json.dumps(ENDPOINT),
    ],
)
def test_what_is_known_to_be_another_event_is_so_in_a_wrapper(document: object) -> None:
    assert isinstance(parse_event(json.dumps(document)), OtherEvent)


@pytest.mark.parametrize("member", ["detail", "resources"])
def test_resources_name_the_job_of_an_event_that_does_not(member: str) -> None:
    nameless = event()
    del nameless["detail"]["TrainingJobName"], nameless["detail"]["TrainingJobArn"]
    if member == "resources":
        nameless["detail"] = None
    found = parse_event(json.dumps(nameless))
    assert isinstance(found, TrainingJobEvent)
    assert found.arn is not None
    assert (found.name, found.arn.text) == (NAME, ARN)
    assert not found.whole


@pytest.mark.parametrize(
    "nameless",
    [
        {"TrainingJobStatus": "Completed"},
        {"TrainingJobName": None, "TrainingJobArn": None, "TrainingJobStatus": "Completed"},
        {"TrainingJobName": "", "TrainingJobStatus": "Completed"},
        {"status": "Completed"},
        {},
        None,
    ],
)
@pytest.mark.parametrize("more", [[], ["arn:aws:s3:::bucket"], [7, None], [ARN], [ARN.lower()]])
def test_an_event_is_of_the_one_training_job_of_its_resources(
    nameless: dict[str, Any] | None, more: list[Any]
) -> None:
    found = parse_event(json.dumps({**event(), "detail": nameless, "resources": [*more, ARN]}))
    assert isinstance(found, TrainingJobEvent)
    assert found.name == NAME


def test_resources_give_the_arn_of_a_name() -> None:
    document = event(TrainingJobArn=None) | {"account": None, "region": None}
    found = parse_event(json.dumps(document))
    assert isinstance(found, TrainingJobEvent)
    assert found.arn is not None
    assert found.arn.text == ARN


@pytest.mark.parametrize(
    "changes",
    [
        {"resources": [ARN.replace(NAME, "churn-1")]},
        {"resources": [ARN.replace(NAME, "churn-1")], "detail": {"TrainingJobName": NAME}},
        {"resources": [ARN.replace("eu-west-1", "us-east-1")]},
        {"resources": [ARN, ARN.replace(NAME, "churn-1")], "detail": {}},
        {"resources": [ARN.replace(NAME, "..")]},
        {"detail": {}, "account": "210987654321"},
    ],
)
def test_resources_of_another_job_are_a_contradiction(changes: dict[str, Any]) -> None:
    found = parse_event(json.dumps(event() | changes))
    assert isinstance(found, MalformedBody), found
    assert "training-job/" in found.detail
