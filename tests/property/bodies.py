"""Strategies: bodies of SQS messages."""

from __future__ import annotations

import functools
import json
from typing import Any

from hypothesis import strategies as st

from tests.property.changes import changed
from tests.property.descriptions import arns, job_names, tags
from tests.property.texts import json_values, numbers, texts
from tests.support.aws_vectors import events

_MOST_CHARACTERS = 20_000
"""Of a recorded body that is changed: larger ones take long, and say no more."""
_RECORDED = {event.file: event.body for event in events() if len(event.body) <= _MOST_CHARACTERS}


def _document(body: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


_DOCUMENTS = {
    file: document
    for file, body in _RECORDED.items()
    if isinstance(document := _document(body), dict)
}


@functools.cache
def bodies() -> st.SearchStrategy[str]:
    """Any text, any JSON, and recorded events with changes."""
    return st.one_of(
        texts(),
        json_values().map(json.dumps),
        changed_documents().map(json.dumps),
        garbled(),
        odd_json(),
    )


@functools.cache
def changed_documents() -> st.SearchStrategy[Any]:
    """Recorded events with parts removed or replaced."""
    return st.sampled_from(sorted(_DOCUMENTS)).flatmap(
        lambda file: changed(_DOCUMENTS[file], json_values())
    )


@st.composite
def garbled(draw: st.DrawFn) -> str:
    """A recorded body, cut and patched at random positions."""
    body = _RECORDED[draw(st.sampled_from(sorted(_RECORDED)))]
    for _ in range(draw(st.integers(1, 3))):
        first, last = sorted((draw(st.integers(0, len(body))), draw(st.integers(0, len(body)))))
        body = (
            body[:first]
            + draw(texts() | st.sampled_from('{}[]",:\\'))
            + body[draw(st.sampled_from((first, last))) :]
        )
    return body


@functools.cache
def odd_json() -> st.SearchStrategy[str]:
    """Text that is barely JSON, or barely not."""
    return st.sampled_from(
        [
            *(
                "[" * 100_000,
                '{"a":' * 100_000,
                '{"detail":' + "9" * 5_000 + "}",
                '{"CreationTime": 1e400, "TrainingJobName": "a"}',
            ),
            *(
                '{"TrainingJobName": "a", "TrainingJobName": 1}',
                '{"TrainingJobName": "\\ud800"}',
                '\ufeff{"TrainingJobName": "a"}',
            ),
            *(
                '{"TrainingJobName": "a", "CreationTime": NaN}',
                '{"TrainingJobName": "a", "CreationTime": -Infinity}',
            ),
            '{"TrainingJobName": "a", "CreationTime": ' + "9" * 4_000 + "}",
        ]
    )


@st.composite
def made_up(draw: st.DrawFn) -> str:
    """An event in any of its forms, with valid, odd or missing members."""
    anything = json_values()
    name = draw(job_names() | st.integers(50, 100).map(lambda hyphens: f"a{'-' * hyphens}b"))
    detail = _members(
        draw,
        TrainingJobName=st.just(name),
        TrainingJobArn=st.integers(0, 4).flatmap(
            lambda other: arns() if other == 0 else arns(st.just(name))
        ),
        TrainingJobStatus=st.sampled_from(["Completed", "Stopped", "Failed", "InProgress", ""]),
        SecondaryStatus=st.sampled_from(["Completed", "MaxRuntimeExceeded"]) | texts(),
        CreationTime=_moments(),
        Tags=tags()
        | tags().map(lambda found: [{"Key": key, "Value": value} for key, value in found.items()]),
        HyperParameters=st.dictionaries(texts(), texts(), max_size=3),
        odd=anything,
    )
    envelope = _members(
        draw,
        **{"detail-type": st.just("SageMaker Training Job State Change"), "replay-name": texts()},
        source=st.just("aws.sagemaker"),
        account=st.sampled_from(["123456789012", None]),
        region=st.sampled_from(
            ["eu-west-1", "cn-north-1", "us-gov-west-1", "EU-WEST-1", "é", None]
        ),
        time=_moments(),
        id=texts(),
        odd=anything,
    )
    document: Any = draw(
        st.sampled_from(
            [
                detail,
                envelope | {"detail": detail},
                {"name": name, "arn": detail.get("TrainingJobArn")},
            ]
        )
    )
    if draw(st.integers(0, 3)) == 0:
        document = {
            "Type": draw(st.just("Notification") | texts()),
            "TopicArn": "arn:aws:sns:x",
            "Message": json.dumps(document),
        }
    return json.dumps(document, ensure_ascii=draw(st.booleans()))


def _members(
    draw: st.DrawFn, odd: st.SearchStrategy[Any], **members: st.SearchStrategy[Any]
) -> dict[str, Any]:
    """Most of the members; one in twenty of them is odd."""
    found = {}
    for name, usual in members.items():
        kind = draw(st.integers(0, 19))
        if kind > 1:
            found[name] = draw(usual)
        elif kind == 1:
            found[name] = draw(odd)
    return found


@functools.cache
def _moments() -> st.SearchStrategy[Any]:
    """Times as in events, and invalid ones."""
    iso = st.datetimes().map(lambda moment: moment.isoformat()) | st.sampled_from(
        [
            "0001-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59-23:59",
            "2025-W01-1T00:00",
            "20251120T084000Z",
            "2025-02-30T00:00:00Z",
        ]
    )
    return st.one_of(
        st.integers(0, 4 * 10**12),
        numbers(),
        numbers().map(str),
        iso,
        st.sampled_from([10**18, "9" * 30, -1e300]),
    )
