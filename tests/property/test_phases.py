"""Any secondary status transitions make phases that fit into the job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from daemon.training_job.phases import Phases, read_phases
from tests.property.texts import anything

START = datetime(2025, 11, 20, 8, 40, tzinfo=UTC)

statuses = st.sampled_from(
    ["Pending", "Starting", "Downloading", "Training", "Interrupted", "Uploading", "Completed"]
)
moments = st.integers(0, 10_000).map(lambda second: START + timedelta(seconds=second))
transitions = st.lists(
    st.fixed_dictionaries(
        {"Status": statuses, "StartTime": moments}, optional={"EndTime": moments}
    ),
    max_size=12,
)


def phases(items: list[Any], end: datetime | None) -> Phases:
    return read_phases({"SecondaryStatusTransitions": items}, end)


def seconds(found: Phases) -> list[int]:
    told = (
        found.pending,
        found.downloading,
        found.training,
        found.uploading,
        found.interrupted,
    )
    return [value for value in told if value is not None]


@given(transitions, st.none() | moments)
def test_they_are_no_longer_than_the_job(items: list[dict[str, Any]], end: datetime | None) -> None:
    found = phases(items, end)
    assert all(value >= 0 for value in seconds(found))
    times = [time for item in items for time in (item["StartTime"], item.get("EndTime"))]
    known = [time for time in (*times, end) if time is not None]
    if items:
        assert sum(seconds(found)) <= (max(known) - min(known)).total_seconds()
        assert found.interruptions == len(
            {item["StartTime"] for item in items if item["Status"] == "Interrupted"}
        )


@given(transitions.filter(bool), st.none() | moments, st.randoms())
def test_order_and_repetition_do_not_matter(
    items: list[dict[str, Any]], end: datetime | None, random: Any
) -> None:
    distinct = list({item["StartTime"]: item for item in items}.values())
    mixed = [*distinct, *distinct]
    random.shuffle(mixed)
    assert phases(mixed, end) == phases(distinct, end)


@given(st.lists(anything(), max_size=6), transitions)
def test_other_entries_are_passed_over(junk: list[Any], items: list[dict[str, Any]]) -> None:
    found = phases([item for item in junk if not isinstance(item, dict)] + items, None)
    assert found == phases(items, None)
