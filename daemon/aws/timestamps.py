"""The timestamps in AWS's answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from botocore.utils import parse_timestamp


def utc_timestamp(value: Any) -> datetime:  # noqa: ANN401 - whatever the answer has
    """A timestamp as AWS's JSON protocols write it. botocore's own parser, which is used for
    everything but numbers, asks for the local time zone each time.

    Args:
        value: epoch seconds, as a rule; or a text that botocore understands.

    Raises:
        RuntimeError, ValueError: botocore cannot parse it either.
    """
    if isinstance(value, int | float):
        try:
            return datetime.fromtimestamp(value, UTC)
        except (OSError, OverflowError, ValueError):
            pass  # botocore counts from 1970 by itself
    parsed: datetime = parse_timestamp(value)
    return parsed
