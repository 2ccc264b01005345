"""The messages that operations send."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from daemon.aws.ports import ListedJob, Origin, OutgoingMessage
from daemon.operations.messages import MOST_BYTES, MOST_MESSAGES, batches, body_of, message_about
from daemon.training_job.event import TrainingJobEvent, parse_event

ARN = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/churn-1"
CREATED = datetime(2025, 11, 20, 8, 40, 0, 50_600, UTC)
JOB = ListedJob("Churn-1", ARN, "Completed", CREATED)


def test_a_body_is_an_event_of_the_job_without_tags() -> None:
    event = parse_event(body_of(JOB))

    assert isinstance(event, TrainingJobEvent)
    assert (event.name, event.status, event.tags, event.whole) == (
        "Churn-1",
        "Completed",
        None,
        False,
    )
    assert event.arn is not None
    assert event.arn.text == ARN
    assert event.creation_time is not None
    assert abs(event.creation_time - CREATED) < timedelta(milliseconds=1)


def test_a_message_says_where_it_comes_from() -> None:
    assert message_about(JOB, Origin.RECONCILE).attributes == {"origin": "reconcile"}


def test_the_size_of_a_message_is_what_sqs_counts() -> None:
    assert OutgoingMessage("é", {"origin": "sync"}).size == 2 + 6 + 6 + 4


@given(st.lists(st.integers(1, MOST_BYTES // 3), max_size=40))
def test_batches_are_in_order_and_within_the_limits(sizes: list[int]) -> None:
    messages = [OutgoingMessage("x" * size) for size in sizes]

    made = list(batches(messages))

    assert [message for batch in made for message in batch] == messages
    for batch in made:
        assert 1 <= len(batch) <= MOST_MESSAGES
        assert sum(message.size for message in batch) <= MOST_BYTES
    for batch, following in itertools.pairwise(made):
        full = len(batch) == MOST_MESSAGES
        assert full or sum(each.size for each in batch) + following[0].size > MOST_BYTES


def test_a_message_that_is_too_large_is_alone() -> None:
    small, large = OutgoingMessage("a"), OutgoingMessage("x" * (MOST_BYTES + 1))
    assert list(batches([small, large, small])) == [[small], [large], [small]]
