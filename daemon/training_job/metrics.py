"""Metrics: the last values that SageMaker read from a job's log."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from daemon.training_job.field_readers import moment, sections, text

if TYPE_CHECKING:
    from collections.abc import Mapping

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    value: float
    timestamp: datetime | None = None


def read_metrics(description: Mapping[str, Any]) -> tuple[tuple[Metric, ...], dict[str, str]]:
    """The newest value of each name in FinalMetricDataList, finite ones as metrics, others as name
    to ``NaN`` and the like.

    Names repeat: the newest timestamp wins, at the same instant the later in the list; a value
    without a timestamp counts as older than any with one. An entry without a name or without a
    number is left out.
    """
    newest: dict[str, Metric] = {}
    for item in sections(description, "FinalMetricDataList"):
        name, value = text(item, "MetricName"), _number(item.get("Value"))
        if name is None or value is None:
            continue
        metric = Metric(name, value, moment(item, "Timestamp"))
        known = newest.get(name)
        if known is None or (metric.timestamp or _NEVER) >= (known.timestamp or _NEVER):
            newest[name] = metric
    return (
        tuple(metric for metric in newest.values() if math.isfinite(metric.value)),
        {
            name: json.dumps(metric.value)
            for name, metric in newest.items()
            if not math.isfinite(metric.value)
        },
    )


def _number(value: object) -> float | None:
    """A value as a float: botocore gives float, int, or the text "NaN" or "Infinity", whatever was
    on the wire.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
