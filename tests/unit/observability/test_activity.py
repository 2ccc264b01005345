"""The last hour in minutes."""

from __future__ import annotations

import pytest

from daemon.observability.activity import MINUTES, Activity

START = 1_764_331_230.0
"""Half a minute after a full one."""


class Clock:
    def __init__(self) -> None:
        self.now = START

    def wall(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("daemon.observability.activity.wall", made.wall)
    return made


def test_outcomes_count_into_their_minute(clock: Clock) -> None:
    activity = Activity()
    activity.note("synced", 2.0)
    activity.note("rejected")
    clock.now += 60
    activity.note("synced", 4.0)
    minutes = activity.last_hour()
    assert len(minutes) == MINUTES
    assert [minute.outcomes for minute in minutes[-2:]] == [
        {"synced": 1, "rejected": 1},
        {"synced": 1},
    ]
    assert minutes[-1].at == START + 30
    assert not any(minute.outcomes for minute in minutes[:-2])


def test_an_outcome_is_counted_for_an_hour(clock: Clock) -> None:
    activity = Activity()
    assert activity.count("synced") == 0
    activity.note("synced", 2.0)
    activity.note("rejected")
    clock.now += 60
    activity.note("synced")
    assert (activity.count("synced"), activity.count("rejected")) == (2, 1)
    clock.now += 60 * (MINUTES - 2)
    assert activity.count("synced") == 2
    clock.now += 60
    assert activity.count("synced") == 1
    assert sum(minute.outcomes.get("synced", 0) for minute in activity.last_hour()) == 1


def test_times_are_within_a_tenth(clock: Clock) -> None:
    activity = Activity()
    for seconds in range(1, 101):
        activity.note("synced", float(seconds))
    last = activity.last_hour()[-1]
    assert last.median_seconds == pytest.approx(50, rel=0.1)
    assert last.slow_seconds == pytest.approx(95, rel=0.1)
    assert activity.last_hour()[-2].median_seconds is None


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e12])
def test_odd_times_are_bounded(clock: Clock, seconds: float) -> None:
    activity = Activity()
    activity.note("synced", seconds)
    median = activity.last_hour()[-1].median_seconds
    assert median is not None
    assert 0 < median < 3e6


def test_it_keeps_an_hour_however_much_happens(clock: Clock) -> None:
    activity = Activity()
    for _ in range(200):
        activity.note("synced", 1.0)
        clock.now += 60
    clock.now -= 60
    assert sum(minute.outcomes.get("synced", 0) for minute in activity.last_hour()) == MINUTES
    assert len(activity._buckets) == MINUTES


def test_a_clock_that_is_set_back_counts_into_the_newest_minute(clock: Clock) -> None:
    activity = Activity()
    activity.note("synced")
    clock.now -= 3600
    activity.note("synced")
    clock.now += 3600
    assert activity.last_hour()[-1].outcomes == {"synced": 2}


def test_what_was_before_this_process_is_added_without_times(clock: Clock) -> None:
    activity = Activity()
    minute = int(START // 60)
    activity.note("synced", 1.0)
    before = {
        minute: {"synced": 2, "rejected": 1},
        minute - 5: {"synced": 7},
        minute - 99: {"x": 1},
    }
    minutes = activity.last_hour(before)
    assert minutes[-1].outcomes == {"synced": 3, "rejected": 1}
    assert (minutes[-6].outcomes, minutes[-6].median_seconds) == ({"synced": 7}, None)
    assert sum(sum(each.outcomes.values()) for each in minutes) == 11
