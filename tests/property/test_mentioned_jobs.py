"""A body that mentions a training job is never skipped as another event, unless it is known to be
one; skipped means deleted.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from daemon.training_job.event import MalformedBody, OtherEvent, TrainingJobEvent, parse_event
from tests.property.texts import json_values, texts

NAME = "churn-1"
ARN = f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{NAME}"
OTHERS = {"detail-type", "ProcessingJobName", "Type"}
"""Members that make a document a known other one, whatever else it holds."""


def spelled(prefix: str, between: str, case: str) -> str:
    member = between.join([prefix, "Training", "Job", "Name"])
    return {"lower": member.lower(), "upper": member.upper()}.get(case, member)


spellings = st.builds(
    spelled,
    st.sampled_from(["", "model", "sagemaker", "my"]),
    st.sampled_from(["", "_", "-", ".", " "]),
    st.sampled_from(["lower", "upper", "as it is"]),
)
mentions = st.one_of(
    st.tuples(st.sampled_from(["arn", "jobArn", "trainingJobArn", "about", "x"]), st.just(ARN)),
    st.tuples(spellings, st.just(NAME)),
    st.tuples(texts(), st.just(f"the job {ARN} has ended")),
)
wrappers = st.lists(
    st.sampled_from(
        ["event", "text", "body", "requestPayload", "Records", "list", "odd", "Message", "sns"]
    ),
    max_size=5,
)


def wrapped(document: Any, how: str, beside: Any) -> Any:
    match how:
        case "text":
            return json.dumps(document)
        case "list":
            return [document]
        case "Records":
            return {"Records": [{"eventSource": "aws:sqs", "body": json.dumps(document)}]}
        case "sns":
            return {"Type": "Notification", "TopicArn": "t", "Message": json.dumps(document)}
        case "odd":
            return {"odd": document, "beside": beside}
        case _:
            return {how: document, "beside": beside}


@given(mentions, st.dictionaries(texts(), json_values(), max_size=3), wrappers, json_values())
def test_what_mentions_a_training_job_is_not_another_event(
    mention: tuple[str, str], more: dict[str, Any], layers: list[str], beside: Any
) -> None:
    assume(not OTHERS & more.keys())
    document: Any = {**more, mention[0]: mention[1]}
    for layer in layers:
        document = wrapped(document, layer, beside)
    found = parse_event(json.dumps(document))
    assert isinstance(found, TrainingJobEvent | MalformedBody)
    if isinstance(found, TrainingJobEvent):
        assert found.name == NAME
        assert not found.whole


@given(st.lists(st.sampled_from(["churn-1", "churn-2", "churn-3"]), min_size=1, max_size=5))
def test_a_batch_is_of_one_job_or_rejected(names: list[str]) -> None:
    records = [{"eventSource": "aws:sqs", "body": json.dumps({"jobArn": ARN[:-7] + name})}
               for name in names]  # fmt: skip
    found = parse_event(json.dumps({"Records": records}))
    if len(set(names)) == 1:
        assert isinstance(found, TrainingJobEvent)
        assert found.name == names[0]
    else:
        assert isinstance(found, MalformedBody)
        assert f"{len(set(names))} training jobs" in found.detail


@given(json_values(), wrappers)
def test_any_document_in_any_wrapper_is_parsed(document: Any, layers: list[str]) -> None:
    for layer in layers:
        document = wrapped(document, layer, document)
        found = parse_event(json.dumps(document))
        assert isinstance(found, TrainingJobEvent | MalformedBody | OtherEvent)


def test_large_documents_take_bounded_work() -> None:
    documents: list[Any] = [
        [[[]] * 100_000] * 3,
        {"Records": [{"body": "{}"}] * 20_000},
        {"event": {str(n): {"a": n} for n in range(50_000)}},
        {f"{n}JobName": "x" for n in range(50_000)},
    ]
    for document in documents:
        assert isinstance(parse_event(json.dumps(document)), MalformedBody)
    deep: str = "{}"
    for _ in range(400):
        deep = '{"event": %s}' % deep if len(deep) % 2 else '{"data": [%s]}' % deep  # noqa: UP031 - braces
    assert isinstance(parse_event(deep), MalformedBody)
    deep = "[" * 900 + f'"{ARN}"' + "]" * 900
    assert isinstance(parse_event(deep), MalformedBody)
