"""The metrics of a run."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from daemon.training_job.training_run import Metric
from tests.support.training_runs import metric, run_of


def test_newest_value_of_a_metric_wins() -> None:
    given = [
        metric(value=0.9, second=1),
        metric(value=0.3, second=3),
        metric(value=0.5, second=2),
        metric(value=0.1),
    ]
    assert run_of(FinalMetricDataList=given).metrics == (
        Metric("m", 0.3, datetime.fromtimestamp(1763628003, UTC)),
    )
    assert (
        run_of(FinalMetricDataList=[metric(value=1, second=1), metric(value=2, second=1)])
        .metrics[0]
        .value
        == 2
    )
    assert run_of(FinalMetricDataList=[metric(value=1), metric(value=2)]).metrics == (
        Metric("m", 2.0),
    )


def test_a_newer_nan_hides_an_older_number() -> None:
    run = run_of(FinalMetricDataList=[metric(value=1.0, second=1), metric(value="NaN", second=2)])
    assert (run.metrics, run.non_finite_metrics) == ((), {"m": "NaN"})


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("NaN", "NaN"),
        (float("nan"), "NaN"),
        ("Infinity", "Infinity"),
        (float("inf"), "Infinity"),
        ("-Infinity", "-Infinity"),
    ],
)
def test_values_that_are_not_finite_are_named(value: object, named: str) -> None:
    run = run_of(FinalMetricDataList=[metric(value=value)])
    assert (run.metrics, run.non_finite_metrics) == ((), {"m": named})


@pytest.mark.parametrize(
    "given",
    [
        metric(name=None),
        metric(name=""),
        metric(value=None),
        metric(value=True),
        metric(value="fast"),
        metric(value=10**400),
        None,
        "m",
    ],
)
def test_entries_without_name_or_number_are_left_out(given: object) -> None:
    run = run_of(FinalMetricDataList=[given])
    assert (run.metrics, run.non_finite_metrics) == ((), {})
