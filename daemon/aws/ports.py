"""Protocols of what the daemon needs from AWS (SQS, SageMaker). Imports no AWS library."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from daemon.errors import EdgeFault
    from daemon.reasons import Reason
    from daemon.training_job.identity import Home
    from daemon.training_job.metric_series import MetricSeries
    from daemon.training_job.tuning_job import TuningJob

ORIGIN = "origin"
"""Name of the message attribute that says which operation has sent a message. EventBridge's have
none."""


class Origin(StrEnum):
    """What sends messages to the queue beside EventBridge: the values of `ORIGIN`."""

    BACKFILL = "backfill"
    RECONCILE = "reconcile"
    REDRIVE = "redrive"
    SYNC = "sync"


@dataclass(frozen=True, slots=True)
class Message:
    """A received SQS message."""

    message_id: str
    receipt_handle: str
    """Of this receive. The handles of earlier receives are stale."""
    body: str
    receive_count: int
    """ApproximateReceiveCount: 1 at the first receive, or if the server does not send it."""
    sent_at: float | None
    """SentTimestamp in epoch seconds; kept when SQS moves the message to a dead-letter queue."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """String message attributes by name; a redriven message has our ``reason`` and ``detail``, one
    that an operation has sent has `ORIGIN`."""
    was_dead_letter: bool = False
    """It was in a dead-letter queue, as far as the server says so."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """GetQueueAttributes of the queue, and of its dead-letter queue if there is one."""

    visible: int
    in_flight: int
    delayed: int
    visibility_seconds: int
    max_receive_count: int | None
    """From the redrive policy; None without one."""
    dead_letter_url: str | None
    """Where to send dead letters. None with a `dead_letter_fault`: nobody knows; without one: there
    is no dead-letter queue."""
    dead_letter_messages: int | None
    """None without a dead-letter queue or without permission to count it."""
    dead_letter_fault: EdgeFault | None = None
    """Why the dead-letter queue could not be found or counted. Sending to it may work nevertheless.
    """
    arn: str = ""
    """Of the queue itself, as it says."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A batch entry that the queue rejected."""

    code: str
    detail: str
    stale: bool
    """The receipt handle is outdated or the message visible again: it will be delivered again."""
    refused: bool = False
    """SQS does not accept the entry as it is (size, characters): trying again cannot help."""
    reason: Reason | None = None
    """What is wrong with the whole queue, if the code says that (throttled, access denied)."""


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message to be sent."""

    body: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    """String message attributes by name."""

    @property
    def size(self) -> int:
        """Bytes, as SQS counts them: an attribute counts with its name, type and value."""
        return len(self.body.encode()) + sum(
            len(name.encode()) + len("String") + len(value.encode())
            for name, value in self.attributes.items()
        )


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that is in the queue."""

    message_id: str


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A training job as ListTrainingJobs shows it: without tags."""

    name: str
    arn: str
    """As the list has it, perhaps in lower case (boto3 #4606)."""
    status: str
    """TrainingJobStatus, for example ``Completed``."""
    creation_time: datetime
    """In UTC, as all its times."""
    end_time: datetime | None = None
    """None: not ended, or it failed to start."""
    last_modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of ListTrainingJobs; it may be short or empty although more follow."""

    jobs: Sequence[ListedJob]
    token: str | None
    """Of the next page; None: this is the last."""


class Queue(Protocol):
    """An SQS standard queue. Every call raises `EdgeFault` with `Edge.QUEUE` if the queue as a
    whole does not work.
    """

    async def receive(
        self, *, limit: int, wait_seconds: int, visibility_seconds: int
    ) -> Sequence[Message]:
        """One long poll for at most `limit` (1 to 10) messages.

        Must not be cancelled: SQS may already have handed out messages that would then stay
        invisible (seen with AWS, moto and ElasticMQ).
        """

    async def delete(self, receipt_handles: Sequence[str]) -> Sequence[Failed | None]:
        """Deletes up to ten messages. Returns one entry per handle, in order: None on success."""

    async def hide(self, entries: Sequence[tuple[str, int]]) -> Sequence[Failed | None]:
        """Sets the visibility timeout of up to ten messages, given as (handle, seconds from now);
        0 makes a message visible at once. Returns as `delete`.
        """

    async def send(self, entries: Sequence[OutgoingMessage]) -> Sequence[Sent | Failed]:
        """Sends up to ten messages, together at most 1 MiB. Returns one entry per message, in
        order. A message whose answer is lost may be in the queue nevertheless.
        """

    async def send_dead_letter(self, url: str, body: str, attributes: Mapping[str, str]) -> None:
        """Sends one message to a dead-letter queue.

        Raises:
            JobRefused: SQS does not accept this body or these attributes (size, characters).
        """

    async def state(self) -> QueueState: ...


class TrainingJobs(Protocol):
    """SageMaker's training jobs in one account and region, `home`. Calls raise `EdgeFault` with
    `Edge.SAGEMAKER`, `JobFault` or `JobRefused`.
    """

    @property
    def home(self) -> Home: ...

    @property
    def elsewhere(self) -> Mapping[str, TrainingJobs]:
        """Those of the other configured accounts and regions, by ``<account>/<region>``. Their
        faults have it as `where`.
        """

    async def describe(self, name: str) -> Mapping[str, Any]:
        """DescribeTrainingJob, as botocore parses it (times as datetime).

        Raises:
            JobRefused: no such job (`Reason.JOB_GONE`), or a name that the service rejects
                (`Reason.JOB_REFUSED`).
        """

    async def tags(self, arn: str) -> Mapping[str, str]:
        """All tags of a job, from all pages of ListTags.

        Args:
            arn: exactly as DescribeTrainingJob returned it (boto3 #4606).

        Raises:
            JobRefused: no such job (`Reason.JOB_GONE`).
        """

    async def list_page(
        self, *, created_after: float, created_before: float, token: str | None = None
    ) -> JobPage:
        """One request of ListTrainingJobs: up to 100 jobs, oldest first by creation time.

        Makes a single attempt. SageMaker allows 2 of these requests a second for the whole account,
        and the pace is the caller's: see `daemon.operations.pacing`.

        Args:
            created_after: epoch seconds; rounded down, so that no job is missed.
            created_before: epoch seconds; rounded up.
            token: of the previous page, whose times must be the same.

        Raises:
            EdgeFault: `Reason.THROTTLED` for more requests than allowed.
        """

    async def metric_series(
        self, description: Mapping[str, Any]
    ) -> tuple[tuple[MetricSeries, ...], tuple[str, ...]]:
        """The metric series of a described job, if they are wanted, and notes on what is missing.

        Raises nothing and takes at most about half a minute, whatever the service does.
        """

    async def tuning_job(
        self, description: Mapping[str, Any]
    ) -> tuple[TuningJob | None, tuple[str, ...]]:
        """The tuning job of a described job, if it has one, and notes on what is missing.

        Raises nothing and takes some seconds at most, whatever the service does.
        """

    async def probe(self) -> None:
        """Tests the calls that the flow uses and cannot do without.

        Raises:
            EdgeFault: with what is wrong and what to do.
        """
