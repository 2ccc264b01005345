"""The hyperparameter tuning job that a training job is a child of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.training_job.field_readers import section, sections, text, texts
from daemon.training_job.hyperparameters import decoded
from daemon.training_job.metrics import number, read_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.training_job.metric_series import Direction

FINAL_STATUSES = frozenset({"Completed", "Failed", "Stopped", "DeleteFailed"})
"""Values of HyperParameterTuningJobStatus with which the best training job no longer changes."""

_OBJECTIVE_OF_CHILD = "_tuning_objective_metric"
"""The hyperparameter that names a child's objective metric."""
_DIRECTIONS: Mapping[str | None, Direction] = {"Minimize": "Minimize", "Maximize": "Maximize"}


@dataclass(frozen=True, slots=True)
class TuningJob:
    """A tuning job as it was when its child was read. None: absent."""

    name: str
    status: str | None = None
    strategy: str | None = None
    metric: str | None = None
    """The objective."""
    direction: Direction | None = None
    """Whether the objective is to become small or large."""
    best_job: str | None = None
    """The best child by then."""
    is_best_so_far: bool | None = None
    """Whether this child is the best one. None: nobody can tell."""
    warm_start_parents: tuple[str, ...] = ()


def tuning_job(parent: Mapping[str, Any], child: Mapping[str, Any]) -> TuningJob | None:
    """Reads what concerns a child.

    Args:
        parent: DescribeHyperParameterTuningJob as botocore parses it; it may be from before the
            child ended.
        child: DescribeTrainingJob likewise.

    Returns:
        The tuning job; None if the answer has no name.
    """
    name = text(parent, "HyperParameterTuningJobName")
    if name is None:
        return None
    config = section(parent, "HyperParameterTuningJobConfig")
    metric, direction = _objective(parent, child)
    best = section(parent, "BestTrainingJob")
    return TuningJob(
        name=name,
        status=text(parent, "HyperParameterTuningJobStatus"),
        strategy=text(config, "Strategy"),
        metric=metric,
        direction=direction,
        best_job=text(best, "TrainingJobName"),
        is_best_so_far=_is_best(best, child, metric, direction),
        warm_start_parents=tuple(
            parent_name
            for item in sections(
                section(parent, "WarmStartConfig"), "ParentHyperParameterTuningJobs"
            )
            if (parent_name := text(item, "HyperParameterTuningJobName")) is not None
        ),
    )


def _objective(
    parent: Mapping[str, Any], child: Mapping[str, Any]
) -> tuple[str | None, Direction | None]:
    """The metric and its direction: of the tuning job, or where each of its definitions has one of
    its own, of the one with the child's metric.
    """
    config = section(parent, "HyperParameterTuningJobConfig")
    definitions = [
        section(parent, "TrainingJobDefinition"),
        *sections(parent, "TrainingJobDefinitions"),
    ]
    objectives = {
        (text(objective, "MetricName"), text(objective, "Type"))
        for objective in (
            section(config, "HyperParameterTuningJobObjective"),
            *(section(definition, "TuningObjective") for definition in definitions),
        )
        if objective
    }
    told = texts(child, "HyperParameters").get(_OBJECTIVE_OF_CHILD)
    own = None if told is None else str(decoded(told))
    if len(objectives) > 1:
        objectives = {(metric, kind) for metric, kind in objectives if metric == own}
    if len(objectives) != 1:
        return own, None
    metric, kind = objectives.pop()
    return metric, _DIRECTIONS.get(kind)


def _is_best(
    best: Mapping[str, Any],
    child: Mapping[str, Any],
    metric: str | None,
    direction: Direction | None,
) -> bool | None:
    name = text(best, "TrainingJobName")
    if name is not None and name == text(child, "TrainingJobName"):
        return True
    if direction is None:
        return None if name is None else False
    values = {one.name: one.value for one in read_metrics(child)[0]}
    value = values.get(metric) if metric is not None else None
    if name is None:
        return None if value is None else True
    final = section(best, "FinalHyperParameterTuningJobObjectiveMetric")
    known = number(final.get("Value"))
    if value is None or known is None or text(final, "MetricName") not in {None, metric}:
        return False
    # both are 32-bit floats that may have been formatted differently on their way
    if math.isclose(value, known, rel_tol=1e-7):
        return False
    return value < known if direction == "Minimize" else value > known
