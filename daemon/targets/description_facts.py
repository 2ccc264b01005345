"""What people want to know of a job first, one fact a line: for the description of its run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from daemon.text import one_line, shortened

if TYPE_CHECKING:
    from daemon.training_job.training_run import TrainingRun

_FACT_CHARACTERS = 500

_PIPELINE_EXECUTION = re.compile(r"arn:.*:pipeline/(?P<pipeline>[^/]+)/execution/(?P<id>[^/]+)")


def description_facts(run: TrainingRun) -> dict[str, str]:
    """The facts by their label, in order; those that are known, each of at most 500 characters. A
    failure may have several lines.
    """
    facts = {
        "Evaluation": _evaluation(run),
        "Model": run.model_name,
        "Type": run.model_type,
        "User": run.project_user,
        "Status": _status(run),
        "Duration": duration(run.training_seconds),
        "Billed": duration(run.billable_seconds),
        "Spot": _spot(run),
        "Instances": run.instances,
        "Tuning job": _tuning_job(run),
        "AutoML job": (run.auto_ml_job_arn or "").rpartition("/")[2],
        "Pipeline": _pipeline(run),
        "Failure": run.failure_reason,
        "Evaluation output" if run.is_evaluation else "Model location": run.model_location,
        "SageMaker": run.console_url,
        "Logs": run.logs_url,
    }
    return {label: shortened(value, _FACT_CHARACTERS) for label, value in facts.items() if value}


def duration(seconds: int | None) -> str | None:
    """Hours, minutes and seconds for people."""
    if seconds is None:
        return None
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = (
        [f"{hours} h"] * (hours > 0)
        + [f"{minutes} min"] * (minutes > 0 or hours > 0)
        + [f"{rest} s"]
    )
    return " ".join(parts)


def _status(run: TrainingRun) -> str:
    # "Deleting" does not say how the job ended
    if run.secondary_status in {None, run.status, "Deleting"}:
        return run.status
    return f"{run.status} ({run.secondary_status})"


def _spot(run: TrainingRun) -> str | None:
    if not run.managed_spot:
        return None
    saving = run.spot_saving_percent
    return "yes" if saving is None else f"saved {saving}%"


def _evaluation(run: TrainingRun) -> str | None:
    if not run.is_evaluation:
        return None
    parts = {
        "of": _resource(run.source_model_package_arn) or _resource(run.base_model_arn),
        "by": _resource(run.evaluator_arn),
    }
    words = [f"{word} {resource}" for word, resource in parts.items() if resource is not None]
    return " ".join([run.evaluation_type or "type unknown", *words])


def _tuning_job(run: TrainingRun) -> str | None:
    if run.tuning_job_name is None:
        return None
    tuning = run.tuning
    best = {True: "best so far", False: "not the best so far", None: None}
    known = (
        []
        if tuning is None
        else [
            tuning.strategy,
            None if tuning.metric is None else f"objective {tuning.metric}",
            best[tuning.is_best_so_far],
        ]
    )
    return _with_details(run.tuning_job_name, known)


def _pipeline(run: TrainingRun) -> str | None:
    execution = run.pipeline_execution
    step = None if run.pipeline_step is None else f"step {run.pipeline_step}"
    if execution is None:
        return step
    named = _PIPELINE_EXECUTION.fullmatch(execution)
    if named is None:
        return _with_details(f"execution {execution}", [step])
    return _with_details(named["pipeline"], [f"execution {named['id']}", step])


def _with_details(what: str, details: list[str | None]) -> str:
    known = [one_line(detail) for detail in details if detail is not None]
    return f"{what} ({', '.join(known)})" if known else what


def _resource(arn: str | None) -> str | None:
    """The part of an ARN that tells resources of an account apart: `model-package/churn/3`."""
    return None if arn is None else arn.rpartition(":")[2] or arn
