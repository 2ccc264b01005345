"""The objective of hyperparameter tuning among a job's metrics.

SageMaker reports it once more under the name `ObjectiveMetric`, built-in algorithms even without a
tuning job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.training_job.float32 import without_float32_noise

if TYPE_CHECKING:
    from daemon.training_job.training_run import TrainingRun

OBJECTIVE = "ObjectiveMetric"

_HYPERPARAMETER = "_tuning_objective_metric"


@dataclass(frozen=True, slots=True)
class Objective:
    name: str
    """Of the metric."""
    is_repeated: bool
    """Whether `ObjectiveMetric` has the value of that metric, so that nothing is lost without."""


def objective_of(run: TrainingRun) -> Objective | None:
    """The objective, as the job or its tuning job names it; otherwise the one metric with the value
    and the time of `ObjectiveMetric`. None: unknown.
    """
    named = _named(run)
    reported = _reported(run)
    repeated = reported.get(OBJECTIVE)
    if named is not None:
        value = reported.get(named)
        return Objective(named, repeated is not None and value is not None and value == repeated)
    moments = {metric.name: metric.timestamp for metric in run.metrics}
    alike = [
        name
        for name, value in reported.items()
        if name != OBJECTIVE and value == repeated and moments.get(name) == moments.get(OBJECTIVE)
    ]
    return Objective(alike[0], is_repeated=True) if len(alike) == 1 else None


def _reported(run: TrainingRun) -> dict[str, float | str]:
    finite = {metric.name: without_float32_noise(metric.value) for metric in run.metrics}
    return {**finite, **run.non_finite_metrics}


def _named(run: TrainingRun) -> str | None:
    """Not `ObjectiveMetric` itself."""
    words = [each.value for each in run.hyperparameters if each.key == _HYPERPARAMETER]
    if run.tuning is not None:
        words.append(run.tuning.metric)
    return next(
        (word for word in words if isinstance(word, str) and word.strip() and word != OBJECTIVE),
        None,
    )
