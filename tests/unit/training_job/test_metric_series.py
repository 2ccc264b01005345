from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

from daemon.training_job import metric_series as module
from daemon.training_job.metric_series import (
    Extreme,
    MetricSeries,
    bounded,
    metric_series,
    series_names,
    thinning_note,
)


def series(*values: float, name: str = "loss") -> MetricSeries:
    return MetricSeries(name, tuple(range(len(values))), values)


@pytest.mark.parametrize(
    ("points", "steps", "values", "left_out"),
    [
        pytest.param([(0, 1.0), (1, 0.5)], (0, 1), (1.0, 0.5), 0, id="as they are"),
        pytest.param([(2, 3.0), (0, 1.0), (1, 2.0)], (0, 1, 2), (1.0, 2.0, 3.0), 0, id="sorted"),
        pytest.param([(0, 1.0), (0, 2.0)], (0,), (2.0,), 0, id="the last value of an iteration"),
        pytest.param([(0, math.nan), (1, 2.0)], (1,), (2.0,), 1, id="NaN"),
        pytest.param([(0, 1.0), (1, math.inf)], (0,), (1.0,), 1, id="infinity"),
        pytest.param([(0, -math.inf), (1, 1.0)], (1,), (1.0,), 1, id="minus infinity"),
        pytest.param([(0, math.nan), (0, 2.0)], (0,), (2.0,), 0, id="NaN corrected later"),
        pytest.param([(0, 2.0), (0, math.nan), (1, 1.0)], (1,), (1.0,), 1, id="became NaN"),
        pytest.param([(-1, 1.0), (5, 2.0)], (-1, 5), (1.0, 2.0), 0, id="gaps and below 0"),
        pytest.param([(10**12, 0.0)], (10**12,), (0.0,), 0, id="one far point"),
    ],
)
def test_a_series_has_one_finite_value_for_each_iteration_in_order(
    points: list[tuple[int, float]],
    steps: tuple[int, ...],
    values: tuple[float, ...],
    left_out: int,
) -> None:
    assert metric_series("loss", points) == (MetricSeries("loss", steps, values), left_out)


@pytest.mark.parametrize("points", [[], [(0, math.nan)], [(0, math.inf), (1, -math.inf)]])
def test_nothing_finite_is_no_series(points: list[tuple[int, float]]) -> None:
    assert metric_series("loss", points) == (None, len(points))


@pytest.mark.parametrize(
    ("values", "direction", "expected"),
    [
        ((3.0, 1.0, 2.0), "Minimize", [("best", 1.0, 1)]),
        ((3.0, 1.0, 2.0), "Maximize", [("best", 3.0, 0)]),
        ((3.0, 1.0, 2.0), None, [("min", 1.0, 1), ("max", 3.0, 0)]),
        ((1.0, 1.0, 1.0), "Minimize", [("best", 1.0, 0)]),
        ((1.0, 1.0), None, [("min", 1.0, 0), ("max", 1.0, 0)]),
        ((0.5, 0.9, 0.9), "Maximize", [("best", 0.9, 1)]),
        ((-1.0, -2.0), "Minimize", [("best", -2.0, 1)]),
        ((-1.0, -2.0), "Maximize", [("best", -1.0, 0)]),
        ((1.0,), "Minimize", []),
        ((1.0,), None, []),
        ((0.0, 5e-324), "Maximize", [("best", 5e-324, 1)]),
    ],
)
def test_extremes_say_value_and_first_iteration(
    values: tuple[float, ...], direction: Any, expected: list[tuple[Any, float, int]]
) -> None:
    assert series(*values).extremes(direction) == tuple(Extreme(*one) for one in expected)


@pytest.mark.parametrize(
    ("count", "limit"),
    [
        *((5, 4), (6, 5), (7, 4), (10, 9), (100, 10), (1000, 12)),
        *((1001, 1000), (5000, 1000), (100_000, 166), (100_000, 4)),
    ],
)
def test_a_thinned_series_keeps_its_ends_and_its_extremes(count: int, limit: int) -> None:
    values = [math.sin(step) for step in range(count)]
    values[count // 3], values[2 * count // 3] = -7.0, 7.0
    thin = series(*values).thinned(limit)
    assert limit - 2 <= len(thin.steps) <= limit
    assert {0, count // 3, 2 * count // 3, count - 1} <= set(thin.steps)
    assert thin.extremes() == series(*values).extremes()
    assert list(thin.steps) == sorted(set(thin.steps))
    assert [values[step] for step in thin.steps] == list(thin.values)


def test_thinning_is_even() -> None:
    steps = series(*(float(step) for step in range(9901))).thinned(102).steps
    assert {after - before for before, after in pairwise(steps)} == {100}


@pytest.mark.parametrize("limit", [-1, 0, 1, 3, 4])
def test_four_points_always_stay(limit: int) -> None:
    assert len(series(*map(float, range(100))).thinned(limit).steps) <= 4


def test_a_short_series_stays_as_it_is_and_nothing_is_noted() -> None:
    given = series(*map(float, range(10)))
    assert given.thinned(10) == given
    assert thinning_note([given, series(1.0)]) is None


def test_the_note_tells_the_points_there_were_however_often_a_series_is_thinned() -> None:
    long, short = series(*map(float, range(50)), name="a"), series(1.0, name="b")
    shorter = [one.thinned(20).thinned(10) for one in (long, short, long)]
    count = len(shorter[0].steps)
    words = f"'a' to {count} of 50 points"
    assert thinning_note(shorter) == f"metric series thinned: {words}, {words}"


@pytest.mark.parametrize("count", [1, 2, 10, 40, 100])
def test_all_series_of_a_job_stay_within_a_bound(count: int) -> None:
    kept = bounded([series(*map(float, range(3000)), name=str(number)) for number in range(count)])
    assert sum(len(one.steps) for one in kept) <= module.POINTS_PER_JOB
    assert all(len(one.steps) <= module.POINTS_PER_SERIES for one in kept)
    assert {one.thinned_from for one in kept} == {3000}


DEFINED = {"MetricDefinitions": [{"Name": "loss", "Regex": "x"}, {"Name": "acc", "Regex": "y"}]}


@pytest.mark.parametrize(
    ("description", "names"),
    [
        ({}, ()),
        ({"AlgorithmSpecification": DEFINED}, ("loss", "acc")),
        ({"AlgorithmSpecification": None}, ()),
        ({"AlgorithmSpecification": "odd"}, ()),
        ({"AlgorithmSpecification": {"MetricDefinitions": [None, {}, {"Name": 3}]}}, ()),
        ({"FinalMetricDataList": [{"MetricName": "auc", "Value": 1.0}]}, ("auc",)),
        ({"FinalMetricDataList": [{"MetricName": "auc"}, {"MetricName": "auc"}]}, ("auc",)),
        (
            {"AlgorithmSpecification": DEFINED, "FinalMetricDataList": [{"MetricName": "acc"}]},
            ("loss", "acc"),
        ),
        ({"FinalMetricDataList": [{"MetricName": "ObjectiveMetric"}]}, ()),
        (
            {"AlgorithmSpecification": {"MetricDefinitions": [{"Name": "ObjectiveMetric"}]}},
            ("ObjectiveMetric",),
        ),
        ({"FinalMetricDataList": [{"MetricName": " "}, {"MetricName": None}]}, ()),
    ],
)
def test_the_metrics_that_may_have_a_series(
    description: dict[str, Any], names: tuple[str, ...]
) -> None:
    assert series_names(description) == names
