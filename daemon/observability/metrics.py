"""Prometheus metrics. Names and labels are part of the contract; label values are bounded sets,
never names of jobs.
"""

from __future__ import annotations

import math
from collections import Counter as Counts
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
from daemon.operations.reconcile import Verdict
from daemon.outcome import REASONS
from daemon.pipeline.step import MEASURED_STEPS, Step
from daemon.reasons import Edge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.aws.ports import QueueState
    from daemon.intake.in_flight import InFlight

HEARTBEAT_RESULTS = ("renewed", "stale", "failed")

STEP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""A step is one or two requests: usually a few ms, at worst a whole timeout."""
EVENT_TO_SYNC_BUCKETS = (1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 10_800, 21_600)
"""Usually seconds, hours after an outage."""

# Global to the library: no extra series with the creation time of each counter and histogram.
disable_created_metrics()  # type: ignore[no-untyped-call] # the library leaves its return type out


class Metrics:
    """All metrics of one daemon, in a registry of their own.

    Args:
        version: of this program.
        target: the kind of the target.

    Attributes:
        jobs: outcomes of messages, by outcome and reason.
        event_to_sync_seconds: from the event's time to the durable outcome; not for replays,
            backfill and reconcile.
        breaker_open: by edge.
        account_breaker_open: by account and region, if there are several.
        standing_by: 1 while another process holds the writer lease.
        duplicate_runs_healed: duplicate runs deleted from the target.
        row_counts: the last numbers of jobs in the checkpoint, by state; empty before the first.
        reconcile_counts: jobs that passes of reconcile have seen, by verdict.
    """

    def __init__(self, *, version: str, target: str) -> None:
        self.registry = CollectorRegistry()
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
            "breaker_open", "1 while the edge is unavailable and messages are held.", "edge"
        )
        self.account_breaker_open = self._gauge(
            "account_breaker_open",
            "1 while SageMaker cannot be asked about the jobs of a configured account and region.",
            "account",
            "region",
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
            "duplicate_runs_healed", "Duplicate runs deleted from the target."
        )
        self._reconciled = self._counter(
            "reconcile_jobs", "Jobs that passes of reconcile have seen.", "result"
        )
        self.reconcile_last_success = self._gauge(
            "reconcile_last_success_timestamp_seconds",
            "When a pass of reconcile was last completed, by any replica; 0 before the first.",
        )
        self.reconcile_fault = self._gauge(
            "reconcile_fault",
            "1 if the last pass of reconcile failed, for example for a permission.",
        )
        self.reconcile_period = self._gauge(
            "reconcile_period_seconds", "reconcile.every_seconds; 0: there is no reconcile."
        )
        self._rows = self._gauge("checkpoint_rows", "Jobs in the checkpoint.", "state")
        self.row_counts: Mapping[str, int] = {}
        self.reconcile_counts: Counts[Verdict] = Counts()
        self._create_known_series()

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"modeldb_sync_{name}", words, labels, registry=self.registry)

    def _gauge(self, name: str, words: str, *labels: str) -> Gauge:
        return Gauge(f"modeldb_sync_{name}", words, labels, registry=self.registry)

    def _create_known_series(self) -> None:
        """Prometheus misses the first increment of a counter that appears with 1."""
        for outcome, reasons in REASONS.items():
            for reason in reasons:
                self.jobs.labels(outcome, reason)
        for step in MEASURED_STEPS:
            self._steps.labels(step)
        for edge in Edge:
            self.breaker_open.labels(edge)
        for result in HEARTBEAT_RESULTS:
            self._heartbeats.labels(result)
        for verdict in Verdict:
            self._reconciled.labels(verdict)
        self._dead_letters.set(math.nan)

    def received(self, count: int) -> None:
        """The queue answered a receive, perhaps without messages."""
        self._received.inc(count)
        self._last_poll.set(wall())

    def step(self, step: Step, seconds: float) -> None:
        """A step of the flow ended.

        Args:
            step: one of `MEASURED_STEPS`.
            seconds: how long it took.
        """
        self._steps.labels(step).observe(seconds)

    def heartbeat(self, result: str) -> None:
        """The renewal of a message ended.

        Args:
            result: one of `HEARTBEAT_RESULTS`.
        """
        self._heartbeats.labels(result).inc()

    def target_request(self, operation: str, result: str) -> None:
        """A request to the target ended. Both labels are from bounded sets."""
        self._target_requests.labels(operation, result).inc()

    def aws_request(self, service: str, operation: str, result: str) -> None:
        """A request to AWS ended. All labels are from bounded sets."""
        self._aws_requests.labels(service, operation, result).inc()

    def watch_in_flight(self, in_flight: InFlight) -> None:
        """Reads the ledger whenever the metrics are rendered."""
        self._in_flight.set_function(lambda: len(in_flight))
        self._oldest.set_function(lambda: in_flight.oldest_seconds() or 0.0)

    def queue(self, state: QueueState) -> None:
        """Updates the gauges of the queue."""
        self._queue.labels("visible").set(state.visible)
        self._queue.labels("in_flight").set(state.in_flight)
        self._queue.labels("delayed").set(state.delayed)
        self._dead_letters.set(
            math.nan if state.dead_letter_messages is None else state.dead_letter_messages
        )

    def reconciled(self, verdict: Verdict) -> None:
        """A pass of reconcile has seen a job."""
        self._reconciled.labels(verdict).inc()
        self.reconcile_counts[verdict] += 1

    def rows(self, counts: Mapping[str, int]) -> None:
        """Updates the number of jobs in the checkpoint, by state."""
        self.row_counts = dict(counts)
        for state, count in counts.items():
            self._rows.labels(state).set(count)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Renders all metrics.

        Args:
            accept: the request's Accept header, which may ask for OpenMetrics.

        Returns:
            The text and its content type.
        """
        try:
            encode, content_type = choose_encoder(accept)
        except TypeError:  # the library compares versions without checking that they are numbers
            encode, content_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
        return encode(self.registry), content_type
