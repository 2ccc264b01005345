"""Maps metric series to observations, which the run page draws as curves, and their extremes to
metrics.

An observation has the iteration as its epoch number. SageMaker does not say when an iteration was,
so the timestamps are spread evenly over the training: the page can draw over them, too.
"""

from __future__ import annotations

import json
from itertools import chain
from typing import TYPE_CHECKING, Any

from daemon.targets.modeldb_v2.limits import BODY_BYTES, attribute_key, distinct_keys, metric_key
from daemon.training_job.float32 import without_float32_noise
from daemon.training_job.metric_series import thinning_note
from daemon.training_job.metrics import Metric

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from daemon.training_job.metric_series import Direction, Extreme, MetricSeries
    from daemon.training_job.training_run import TrainingRun

OBSERVATIONS_PER_RUN = 500
"""The server answers a list of runs with 429 above 4 MiB, observations take 48 bytes each, and the
official client lists 100 runs at once."""


def with_extremes(run: TrainingRun) -> tuple[Metric, ...]:
    """The run's metrics with ``<name>/best`` (or ``/min`` and ``/max``) of each series."""
    taken = {metric.name for metric in run.metrics}
    extremes = (
        Metric(name, extreme.value)
        for series in run.metric_series
        for extreme in series.extremes(_direction(run, series))
        if (name := f"{series.name}/{extreme.label}") not in taken
    )
    return (*run.metrics, *extremes)


def metric_keys(run: TrainingRun) -> dict[str, str]:
    """The key of each metric, extreme and series by its name."""
    named = chain(
        (metric.name for metric in with_extremes(run)), (one.name for one in run.metric_series)
    )
    return distinct_keys(named, metric_key)


def extreme_steps(run: TrainingRun) -> dict[str, int]:
    """Attributes: the iteration of each extreme."""
    found: dict[str, Extreme] = {
        f"{series.name}_{extreme.label}": extreme
        for series in run.metric_series
        for extreme in series.extremes(_direction(run, series))
    }
    keys = distinct_keys(found, attribute_key)
    return {f"metric_{keys[name]}_step": extreme.step for name, extreme in found.items()}


def observations(
    run: TrainingRun, body: Mapping[str, Any], notes: list[str]
) -> list[dict[str, Any]]:
    """The observations of a run, thinned to what lists of runs and the request can carry.

    Args:
        run: the run.
        body: the rest of the request.
        notes: gets a line if series are thinned or left out.
    """
    if not run.metric_series:
        return []
    limit = OBSERVATIONS_PER_RUN // len(run.metric_series)
    series = tuple(one.thinned(limit) for one in run.metric_series)
    entries = _entries(run, series, metric_keys(run))
    if _size([body, entries]) > BODY_BYTES:
        notes.append("metric series left out: the request would be too large")
        return []
    if (note := thinning_note(series)) is not None:
        notes.append(note)
    return entries


def _direction(run: TrainingRun, series: MetricSeries) -> Direction | None:
    tuning = run.tuning
    return tuning.direction if tuning is not None and tuning.metric == series.name else None


def _entries(
    run: TrainingRun, series: tuple[MetricSeries, ...], keys: Mapping[str, str]
) -> list[dict[str, Any]]:
    begin = _milliseconds(run.start_time or run.creation_time)
    end = max(begin, _milliseconds(run.end_time or run.last_modified_time or run.creation_time))
    first = min(one.steps[0] for one in series)
    span = max(one.steps[-1] for one in series) - first
    return [
        {
            "attribute": {"key": keys[one.name], "value": without_float32_noise(value)},
            "epoch_number": step,
            "timestamp": end if span == 0 else begin + (end - begin) * (step - first) // span,
        }
        for one in series
        for step, value in zip(one.steps, one.values, strict=True)
    ]


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())
