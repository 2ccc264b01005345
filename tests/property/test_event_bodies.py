"""Any body is an event, another event or malformed; parsing never raises."""

from __future__ import annotations

import json
import re
from datetime import UTC
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from daemon.aws.dead_letter import (
    MAX_DETAIL_CHARACTERS,
    MAX_MESSAGE_BYTES,
    dead_letter,
    redacted_body,
)
from daemon.reasons import Reason
from daemon.text import is_plain
from daemon.training_job.event import MalformedBody, OtherEvent, TrainingJobEvent, parse_event
from tests.property.bodies import bodies, changed_documents, made_up
from tests.property.descriptions import MOST_CHARACTERS
from tests.property.texts import json_values, texts

SECRET = "c4n4ry-9f2e"
PRIVATE_KEYS = (
    "HyperParameters",
    "hyperParameters",
    "Environment",
    "ENVIRONMENT",
    "hyperparameters",
)
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@given(bodies())
def test_every_body_is_understood_or_said_to_be_malformed(body: str) -> None:
    check(parse_event(body))


@given(made_up())
@example(json.dumps({"TrainingJobName": f"a{'-' * MOST_CHARACTERS}b"}))
def test_every_event_is_understood_or_said_to_be_malformed(body: str) -> None:
    check(parse_event(body))


def check(found: TrainingJobEvent | OtherEvent | MalformedBody) -> None:
    match found:
        case TrainingJobEvent() as event:
            assert 1 <= len(event.name) <= MOST_CHARACTERS
            assert event.arn is None or event.arn.name.lower() == event.name.lower()
            assert event.status is None or event.status.isalpha()
            for moment in (event.creation_time, event.event_time):
                assert moment is None or moment.tzinfo is UTC
            assert event.tags is None or all(map(is_plain, [*event.tags, *event.tags.values()]))
        case OtherEvent(what=line):
            assert is_plain(line)
        case MalformedBody(detail=line):
            assert line
            assert is_plain(line)
            assert len(line) <= 300


@st.composite
def bodies_with_a_secret(draw: st.DrawFn) -> str:
    """A changed recorded event with hyperparameters or environment at any depth, possibly wrapped
    in other documents.
    """
    document: Any = draw(changed_documents())
    private = draw(
        st.sampled_from(
            (SECRET, [SECRET], {"password": SECRET}, {SECRET: "1"}, json.dumps({"a": [SECRET]}))
        )
    )
    holders = [document] if isinstance(document, dict) else []
    for holder in holders:
        holders += [inner for inner in holder.values() if isinstance(inner, dict)]
    for holder in holders[: draw(st.integers(1, 3))]:
        others = dict(holder)
        holder.clear()
        holder.update({draw(st.sampled_from(PRIVATE_KEYS)): private}, **others)
    for _ in range(draw(st.integers(0, 3))):
        wrapped = draw(st.sampled_from(("text", "list", "sns")))
        text = json.dumps(document)
        document = {
            "text": text,
            "list": [document],
            "sns": {"Type": "Notification", "TopicArn": "t", "Message": text},
        }[wrapped]
    return json.dumps(document)


@given(bodies_with_a_secret(), st.none() | st.integers(1, 5))
def test_no_message_quotes_hyperparameters_or_environment(body: str, cut: int | None) -> None:
    match parse_event(body if cut is None else body[:-cut]):
        case MalformedBody(detail=line) | OtherEvent(what=line):
            assert SECRET not in line
        case TrainingJobEvent() as event:
            assert SECRET not in repr(event)


@given(bodies_with_a_secret())
def test_a_kept_body_is_without_hyperparameters_and_environment(body: str) -> None:
    kept = redacted_body(body)
    assert SECRET not in kept
    assert redacted_body(kept) == kept
    json.loads(kept)


@given(json_values().map(json.dumps))
def test_a_kept_body_says_all_that_is_not_private(body: str) -> None:
    """None of these has a private key."""
    assert redacted_body(body) == body


@given(bodies())
def test_any_body_can_be_kept(body: str) -> None:
    redacted_body(body)


@given(
    st.one_of(
        bodies(), st.integers(MAX_MESSAGE_BYTES - 1100, MAX_MESSAGE_BYTES + 2).map("x".__mul__)
    ),
    st.sampled_from(Reason),
    texts() | bodies(),
)
def test_a_dead_letter_is_one_that_sqs_takes(body: str, reason: Reason, detail: str) -> None:
    letter = dead_letter(body, reason, detail)
    if letter is None:
        assert (
            not body
            or len(body.encode("utf-8", "replace")) > MAX_MESSAGE_BYTES
            or NOT_XML.search(body)
        )
        return
    assert letter.body == body
    size = len(body.encode()) + sum(
        len(f"{name}String{value}".encode()) for name, value in letter.attributes.items()
    )
    assert size <= MAX_MESSAGE_BYTES
    for text in (body, *letter.attributes.values()):
        assert text
        assert not NOT_XML.search(text)
    if letter.attributes:
        assert letter.attributes["reason"] == reason.value
        assert len(letter.attributes["detail"]) <= MAX_DETAIL_CHARACTERS
    else:
        assert len(body.encode()) > MAX_MESSAGE_BYTES - 4 * MAX_DETAIL_CHARACTERS - 100
