"""One log line and one count for every outcome of a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from daemon.aws.ports import ORIGIN
from daemon.clock import monotonic, wall
from daemon.outcome import Deferred, Duplicate, Held, Rejected, Synced

if TYPE_CHECKING:
    from daemon.observability.activity import Activity
    from daemon.observability.metrics import Metrics
    from daemon.outcome import Outcome
    from daemon.pipeline.delivery import Delivery

log = structlog.get_logger(__name__)


class OutcomeReporter:
    """Logs and counts the outcomes of messages.

    Args:
        metrics: to be updated.
        activity: the last hour, for the status page; None: not kept.
    """

    def __init__(self, metrics: Metrics, activity: Activity | None = None) -> None:
        self._metrics = metrics
        self._activity = activity

    def report(self, delivery: Delivery, outcome: Outcome) -> None:
        """Logs and counts one outcome, final or held."""
        self._metrics.jobs.labels(outcome.kind, outcome.reason).inc()
        since_event: float | None = None
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
        origin = delivery.message.attributes.get(ORIGIN)
        if origin is not None:
            fields["origin"] = origin
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
            announced_at = None if event is None or event.replayed else event.event_time
            if announced_at is not None and origin is None:
                since_event = max(0.0, wall() - announced_at.timestamp())
                self._metrics.event_to_sync_seconds.observe(since_event)
                fields["event_to_sync_seconds"] = round(since_event, 1)
        if self._activity is not None:
            self._activity.note(outcome.kind, since_event)
        if isinstance(outcome, Held):
            fields["edge"] = outcome.fault.edge
        urgent = isinstance(outcome, Rejected | Held | Deferred)
        (log.warning if urgent else log.info)("job outcome", **fields)
