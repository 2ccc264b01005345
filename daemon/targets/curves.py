"""Metrics and metric series in the terms of any target: their extremes, the time of an iteration,
and which metric only says again what another says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.targets.times import milliseconds
from daemon.training_job.metrics import Metric
from daemon.training_job.objective import OBJECTIVE, objective_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daemon.training_job.metric_series import Direction, Extreme, MetricSeries
    from daemon.training_job.training_run import TrainingRun


def extremes(run: TrainingRun) -> Iterator[tuple[MetricSeries, Extreme]]:
    """The best value of each series; lowest and highest where nobody says which is better."""
    for series in run.metric_series:
        for extreme in series.extremes(_direction(run, series)):
            yield series, extreme


def with_extremes(run: TrainingRun) -> tuple[Metric, ...]:
    """The run's metrics with ``<name>/best`` (or ``/min`` and ``/max``) of each series."""
    taken = {metric.name for metric in run.metrics}
    found = (
        Metric(name, extreme.value)
        for series, extreme in extremes(run)
        if (name := f"{series.name}/{extreme.label}") not in taken
    )
    return (*run.metrics, *found)


def repeated_metrics(run: TrainingRun) -> set[str]:
    """`ObjectiveMetric`, unless it says something of its own."""
    objective = objective_of(run)
    return {OBJECTIVE} if objective is not None and objective.is_repeated else set()


def iteration_time(run: TrainingRun) -> Callable[[int], int]:
    """The time of an iteration in epoch milliseconds. SageMaker does not say when one was, so they
    are spread evenly over the training. For runs with a series.
    """
    begin = milliseconds(run.start_time or run.creation_time)
    end = max(begin, milliseconds(run.end_time or run.last_modified_time or run.creation_time))
    first = min(one.steps[0] for one in run.metric_series)
    span = max(one.steps[-1] for one in run.metric_series) - first
    return lambda step: end if span == 0 else begin + (end - begin) * (step - first) // span


def _direction(run: TrainingRun, series: MetricSeries) -> Direction | None:
    tuning = run.tuning
    return tuning.direction if tuning is not None and tuning.metric == series.name else None
