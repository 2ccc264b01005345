"""Picks the lines of one log event out of what `structlog.testing.capture_logs` has captured."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from structlog.typing import EventDict


def log_lines(logs: Iterable[EventDict], event: str) -> list[EventDict]:
    """The captured lines of an event."""
    return [line for line in logs if line["event"] == event]
