"""What the daemon needs of AWS: a queue and SageMaker's training jobs, as protocols without any AWS
library.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daemon.training_job.identity import Home


@dataclass(frozen=True, slots=True)
class Message:
    """One receive of an SQS message."""

    message_id: str
    receipt_handle: str
    """Of this receive; an older receive's handle is stale."""
    body: str
    receive_count: int
    """ApproximateReceiveCount: 1 at the first receive. 1 when the server does not tell."""
    sent_at: float | None
    """SentTimestamp in epoch seconds; survives a move to a dead-letter queue."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """String message attributes, by name (a redriven message carries our ``reason`` and
    ``detail``)."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """GetQueueAttributes of the main queue, and of its dead-letter queue where there is one."""

    visible: int
    in_flight: int
    delayed: int
    visibility_seconds: int
    max_receive_count: int | None
    """From the redrive policy; None without one."""
    dead_letter_url: str | None
    dead_letter_messages: int | None
    """None without a dead-letter queue or without permission to count it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An entry of a batch that the queue refused."""

    code: str
    detail: str
    stale: bool
    """The receipt handle is no longer the newest one or the message is visible again: it will be
    delivered again, nothing more."""


class Queue(Protocol):
    """An SQS standard queue. Every call raises `EdgeFault` with `Edge.QUEUE` when the queue as a
    whole does not work.
    """

    async def receive(
        self, *, limit: int, wait_seconds: int, visibility_seconds: int
    ) -> Sequence[Message]:
        """One long poll for at most `limit` (1 to 10) messages.

        Must not be cancelled while it runs: a cancelled long poll can still take a message and hide
        it (AWS, moto and ElasticMQ).
        """

    async def delete(self, receipt_handles: Sequence[str]) -> Sequence[Failed | None]:
        """Deletes up to ten messages. Returns one entry per handle, in order: None where it
        worked.
        """

    async def hide(self, entries: Sequence[tuple[str, int]]) -> Sequence[Failed | None]:
        """Sets the remaining visibility timeout (seconds from now, 0 = visible at once) of up to
        ten (handle, seconds).
        """

    async def send_dead_letter(self, url: str, body: str, attributes: Mapping[str, str]) -> None:
        """Sends one message to a dead-letter queue.

        Raises:
            JobRefused: SQS will not take this body or these attributes (size, characters).
        """

    async def state(self) -> QueueState: ...


class TrainingJobs(Protocol):
    """SageMaker's training jobs at home. Calls raise `EdgeFault` with `Edge.SAGEMAKER`, `JobFault`
    or `JobRefused`.
    """

    @property
    def home(self) -> Home: ...

    async def describe(self, name: str) -> Mapping[str, Any]:
        """DescribeTrainingJob, as botocore parses it (times as datetime).

        Raises:
            JobRefused: no such job (`Reason.JOB_GONE`), or a name the service refuses
                (`Reason.JOB_REFUSED`).
        """

    async def tags(self, arn: str) -> Mapping[str, str]:
        """All tags of a job, every page of ListTags.

        Args:
            arn: exactly as DescribeTrainingJob returned it (boto3 #4606).

        Raises:
            JobRefused: no such job (`Reason.JOB_GONE`).
        """

    async def probe(self) -> None:
        """Asks the calls that the flow uses.

        Raises:
            EdgeFault: what is wrong and what to do.
        """
