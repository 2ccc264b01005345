"""Dead letters obey SQS's rules, and kept bodies are redacted."""

from __future__ import annotations

import json
import re

import pytest

from daemon.aws.dead_letter import MAX_MESSAGE_BYTES, DeadLetter, dead_letter, redacted_body
from daemon.reasons import Reason
from tests.support.aws_vectors import events

BODIES = {event.file: event.body for event in events()}
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def wire_size(letter: DeadLetter) -> int:
    """As SQS counts (API reference, MessageAttributeValue): name, type and value of each attribute,
    and the body.
    """
    attributes = sum(
        len(f"{name}String{value}".encode()) for name, value in letter.attributes.items()
    )
    return attributes + len(letter.body.encode())


def test_a_rejected_message_goes_with_its_reason_and_detail() -> None:
    letter = dead_letter("{}", Reason.TAGS_INCOMPLETE, "missing: MODEL_DB_MODEL_TYPE")

    assert letter == DeadLetter(
        "{}", {"reason": "tags_incomplete", "detail": "missing: MODEL_DB_MODEL_TYPE"}
    )


def test_every_recorded_body_becomes_a_letter_that_sqs_takes(subtests: pytest.Subtests) -> None:
    for event in events():
        with subtests.test(event.file):
            letter = dead_letter(event.body, Reason.MALFORMED_BODY, f"bad\x00 \ud800 {event.body}")

            assert letter is not None
            assert letter.body == event.body
            assert wire_size(letter) <= MAX_MESSAGE_BYTES
            assert all(value and not NOT_XML.search(value) for value in letter.attributes.values())


def test_a_body_of_exactly_the_limit_goes_without_attributes() -> None:
    body = BODIES["huge-1MiB-half-tagged.json"]
    assert len(body.encode()) == MAX_MESSAGE_BYTES

    assert dead_letter(body, Reason.TAGS_INCOMPLETE, "missing: MODEL_DB_MODEL_TYPE") == DeadLetter(
        body
    )


def test_attributes_go_along_up_to_the_last_byte() -> None:
    attributes = len("reason String tags_incomplete detail String é".replace(" ", "").encode())
    fitting = "ü" * ((MAX_MESSAGE_BYTES - attributes) // 2)
    fitting += "x" * (MAX_MESSAGE_BYTES - attributes - len(fitting.encode()))

    fits = dead_letter(fitting, Reason.TAGS_INCOMPLETE, "é")
    too_long = dead_letter(fitting + "x", Reason.TAGS_INCOMPLETE, "é")

    assert fits is not None
    assert wire_size(fits) == MAX_MESSAGE_BYTES
    assert too_long == DeadLetter(fitting + "x")


@pytest.mark.parametrize(
    "body",
    [
        "x" * (MAX_MESSAGE_BYTES + 1),
        "é" * (MAX_MESSAGE_BYTES // 2 + 1),
        "",
        "\x00",
        "\x0b",
        "\ufffe",
        "a\ud800b",
    ],
    ids=["too long", "too many bytes", "empty", "NUL", "control", "no character", "lone surrogate"],
)
def test_a_body_that_sqs_refuses_is_no_letter(body: str) -> None:
    assert dead_letter(body, Reason.MALFORMED_BODY, "why") is None


def test_every_character_of_xml_may_be_in_a_body() -> None:
    body = "\t\n\r \ud7ff\ue000\ufffd\U00010000\U0010ffff"

    letter = dead_letter(body, Reason.MALFORMED_BODY, "why")

    assert letter is not None
    assert letter.body == body


def test_detail_is_cleaned_and_shortened() -> None:
    letter = dead_letter("{}", Reason.MALFORMED_BODY, "\x00\x1b[31m" + "é" * 2000)

    assert letter is not None
    assert letter.attributes["detail"].startswith("\ufffd\ufffd[31m" + "é")
    assert letter.attributes["detail"].endswith("é…")
    assert len(letter.attributes["detail"]) == 1000


@pytest.mark.parametrize("detail", ["", "  \n"])
def test_detail_is_never_empty(detail: str) -> None:
    letter = dead_letter("{}", Reason.JOB_GONE, detail)

    assert letter is not None
    assert letter.attributes == {"reason": "job_gone", "detail": "job_gone"}


SECRET_DETAIL = {
    "TrainingJobName": "secret-1",
    "HyperParameters": {"api_key": "SECRET"},
    "Environment": {"TOKEN": "SECRET"},
    "RoleArn": "arn:aws:iam::123456789012:role/r",
}


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"source": "aws.sagemaker", "detail": SECRET_DETAIL}),
        json.dumps(SECRET_DETAIL),
        json.dumps({"Type": "Notification", "Message": json.dumps({"detail": SECRET_DETAIL})}),
        json.dumps({"Type": "Notification", "Message": json.dumps(SECRET_DETAIL)}),
        json.dumps(json.dumps({"detail": SECRET_DETAIL})),
        json.dumps([{"detail": SECRET_DETAIL}]),
        json.dumps({"detail": {"hyperParameters": "SECRET", "trainingJobName": "secret-1"}}),
        (
            '{"detail": {"HyperParameters": {"a": "SECRET"}}, "detail": {"TrainingJobName": '
            '"secret-1"}}'
        ),
        '{"HyperParameters": {"a": "SECRET"}, "n": ' + "9" * 5000 + ', "TrainingJobName": '
        '"secret-1"}',
        (
            '{"HyperParameters": {"a": "SECRET"}, "n": NaN, "t": "\\ud800 \\u0000", '
            '"TrainingJobName": "secret-1"}'
        ),
    ],
    ids=[
        "envelope",
        "detail",
        "SNS",
        "SNS, detail",
        "doubly encoded",
        "list",
        "other case",
        "key twice",
        "long number",
        "odd text",
    ],
)
def test_a_kept_body_is_without_hyperparameters_and_environment(body: str) -> None:
    assert "SECRET" in body

    kept = redacted_body(body)

    assert "SECRET" not in kept
    assert "secret-1" in kept
    kept.encode()
    json.loads(kept, parse_int=str)


def test_only_what_is_private_is_removed() -> None:
    event = json.loads(BODIES["job-secret-in-hyperparameters.json"])

    kept = json.loads(redacted_body(json.dumps(event)))

    del event["detail"]["HyperParameters"]
    assert kept == event


def test_no_secret_of_the_recorded_events_is_kept() -> None:
    secret = [event for event in events() if event.never_log]
    assert secret

    for event in secret:
        kept = redacted_body(event.body)
        assert not [text for text in event.never_log if text in kept], event.file


@pytest.mark.parametrize(
    "body",
    [
        BODIES["bad-not-json.json"],
        BODIES["bad-deep-nesting.json"],
        BODIES["bad-null.json"],
        '{"a":  1}',
        "",
        "[" * 50 + "]" * 50,
    ],
    ids=["no JSON", "deep", "null", "white space", "empty", "lists"],
)
def test_a_body_without_anything_private_stays_as_it_is(body: str) -> None:
    assert redacted_body(body) == body


def test_what_hides_below_deep_nesting_is_left_out() -> None:
    depth = 200
    body = '{"a":' * depth + '{"HyperParameters": "SECRET"}' + "}" * depth

    assert "SECRET" not in redacted_body(body)


@pytest.mark.parametrize("depth", [60, 500, 990, 5000])
def test_nesting_of_any_depth_is_no_error(depth: int) -> None:
    body = '{"a":' * depth + "1" + "}" * depth

    assert redacted_body(body)
