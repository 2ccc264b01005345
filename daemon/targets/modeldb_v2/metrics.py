"""Maps final metrics and the extremes of metric series to metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon.targets.curves import repeated_metrics, with_extremes
from daemon.targets.modeldb_v2.observations import metric_keys
from daemon.targets.renaming import note_renamed, quoted
from daemon.training_job.float32 import without_float32_noise
from daemon.training_job.objective import objective_of

if TYPE_CHECKING:
    from daemon.training_job.training_run import TrainingRun


def metrics(run: TrainingRun, notes: list[str]) -> list[dict[str, Any]]:
    """Entries for the metrics; `ObjectiveMetric` only if it says something of its own."""
    left_out = repeated_metrics(run)
    keys = {name: key for name, key in metric_keys(run).items() if name not in left_out}
    renamed = {name: key for name, key in keys.items() if key != name.replace(":", "/")}
    note_renamed("metric", renamed, notes)
    notes.extend(
        f"metric {quoted(name)} is {value}: left out"
        for name, value in run.non_finite_metrics.items()
        if name not in left_out
    )
    return [
        {"key": keys[metric.name], "value": without_float32_noise(metric.value)}
        for metric in with_extremes(run)
        if metric.name in keys
    ]


def metric_attributes(run: TrainingRun) -> dict[str, str]:
    """Attributes: the tuning objective, and the values that are no numbers."""
    left_out, objective = repeated_metrics(run), objective_of(run)
    return {
        "objective_metric": "" if objective is None else objective.name,
        "metrics_not_finite": ", ".join(
            f"{name}={value}"
            for name, value in run.non_finite_metrics.items()
            if name not in left_out
        ),
    }
