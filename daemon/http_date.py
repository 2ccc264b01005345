"""The ``Date`` header of HTTP, as a look at another machine's clock."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from daemon.clock import wall


def clock_ahead(date: str | None) -> float | None:
    """How far a server's clock is ahead of this machine's, to about a second.

    Args:
        date: the header of an answer that has just come.

    Returns:
        Seconds; None if the header is missing or no date.
    """
    try:
        return parsedate_to_datetime(date or "").timestamp() - wall()
    except (TypeError, ValueError, OverflowError):
        return None
