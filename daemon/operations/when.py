"""Moments and periods as people type them: ``2026-11-20``, ``2026-11-20T08:30Z``, ``7d``, ``12h``.

Pure; the present moment is an argument.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from daemon.errors import SetupFault
from daemon.text import one_line, shortened

if TYPE_CHECKING:
    from typing import Self

FORMS = "7d, 12h, 30m, 2w (ago), 2026-11-20, 2026-11-20T08:30 (UTC), or 2026-11-20T08:30+02:00"

_AGO = re.compile(r"(?P<number>[0-9]{1,6}) ?(?P<unit>[smhdw])", re.IGNORECASE)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
_LONGEST_SHOWN = 60


class BadWhen(SetupFault):
    """A text that is no moment, or two moments that are no period: an error of usage."""


def parse_when(text: str, now: float) -> float:
    """The moment that a person means.

    Args:
        text: one of `FORMS`. A time without an offset is UTC, a date alone is its midnight.
        now: epoch seconds.

    Returns:
        Epoch seconds.

    Raises:
        BadWhen: it is none of the forms, or before the year 2000.
    """
    text = text.strip()
    if (ago := _AGO.fullmatch(text)) is not None:
        moment = now - int(ago["number"]) * _UNIT_SECONDS[ago["unit"].lower()]
    else:
        try:
            parsed = datetime.fromisoformat(text)
            if parsed.tzinfo is None:
                parsed = parsed.replace(tzinfo=UTC)
            moment = parsed.timestamp()
        except (ValueError, OverflowError) as error:
            shown = shortened(one_line(text), _LONGEST_SHOWN)
            raise BadWhen(f"{shown!r} is no date, time or age: give one of {FORMS}") from error
    if moment < _EARLIEST:
        raise BadWhen(f"{text!r} is before the year 2000: give one of {FORMS}")
    return moment


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` to `until`, in epoch seconds."""

    since: float
    until: float

    @classmethod
    def of(cls, since: float, until: float | None, now: float) -> Self:
        """A period that has begun.

        Args:
            since: its begin.
            until: its end; None or later than `now`: `now`.
            now: epoch seconds.

        Raises:
            BadWhen: it ends before it begins, or begins in the future.
        """
        if since > now:
            raise BadWhen(f"--since is in the future ({moment_text(since)}): give an earlier one")
        if until is not None and until <= since:
            raise BadWhen(
                f"--until ({moment_text(until)}) is not after --since ({moment_text(since)}): "
                "exchange them, or leave --until out for now"
            )
        return cls(since, now if until is None else min(until, now))


def moment_text(epoch_seconds: float) -> str:
    """A moment for people, in UTC: ``2026-11-20 08:30:00Z``."""
    return f"{datetime.fromtimestamp(epoch_seconds, UTC):%Y-%m-%d %H:%M:%SZ}"


def age_text(seconds: float) -> str:
    """A duration for people, in its largest unit: ``3 s``, ``5 min``, ``2 h``, ``4 days``."""
    age = timedelta(seconds=max(0.0, seconds))
    if age < timedelta(minutes=2):
        return f"{age.total_seconds():.0f} s"
    if age < timedelta(hours=2):
        return f"{age.total_seconds() / 60:.0f} min"
    if age < timedelta(days=2):
        return f"{age.total_seconds() / 3600:.0f} h"
    return f"{age.total_seconds() / 86_400:.0f} days"
