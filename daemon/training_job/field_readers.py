"""Tolerant readers for the fields of an AWS response: a field of the wrong type counts as absent,
and nothing raises.

botocore enforces neither required members nor types on responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from daemon.text import cleaned

MAX_EXACT = 2**53
"""Whole numbers up to this are exact as doubles, which is what targets store."""


def section(source: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A structure; empty when absent."""
    value = source.get(name)
    return value if isinstance(value, Mapping) else {}


def sections(source: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """A list of structures; empty when absent."""
    value = source.get(name)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def texts(source: Mapping[str, Any], name: str) -> dict[str, str]:
    """A map of texts to texts, unchanged."""
    return {
        str(key): value for key, value in section(source, name).items() if isinstance(value, str)
    }


def text(source: Mapping[str, Any], name: str) -> str | None:
    """A text that is not blank, `cleaned`."""
    value = source.get(name)
    return cleaned(value) if isinstance(value, str) and value.strip() else None


def integer(source: Mapping[str, Any], name: str) -> int | None:
    """A whole number of any size, for where it is stored as text."""
    value = source.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def whole(source: Mapping[str, Any], name: str) -> int | None:
    """A whole number that a double holds exactly."""
    value = integer(source, name)
    return None if value is None or abs(value) > MAX_EXACT else value


def text_list(source: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The texts of a list that are not blank, `cleaned`; empty when absent."""
    value = source.get(name)
    if not isinstance(value, list):
        return ()
    return tuple(cleaned(item) for item in value if isinstance(item, str) and item.strip())


def flag(source: Mapping[str, Any], name: str) -> bool | None:
    """A boolean."""
    value = source.get(name)
    return value if isinstance(value, bool) else None


def moment(source: Mapping[str, Any], name: str) -> datetime | None:
    """A time in UTC (botocore uses the local time zone)."""
    value = source.get(name)
    if not isinstance(value, datetime):
        return None
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    # at the ends of the calendar, by time zone and platform
    except (OverflowError, ValueError, OSError):
        return None
