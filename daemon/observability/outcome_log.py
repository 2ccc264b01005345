"""One log line and one count for every outcome of a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from daemon.clock import monotonic, wall
from daemon.outcome import Deferred, Duplicate, Held, Rejected, Synced

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.intake.in_flight import Entry
    from daemon.observability.metrics import Metrics
    from daemon.outcome import Outcome

log = structlog.get_logger(__name__)


class OutcomeReporter:
    """Tells people and Prometheus what became of a message.

    Args:
        metrics: the process's metrics.
        clock: epoch seconds.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = wall) -> None:
        self._metrics = metrics
        self._clock = clock

    def report(self, entry: Entry, outcome: Outcome) -> None:
        self._metrics.jobs.labels(outcome.kind, outcome.reason).inc()
        event = entry.event
        fields: dict[str, object] = {
            "message_id": entry.message.message_id,
            "job": event.name if event is not None else None,
            "outcome": outcome.kind,
            "reason": outcome.reason,
            "receive_count": entry.receive_count,
            "seconds": round(monotonic() - entry.received_at, 3),
        }
        fields |= {
            f"{step}_seconds": round(seconds, 3) for step, seconds in entry.durations.items()
        }
        if outcome.detail:
            fields["detail"] = outcome.detail
        if isinstance(outcome, Synced | Duplicate):
            fields |= outcome.target_ids
        if isinstance(outcome, Synced):
            if entry.notes:
                fields["notes"] = list(entry.notes)
            if entry.healed:
                fields["healed"] = entry.healed
                self._metrics.duplicate_runs_healed.inc(entry.healed)
            if event is not None and event.event_time is not None and not event.replayed:
                seconds = max(0.0, self._clock() - event.event_time.timestamp())
                self._metrics.event_to_sync_seconds.observe(seconds)
                fields["event_to_sync_seconds"] = round(seconds, 1)
        if isinstance(outcome, Held):
            fields["edge"] = outcome.edge
        urgent = isinstance(outcome, Rejected | Held | Deferred)
        (log.warning if urgent else log.info)("job outcome", **fields)
