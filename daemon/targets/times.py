"""Times as targets store them, and as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

from daemon.training_job.identity import iso_milliseconds

_LAST_SECOND = datetime.max.replace(tzinfo=UTC, microsecond=0).timestamp()


def milliseconds(moment: datetime) -> int:
    """Epoch milliseconds, rounded."""
    return round(moment.timestamp() * 1000)


def iso(epoch_milliseconds: int) -> str:
    """ISO 8601 text in UTC. What was rounded up to the year 10000 is a time of the last second
    before.
    """
    return iso_milliseconds(
        datetime.fromtimestamp(min(epoch_milliseconds / 1000, _LAST_SECOND), UTC)
    )
