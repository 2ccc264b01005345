"""Timestamps are the same moments as those that botocore reads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.utils import parse_timestamp

from daemon.aws.timestamps import utc_timestamp


@pytest.mark.parametrize(
    "value",
    [
        *(0, 1, -1, 1795985657, 1795985657.123, 1795985657.999999, 2**31, 253402300799.0),
        *("1795985657.5", "2026-11-29T20:45:36Z", "2026-11-29T20:45:36+02:00"),
        "Sun, 29 Nov 2026 20:45:36 GMT",
    ],
)
def test_a_moment_is_that_of_botocore(value: Any) -> None:
    assert utc_timestamp(value) == parse_timestamp(value)


def test_numbers_are_in_utc() -> None:
    assert utc_timestamp(1795985657.25) == datetime(2026, 11, 29, 20, 54, 17, 250000, UTC)
    assert utc_timestamp(1795985657.25).tzinfo is UTC


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, -1e300, "yesterday", None])
def test_what_botocore_refuses_is_refused(value: Any) -> None:
    with pytest.raises(Exception) as ours:  # noqa: PT011 - whichever botocore raises
        utc_timestamp(value)
    with pytest.raises(type(ours.value)):
        parse_timestamp(value)
