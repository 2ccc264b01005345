"""What Prometheus is told. Names and labels are part of the contract; label values are bounded
sets, never names of jobs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from daemon.clock import wall
from daemon.outcome import Edge, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from daemon.aws.ports import QueueState
    from daemon.intake.in_flight import InFlight

STEPS = ("describe", "validate", "sync", "record")
HEARTBEAT_RESULTS = ("renewed", "stale", "failed")

STEP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""A step is one or two requests: a few ms as a rule, a whole time-out at worst."""
EVENT_TO_SYNC_BUCKETS = (
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    1800.0,
    3600.0,
    10_800.0,
    21_600.0,
)
"""Seconds as a rule, hours after an outage."""

REASONS: Mapping[str, tuple[Reason, ...]] = {
    "synced": (Reason.CREATED, Reason.FOUND_IN_TARGET),
    "duplicate": (Reason.ALREADY_SYNCED, Reason.JOINED),
    "skipped": (Reason.OTHER_EVENT, Reason.STATUS_NOT_CONFIGURED, Reason.NOT_TAGGED),
    "rejected": (
        Reason.MALFORMED_BODY,
        Reason.TAGS_INCOMPLETE,
        Reason.JOB_GONE,
        Reason.JOB_REPLACED,
        Reason.FOREIGN_ACCOUNT,
        Reason.JOB_REFUSED,
        Reason.TARGET_REFUSED,
    ),
    "deferred": (
        Reason.NOT_TERMINAL,
        Reason.CLAIMED_ELSEWHERE,
        Reason.LEASE_LOST,
        Reason.NAME_LOCKED,
        Reason.TARGET_FAULT,
        Reason.SAGEMAKER_FAULT,
        Reason.DEAD_LETTER_FAILED,
        Reason.STANDING_BY,
        Reason.STOPPING,
        Reason.INTERNAL_ERROR,
        Reason.HELD_TOO_LONG,
    ),
    "held": (
        Reason.UNREACHABLE,
        Reason.UNAVAILABLE,
        Reason.THROTTLED,
        Reason.CREDENTIALS,
        Reason.ACCESS_DENIED,
        Reason.NOT_THE_API,
        Reason.OTHER_WRITER,
        Reason.NOT_FOUND,
        Reason.STORAGE,
    ),
}
"""The reasons of each outcome. Their counters exist from the start: Prometheus misses the first
step of one that appears with 1."""

# A switch of the whole library: a second series of the start time beside each counter and histogram
# tells nobody anything.
disable_created_metrics()  # type: ignore[no-untyped-call] # the library leaves its return type out


class Metrics:
    """All metrics of one daemon, in a registry of their own.

    Args:
        version: of this program.
        target: the kind of the target.
        clock: epoch seconds.

    Attributes:
        jobs: outcomes of messages, by outcome and reason.
        event_to_sync_seconds: from the event's time to the durable outcome; not for replays,
            backfill and reconcile.
        breaker_open: by edge.
        duplicate_runs_healed: doubles deleted from the target.
    """

    def __init__(self, *, version: str, target: str, clock: Callable[[], float] = wall) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        Info("modeldb_sync_build", "Version and kind of target.", registry=self.registry).info(
            {"version": version, "target": target}
        )

        self._received = self._counter("messages_received", "Messages received from the queue.")
        self.jobs = self._counter("jobs", "Outcomes of messages.", "outcome", "reason")
        self._steps = Histogram(
            "modeldb_sync_step_duration_seconds",
            "Duration of the steps of the flow.",
            ["step"],
            buckets=STEP_BUCKETS,
            registry=self.registry,
        )
        self.event_to_sync_seconds = Histogram(
            "modeldb_sync_event_to_sync_seconds",
            "From the event's time to the durable outcome; not for replays, backfill and "
            "reconcile.",
            buckets=EVENT_TO_SYNC_BUCKETS,
            registry=self.registry,
        )
        self._in_flight = self._gauge(
            "messages_in_flight", "Messages held, from receive to acknowledgement."
        )
        self._oldest = self._gauge(
            "oldest_message_seconds",
            "Age of the oldest message in flight since it was sent; 0 without one.",
        )
        self.breaker_open = self._gauge(
            "breaker_open", "1 while the edge does not work and messages are held.", "edge"
        )
        self.standing_by = self._gauge(
            "standing_by",
            "1 while another process is the writer of the target and nothing is received.",
        )
        self._queue = self._gauge(
            "queue_messages", "Approximate number of messages in the queue.", "state"
        )
        self._dead_letters = self._gauge(
            "dead_letter_messages",
            "Approximate number of messages in the dead-letter queue; NaN while it is unknown.",
        )
        self._last_poll = self._gauge(
            "last_poll_timestamp_seconds",
            "When the queue last answered a receive; 0 before the first.",
        )
        self._target_requests = self._counter(
            "target_requests", "Requests to the target.", "operation", "result"
        )
        self._aws_requests = self._counter(
            "aws_requests", "Requests to AWS.", "service", "operation", "result"
        )
        self._heartbeats = self._counter("heartbeats", "Renewals of messages in flight.", "result")
        self.duplicate_runs_healed = self._counter(
            "duplicate_runs_healed", "Doubles deleted from the target."
        )
        self._rows = self._gauge("checkpoint_rows", "Jobs in the checkpoint.", "state")
        self._show_what_is_known_beforehand()

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"modeldb_sync_{name}", words, labels, registry=self.registry)

    def _gauge(self, name: str, words: str, *labels: str) -> Gauge:
        return Gauge(f"modeldb_sync_{name}", words, labels, registry=self.registry)

    def _show_what_is_known_beforehand(self) -> None:
        for outcome, reasons in REASONS.items():
            for reason in reasons:
                self.jobs.labels(outcome, reason)
        for step in STEPS:
            self._steps.labels(step)
        for edge in Edge:
            self.breaker_open.labels(edge)
        for result in HEARTBEAT_RESULTS:
            self._heartbeats.labels(result)
        self._dead_letters.set(math.nan)

    def received(self, count: int) -> None:
        """The queue answered a receive with so many messages, perhaps none."""
        self._received.inc(count)
        self._last_poll.set(self._clock())

    def step(self, step: str, seconds: float) -> None:
        """A step of the flow ended.

        Args:
            step: one of `STEPS`.
            seconds: how long it took.
        """
        self._steps.labels(step).observe(seconds)

    def heartbeat(self, result: str) -> None:
        """A message was to be renewed.

        Args:
            result: one of `HEARTBEAT_RESULTS`.
        """
        self._heartbeats.labels(result).inc()

    def target_request(self, operation: str, result: str) -> None:
        """A request to the target ended. Both words come from bounded sets."""
        self._target_requests.labels(operation, result).inc()

    def aws_request(self, service: str, operation: str, result: str) -> None:
        """A request to AWS ended. All words come from bounded sets."""
        self._aws_requests.labels(service, operation, result).inc()

    def watch_in_flight(self, in_flight: InFlight) -> None:
        """From now on the ledger is looked at whenever the metrics are asked for."""

        def oldest() -> float:
            sent = [
                entry.message.sent_at for entry in in_flight if entry.message.sent_at is not None
            ]
            return max(0.0, self._clock() - min(sent)) if sent else 0.0

        self._in_flight.set_function(lambda: len(in_flight))
        self._oldest.set_function(oldest)

    def queue(self, state: QueueState) -> None:
        """The queue told how many messages it has."""
        self._queue.labels("visible").set(state.visible)
        self._queue.labels("in_flight").set(state.in_flight)
        self._queue.labels("delayed").set(state.delayed)
        self._dead_letters.set(
            math.nan if state.dead_letter_messages is None else state.dead_letter_messages
        )

    def rows(self, counts: Mapping[str, int]) -> None:
        """The checkpoint told how many jobs it knows in each state."""
        for state, count in counts.items():
            self._rows.labels(state).set(count)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Everything as text.

        Args:
            accept: the request's Accept header; OpenMetrics for those that ask for it.

        Returns:
            The text and its content type.
        """
        try:
            encode, content_type = choose_encoder(accept)
        except TypeError:  # the library compares versions without checking that they are numbers
            encode, content_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
        return encode(self.registry), content_type
