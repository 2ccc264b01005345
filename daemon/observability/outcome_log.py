"""One log line and one count for every outcome of a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from daemon.clock import monotonic, wall
from daemon.outcome import Deferred, Duplicate, Held, Rejected, Synced

if TYPE_CHECKING:
    from daemon.observability.metrics import Metrics
    from daemon.outcome import Outcome
    from daemon.pipeline.delivery import Delivery

log = structlog.get_logger(__name__)


class OutcomeReporter:
    """Logs and counts the outcomes of messages."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def report(self, delivery: Delivery, outcome: Outcome) -> None:
        """Logs and counts one outcome, final or held."""
        self._metrics.jobs.labels(outcome.kind, outcome.reason).inc()
        job = delivery.job
        event = job.event
        fields: dict[str, object] = {
            "message_id": delivery.message.message_id,
            "job": event.name if event is not None else None,
            "outcome": outcome.kind,
            "reason": outcome.reason,
            "receive_count": delivery.receive_count,
            "seconds": round(monotonic() - delivery.received_at, 3),
        }
        fields |= {f"{step}_seconds": round(seconds, 3) for step, seconds in job.durations.items()}
        if outcome.detail:
            fields["detail"] = outcome.detail
        if isinstance(outcome, Synced | Duplicate):
            fields |= outcome.target_ids
        if isinstance(outcome, Synced):
            if job.notes:
                fields["notes"] = list(job.notes)
            if job.healed:
                fields["healed"] = job.healed
                self._metrics.duplicate_runs_healed.inc(job.healed)
            if event is not None and event.event_time is not None and not event.replayed:
                seconds = max(0.0, wall() - event.event_time.timestamp())
                self._metrics.event_to_sync_seconds.observe(seconds)
                fields["event_to_sync_seconds"] = round(seconds, 1)
        if isinstance(outcome, Held):
            fields["edge"] = outcome.fault.edge
        urgent = isinstance(outcome, Rejected | Held | Deferred)
        (log.warning if urgent else log.info)("job outcome", **fields)
