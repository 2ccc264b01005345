"""The messages that operations send to the queue: ordinary ones, handled by the daemons."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from daemon.aws.ports import ORIGIN, OutgoingMessage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from daemon.aws.ports import ListedJob, Origin

MOST_MESSAGES = 10
"""In one batch (SQS)."""
MOST_BYTES = 1_048_576
"""Of one batch (SQS), with attributes."""


def body_of(job: ListedJob) -> str:
    """The body that announces a job: the detail of an event, without tags, so that the flow reads
    them from ListTags.
    """
    return json.dumps(
        {
            "TrainingJobName": job.name,
            "TrainingJobArn": job.arn,
            "TrainingJobStatus": job.status,
            "CreationTime": round(job.creation_time.timestamp() * 1000),
        }
    )


def message_about(job: ListedJob, origin: Origin) -> OutgoingMessage:
    """The message that announces a job in the place of an event."""
    return OutgoingMessage(body_of(job), {ORIGIN: origin.value})


def batches(messages: Iterable[OutgoingMessage]) -> Iterator[Sequence[OutgoingMessage]]:
    """Messages in batches that SQS takes in one call, in order. One that is too large by itself is
    alone in its batch, so that SQS refuses no other with it.
    """
    batch: list[OutgoingMessage] = []
    size = 0
    for message in messages:
        if batch and (len(batch) == MOST_MESSAGES or size + message.size > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += message.size
    if batch:
        yield batch
