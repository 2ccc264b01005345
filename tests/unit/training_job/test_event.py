from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from daemon.training_job.event import MalformedBody, OtherEvent, TrainingJobEvent, parse_event
from daemon.training_job.identity import Home
from daemon.training_job.tags import JobTags, SyncTagAbsent, TagKeys, TagsIncomplete, read_tags
from tests.support.aws_vectors import EventVector, events, tags
from tests.support.parsed_events import malformed, parsed

ARN = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/Job-1"
CREATED = datetime(2025, 11, 20, 8, 40, 0, 50_000, tzinfo=UTC)

VECTORS = events()


def detail(**changes: Any) -> dict[str, Any]:
    full = {
        "TrainingJobName": "Job-1",
        "TrainingJobArn": ARN,
        "TrainingJobStatus": "Completed",
    } | changes
    return {name: value for name, value in full.items() if value != "absent"}


def envelope(inner: object, **changes: Any) -> dict[str, Any]:
    full = {
        "version": "0",
        "id": "5a0c2eef-001f-4001-a011-1b2c3d019919",
        "detail-type": "SageMaker Training Job State Change",
        "source": "aws.sagemaker",
        "account": "123456789012",
        "time": "2025-11-20T08:55:43Z",
        "region": "eu-west-1",
        "detail": inner,
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    return {name: value for name, value in full.items() if value != "absent"}


def sns(message: object, kind: str = "Notification") -> dict[str, Any]:
    text = message if isinstance(message, str) else json.dumps(message)
    return {
        "Type": kind,
        "TopicArn": "arn:aws:sns:eu-west-1:123456789012:jobs",
        "MessageId": "m",
        "Message": text,
    }


def other(document: object) -> str:
    event = parse_event(json.dumps(document))
    assert isinstance(event, OtherEvent), event
    return event.what


def verdict(
    vector: EventVector, statuses: tuple[str, ...] = ("Completed",), keys: TagKeys | None = None
) -> tuple[str, tuple[str, ...]]:
    """The flow's outcome for a body, as far as known without AWS, and the missing tag keys."""
    event = parse_event(vector.body)
    if isinstance(event, MalformedBody):
        return "poison", ()
    if (
        isinstance(event, OtherEvent)
        or (event.status or vector.describe_status or "Completed") not in statuses
    ):
        return "skip", ()
    if (
        event.arn is not None
        and Home(event.arn.account, event.arn.region, event.arn.partition) != vector.home
    ):
        return "reject", ()
    given = read_tags(event.tags, keys or TagKeys()) if event.tags is not None else None
    if not isinstance(given, JobTags):
        given = read_tags(
            tags(vector.list_tags) if vector.list_tags else event.tags or {}, keys or TagKeys()
        )
    if isinstance(given, TagsIncomplete):
        return "reject", given.missing
    return ("skip" if isinstance(given, SyncTagAbsent) else "sync"), ()


def test_corpus(subtests: pytest.Subtests) -> None:
    for vector in VECTORS:
        with subtests.test(vector.file):
            outcome, missing = verdict(vector)
            assert outcome in vector.accept
            assert outcome == vector.expect or len(vector.accept) > 1
            if vector.missing:
                assert missing == vector.missing
            if vector.with_statuses:
                assert (
                    verdict(vector, statuses=vector.with_statuses)[0] == vector.expect_with_statuses
                )
            if vector.with_tag_keys is not None:
                assert verdict(vector, keys=vector.with_tag_keys)[0] == vector.expect_with_tag_keys
            seen = repr(parse_event(vector.body))
            assert not [text for text in vector.never_log if text in seen]


def test_corpus_is_whole() -> None:
    assert len(VECTORS) == 109


def test_all_of_an_event() -> None:
    tagged = detail(
        SecondaryStatus="Completed", CreationTime="1763628000050", Tags={"a": "1", "b": ""}
    )
    event = parsed(envelope(tagged, replay_name="again"))
    assert event == TrainingJobEvent(
        name="Job-1",
        arn=event.arn,
        status="Completed",
        creation_time=CREATED,
        tags={"a": "1", "b": ""},
        event_time=datetime(2025, 11, 20, 8, 55, 43, tzinfo=UTC),
        replayed=True,
    )
    assert event.arn is not None
    assert event.arn.text == ARN


@pytest.mark.parametrize(
    "document",
    [
        envelope(detail()),
        detail(),
        {"TrainingJobName": "Job-1", "TrainingJobArn": ARN},
        {"TrainingJobArn": ARN},
        {"name": "Job-1", "arn": ARN},
        {"arn": ARN},
        sns(envelope(detail())),
        sns(detail()),
        sns({"TrainingJobArn": ARN}),
    ],
)
def test_every_form_names_the_same_job(document: dict[str, Any]) -> None:
    event = parsed(document)
    assert event.arn is not None
    assert (event.name, event.arn.text) == ("Job-1", ARN)


def test_name_alone_is_enough_and_has_no_arn() -> None:
    event = parsed({"TrainingJobName": "Job-1"})
    assert (event.name, event.arn, event.status, event.tags) == ("Job-1", None, None, None)


def test_name_is_as_given_when_the_arn_is_in_lower_case() -> None:
    event = parsed(detail(TrainingJobArn=ARN.lower()))
    assert event.name == "Job-1"
    assert event.arn is not None
    assert event.arn.name == "job-1"


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("eu-west-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("eusc-de-east-1", "aws-eusc"),
    ],
)
def test_arn_is_built_from_account_and_region(region: str, partition: str) -> None:
    event = parsed(envelope(detail(TrainingJobArn="absent"), region=region, account="000123456789"))
    assert event.arn is not None
    assert event.arn.text == f"arn:{partition}:sagemaker:{region}:000123456789:training-job/Job-1"


@pytest.mark.parametrize(
    "changes",
    [
        {"account": 123456789012},
        {"account": "12"},
        {"region": None},
        {"region": "Ω"},
        {"region": "eu west"},
    ],
)
def test_arn_is_not_built_from_guesses(changes: dict[str, Any]) -> None:
    assert parsed(envelope(detail(TrainingJobArn=None), **changes)).arn is None


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (envelope(detail(TrainingJobName="Job-2")), ["Job-2", "Job-1", "two jobs"]),
        (envelope(detail(), account="210987654321"), ["account 210987654321", ARN]),
        (envelope(detail(), region="us-east-1"), ["region us-east-1", ARN]),
        (envelope(detail(), region="x" * 500), ["region xxx"]),
        (
            detail(TrainingJobArn=ARN.replace("eu-west-1", "e" * 500), TrainingJobName="Job-2"),
            ["TrainingJobName Job-2"],
        ),
        (detail(TrainingJobName=17), ["TrainingJobName is a number"]),
        (detail(TrainingJobName="../../admin", TrainingJobArn="absent"), ["../../admin", "63"]),
        (detail(TrainingJobName="x" * 64, TrainingJobArn="absent"), ["63"]),
        (detail(TrainingJobArn="arn:garbage"), ["TrainingJobArn is arn:garbage"]),
        (
            detail(TrainingJobArn=ARN.replace("sagemaker", "\u017fagemaker")),
            ["not the ARN of a training job"],
        ),
        (detail(TrainingJobArn=[ARN]), ["TrainingJobArn is a list"]),
        (
            detail(TrainingJobArn=None, TrainingJobName=None),
            ["neither TrainingJobName nor TrainingJobArn"],
        ),
        (detail(TrainingJobStatus=4), ["TrainingJobStatus is a number"]),
        (detail(TrainingJobStatus="no word\n"), ["TrainingJobStatus is no word"]),
        (envelope("text"), ["detail is text"]),
        (envelope("absent"), ["detail is null"]),
        (envelope(detail(), source=["aws.sagemaker"]), ["source a list"]),
        (sns("Alarm: finished"), ["SNS", "not JSON", "Alarm: finished"]),
        (sns(sns("Alarm: finished")), ["SNS", "not JSON"]),
        ({"EndpointName": "x"}, ["not an event", "EndpointName"]),
        ({"Type": 1, "TopicArn": 2}, ["not an event"]),
        ([detail()], ["a list, not an object"]),
        ("text", ["text, not an object"]),
        ({}, ["none at all"]),
    ],
)
def test_malformed_says_why(document: object, words: list[str]) -> None:
    given = malformed(document)
    assert not [word for word in words if word not in given], given
    assert len(given) <= 300


def test_a_name_of_hyphens_is_not_longer_than_the_service_allows() -> None:
    longest = f"a{'-' * 61}b"
    event = parse_event(json.dumps({"TrainingJobName": longest}))
    assert isinstance(event, TrainingJobEvent)
    assert event.name == longest
    assert "1 to 63" in malformed({"TrainingJobName": f"{longest}b"})
    assert "not the ARN" in malformed(
        {"TrainingJobArn": f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{longest}b"}
    )


@pytest.mark.parametrize(
    ("document", "what"),
    [
        (
            envelope({"EndpointName": "x"}, detail_type="SageMaker Endpoint State Change"),
            "SageMaker Endpoint State Change",
        ),
        (
            envelope(detail(), source="com.acme.ml"),
            "SageMaker Training Job State Change from com.acme.ml",
        ),
        (sns("Please confirm", kind="SubscriptionConfirmation"), "SNS SubscriptionConfirmation"),
        (sns(envelope({}, source="aws.ec2")), "SageMaker Training Job State Change from aws.ec2"),
        ({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}, "s3:TestEvent"),
        ({"Records": [{"eventSource": "aws:s3"}]}, "records of aws:s3"),
        ({"ProcessingJobName": "p", "TrainingJobArn": ARN}, "detail with ProcessingJobName"),
    ],
)
def test_other_events_are_told_apart(document: dict[str, Any], what: str) -> None:
    assert other(document) == what


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (1763628000050, CREATED),
        (1763628000050.0, CREATED),
        ("1763628000050", CREATED),
        ("1.76362800005E12", CREATED),
        ("2025-11-20T08:40:00.050Z", CREATED),
        ("2025-11-20T10:40:00.05+02:00", CREATED),
        ("2025-11-20 08:40:00.050", CREATED),
        (1763628000.05, CREATED),
        (1763628000, CREATED.replace(microsecond=0)),
        ("1763628000", CREATED.replace(microsecond=0)),
    ],
)
def test_times_of_every_form(value: object, moment: datetime) -> None:
    assert parsed(detail(CreationTime=value)).creation_time == moment
    assert parsed(envelope(detail(), time=value)).event_time == moment


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "not a time",
        "2025-11-20",
        "0001-01-01T00:00:00+14:00",
        10**20,
        "9" * 5000,
        -(10**20),
        1e300,
        True,
        [],
        {},
        "١٢٣",
    ],
)
def test_times_that_are_none(value: object) -> None:
    assert parsed(detail(CreationTime=value)).creation_time is None


@pytest.mark.parametrize("word", ["NaN", "Infinity", "1e999"])
def test_a_number_that_json_lacks_is_no_time(word: str) -> None:
    event = parse_event(f'{{"TrainingJobName": "Job-1", "CreationTime": {word}}}')
    assert isinstance(event, TrainingJobEvent)
    assert event.creation_time is None


@pytest.mark.parametrize(
    "form", [{"a": "1", "b": ""}, [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}]]
)
def test_tags_of_both_forms(form: object) -> None:
    assert parsed(detail(Tags=form)).tags == {"a": "1", "b": ""}


@pytest.mark.parametrize(
    "form",
    [
        None,
        {},
        [],
        "a=1",
        7,
        {"a": 1},
        {"a": None},
        {"a": "1", "b": True},
        [{"key": "a", "value": "1"}],
        [{"Key": "a", "Value": "1"}, "b"],
        [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}],
        {"a": "\ud800"},
        {"a\u0000": "1"},
        {"a": "line\nline"},
    ],
)
def test_tags_that_only_list_tags_can_tell(form: object) -> None:
    assert parsed(detail(Tags=form)).tags is None


@pytest.mark.parametrize("status", [None, "", "absent"])
def test_a_status_that_is_not_told_is_asked(status: object) -> None:
    assert parsed(detail(TrainingJobStatus=status)).status is None


def test_optional_members_of_wrong_types_do_not_matter() -> None:
    odd = detail(
        SecondaryStatus=[1],
        CreationTime={},
        Tags="x",
        HyperParameters=[1],
        ResourceConfig=float("nan"),
    )
    event = parsed(envelope(odd, id={"a": 1}, time=[], account=12, region=False, replay_name=None))
    assert event.arn is not None
    assert replace(event, arn=None) == TrainingJobEvent(name="Job-1", status="Completed")


@pytest.mark.parametrize(
    "body",
    [
        "",
        " ",
        "\x00",
        "\ud800",
        "\ufeff{}",
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 5000,
        '{"TrainingJobName": "a", "x": ' + "9" * 5000 + "}",
        json.dumps(sns("[" * 100_000)),
        "{'single': 'quotes'}",
        '{"TrainingJobName":"a"}{"TrainingJobName":"b"}',
        "garbage " * 125_000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_bodies_that_break_naive_parsers_are_malformed(body: str) -> None:
    event = parse_event(body)
    assert isinstance(event, MalformedBody)
    assert len(event.detail) <= 300
    event.detail.encode()


@pytest.mark.parametrize(
    "body",
    [
        '{"TrainingJobName":"a","HyperParameters":{"x":"sk-live-1"',
        '{"Environment":{"x":"sk-live-1"',
        "api_key: sk-live-1",
        "DB_PASSWORD=sk-live-1",
        "hf-token sk-live-1",
    ],
)
def test_a_quotation_ends_before_what_may_be_secret(body: str) -> None:
    event = parse_event(body)
    assert isinstance(event, MalformedBody)
    assert "sk-live" not in event.detail


ODD_VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1e308,
    "",
    "x" * 400,
    "\ud800\u0000",
    [],
    [[]],
    {},
    {"a": {"b": []}},
    [{"Key": {}}],
]


def test_nothing_raises_whatever_a_member_is() -> None:
    good = envelope(
        detail(Tags={"a": "1"}, CreationTime=1, SecondaryStatus="Completed"), replay_name="r"
    )
    wrapped = sns(good)
    bodies = [json.dumps({**good, name: odd}) for name in good for odd in ODD_VALUES]
    bodies += [
        json.dumps({**good, "detail": {**good["detail"], name: odd}})
        for name in good["detail"]
        for odd in ODD_VALUES
    ]
    bodies += [json.dumps({**wrapped, name: odd}) for name in wrapped for odd in ODD_VALUES]
    bodies += [
        json.dumps({name: odd})
        for name in ("Records", "Event", "name", "arn", "Type", "xJobName")
        for odd in ODD_VALUES
    ]
    whole = json.dumps(good)
    bodies += [whole[:end] for end in range(len(whole))]
    for body in bodies:
        repr(parse_event(body)).encode()


def test_only_what_eventbridge_sent_is_whole() -> None:
    envelope = {
        "version": "0",
        "id": "844e2571-85d4-695f-b930-0153b71dcb42",
        "detail-type": "SageMaker Training Job State Change",
        "source": "aws.sagemaker",
        "account": "123456789012",
        "time": "2025-11-20T09:00:00Z",
        "region": "eu-west-1",
        "resources": [],
        "detail": {"TrainingJobName": "churn", "TrainingJobStatus": "Completed"},
    }

    def whole(document: object) -> bool:
        event = parse_event(json.dumps(document))
        assert isinstance(event, TrainingJobEvent)
        return event.whole

    assert whole(envelope)
    assert whole({"Type": "Notification", "TopicArn": "arn:x", "Message": json.dumps(envelope)})
    for member in ("version", "id", "account", "time", "region", "resources"):
        assert not whole({name: value for name, value in envelope.items() if name != member})
        assert not whole({**envelope, member: None})
    assert not whole(envelope["detail"])
