"""Maps metric series to observations, which the run page draws as curves, and their extremes to
metrics.

An observation has the iteration as its epoch number. SageMaker does not say when an iteration was,
so the timestamps are spread evenly over the training: the page can draw over them, too.
"""

from __future__ import annotations

import json
from itertools import chain
from typing import TYPE_CHECKING, Any

from daemon.targets.curves import extremes, iteration_time, with_extremes
from daemon.targets.modeldb_v2.limits import BODY_BYTES, attribute_key, metric_key
from daemon.targets.names import distinct_keys
from daemon.training_job.float32 import without_float32_noise
from daemon.training_job.metric_series import thinning_note

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.training_job.metric_series import Extreme, MetricSeries
    from daemon.training_job.training_run import TrainingRun

OBSERVATIONS_PER_RUN = 500
"""The server answers a list of runs with 429 above 4 MiB, observations take 48 bytes each, and the
official client lists 100 runs at once."""


def metric_keys(run: TrainingRun) -> dict[str, str]:
    """The key of each metric, extreme and series by its name."""
    named = chain(
        (metric.name for metric in with_extremes(run)), (one.name for one in run.metric_series)
    )
    return distinct_keys(named, metric_key)


def extreme_steps(run: TrainingRun) -> dict[str, int]:
    """Attributes: the iteration of each extreme."""
    found: dict[str, Extreme] = {
        f"{series.name}_{extreme.label}": extreme for series, extreme in extremes(run)
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


def _entries(
    run: TrainingRun, series: tuple[MetricSeries, ...], keys: Mapping[str, str]
) -> list[dict[str, Any]]:
    time_of = iteration_time(run)
    return [
        {
            "attribute": {"key": keys[one.name], "value": without_float32_noise(value)},
            "epoch_number": step,
            "timestamp": time_of(step),
        }
        for one in series
        for step, value in zip(one.steps, one.values, strict=True)
    ]


def _size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())
