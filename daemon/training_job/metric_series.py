"""Metric series: the values of a metric over the iterations of its training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from daemon.text import shortened
from daemon.training_job.field_readers import sections, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

POINTS_PER_SERIES = 1000
POINTS_PER_JOB = 4000
FEWEST_POINTS = 4
"""First, last, lowest and highest: kept however much a series is thinned."""

_OBJECTIVE_METRIC = "ObjectiveMetric"
"""What SageMaker adds to the final metrics of a tuning job's child: one of the others again."""

Direction = Literal["Minimize", "Maximize"]


@dataclass(frozen=True, slots=True)
class Extreme:
    """The lowest or highest value of a series."""

    label: Literal["best", "min", "max"]
    value: float
    step: int
    """The first iteration that has it."""


@dataclass(frozen=True, slots=True)
class MetricSeries:
    """The finite values of a metric: at least one, one per iteration, in ascending order."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    thinned_from: int | None = None
    """How many points there were; None: all are here."""

    def extremes(self, direction: Direction | None = None) -> tuple[Extreme, ...]:
        """The best value, or lowest and highest where nobody says which is better; nothing for a
        series of one point, whose only value is the last one anyway.
        """
        if len(self.steps) < 2:  # noqa: PLR2004 - one point
            return ()
        lowest, highest = self._lowest(), self._highest()
        match direction:
            case "Minimize":
                return (self._extreme("best", lowest),)
            case "Maximize":
                return (self._extreme("best", highest),)
            case _:
                return (self._extreme("min", lowest), self._extreme("max", highest))

    def thinned(self, limit: int) -> MetricSeries:
        """At most `limit` points (at least `FEWEST_POINTS`), evenly spread; the first, the last,
        the lowest and the highest stay.
        """
        limit = max(limit, FEWEST_POINTS)
        count = len(self.steps)
        if count <= limit:
            return self
        spread = limit - 2
        kept = {round(place * (count - 1) / (spread - 1)) for place in range(spread)}
        chosen = sorted(kept | {self._lowest(), self._highest()})
        return MetricSeries(
            self.name,
            tuple(self.steps[index] for index in chosen),
            tuple(self.values[index] for index in chosen),
            self.thinned_from or count,
        )

    def _lowest(self) -> int:
        return min(range(len(self.values)), key=self.values.__getitem__)

    def _highest(self) -> int:
        return max(range(len(self.values)), key=self.values.__getitem__)

    def _extreme(self, label: Literal["best", "min", "max"], index: int) -> Extreme:
        return Extreme(label, self.values[index], self.steps[index])


def series_names(description: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics of a described job that may have a series: those it defines, and those with a
    final value.
    """
    algorithm = description.get("AlgorithmSpecification")
    defined = [
        text(item, "Name")
        for item in sections(algorithm if isinstance(algorithm, dict) else {}, "MetricDefinitions")
    ]
    final = [text(item, "MetricName") for item in sections(description, "FinalMetricDataList")]
    names = [*defined, *(name for name in final if name != _OBJECTIVE_METRIC)]
    return tuple(dict.fromkeys(name for name in names if name is not None))


def metric_series(
    name: str, points: Iterable[tuple[int, float]]
) -> tuple[MetricSeries | None, int]:
    """Makes a series of points in any order. Of several values of an iteration the last one counts.

    Returns:
        The series, None without a finite value; and the number of iterations left out because their
        value is not finite.
    """
    latest = dict(points)
    finite = sorted((step, value) for step, value in latest.items() if math.isfinite(value))
    left_out = len(latest) - len(finite)
    if not finite:
        return None, left_out
    steps, values = zip(*finite, strict=True)
    return MetricSeries(name, steps, values), left_out


def bounded(series: Sequence[MetricSeries]) -> tuple[MetricSeries, ...]:
    """Thins the series of a job to what is kept of them in memory."""
    limit = min(POINTS_PER_SERIES, POINTS_PER_JOB // max(len(series), 1))
    return tuple(one.thinned(limit) for one in series)


def thinning_note(series: Sequence[MetricSeries]) -> str | None:
    """Says which series are thinned; None: all are whole."""
    words = [
        f"{one.name!r} to {len(one.steps)} of {one.thinned_from} points"
        for one in series
        if one.thinned_from is not None
    ]
    return shortened(f"metric series thinned: {', '.join(words)}", 1000) if words else None
