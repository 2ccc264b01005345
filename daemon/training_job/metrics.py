"""Metrics: the final values that SageMaker extracted from a job's log."""

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
    """Reads FinalMetricDataList.

    Names may repeat: the newest timestamp wins, and of equal timestamps the later entry. A value
    without a timestamp is older than any with one. Entries without a name or a number are left out.

    Returns:
        The finite metrics, and the names of the others with ``NaN``, ``Infinity`` or
        ``-Infinity``.
    """
    newest: dict[str, Metric] = {}
    for item in sections(description, "FinalMetricDataList"):
        name, value = text(item, "MetricName"), number(item.get("Value"))
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


def number(value: object) -> float | None:
    """A metric value as a float. botocore returns a float, an int, or "NaN" and the like."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
