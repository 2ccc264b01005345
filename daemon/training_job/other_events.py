"""Documents that are known not to be about a training job, although they are no EventBridge event.

The list is closed: what is not on it is understood or rejected, because an event that is skipped is
deleted. SageMaker's own spelling counts only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon.training_job.event_members import (
    has_status,
    mention_of_job,
    plain,
    reads_like_name,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_JOBS = frozenset(
    f"{kind}JobName"
    for kind in (
        "AIBenchmark",
        "AIRecommendation",
        "AutoML",
        "Compilation",
        "EdgePackaging",
        "HyperParameterTuning",
        "Labeling",
        "ModelCardExport",
        "Optimization",
        "Processing",
        "Transform",
    )
)
"""Members that name the subject in the details of SageMaker's other jobs. A debugger's processing
job refers to its training job in TrainingJobArn, a tuning job in BestTrainingJob."""

_RESOURCES = (
    "Algorithm",
    "Cluster",
    "Endpoint",
    "EndpointConfig",
    "FeatureGroup",
    "Image",
    "Model",
    "ModelCard",
    "ModelPackage",
    "ModelPackageGroup",
    "MonitoringSchedule",
    "NotebookInstance",
)
"""Subjects of SageMaker's other details, which have an ARN, or a name and a status."""

_RECORDS_FROM = frozenset({"aws:codecommit", "aws:dynamodb", "aws:rds", "aws:s3", "aws:ses"})
"""Services whose records are not messages of another service."""


def known_other(document: Mapping[str, Any]) -> str | None:
    """What a document is, if it is known to be about something else; else None."""
    job = _other_job(document)
    if job is not None:
        return f"detail with {job}"
    found = _notice(document) or _resource(document)
    return found if found is not None and mention_of_job(document) is None else None


def _other_job(document: Mapping[str, Any]) -> str | None:
    """The member that names another kind of job. TrainingJobArn may stand beside it, a training
    job's name or status, or a spelling that is not SageMaker's, may not.
    """
    job = next((member for member in document if member in _JOBS), None)
    if job is None or not isinstance(document[job], str) or has_status(document):
        return None
    named = any(map(reads_like_name, document))
    arns = [member for member in document if plain(member) == "trainingjobarn"]
    return None if named or arns not in ([], ["TrainingJobArn"]) else job


def _notice(document: Mapping[str, Any]) -> str | None:
    """A notification of another service that can be set up on a queue."""
    if document.get("Event") == "s3:TestEvent":
        return "s3:TestEvent"
    records = document.get("Records")
    items = records if isinstance(records, list) and records else [document]
    sources = {item.get("eventSource") if isinstance(item, dict) else None for item in items}
    if not all(isinstance(source, str) and source in _RECORDS_FROM for source in sources):
        return None
    return f"records of {', '.join(sorted(map(shown, sources)))}"


def _resource(document: Mapping[str, Any]) -> str | None:
    """The member that names a resource which SageMaker sends events about."""
    if any(plain(member).endswith("jobname") for member in document):
        return None
    if isinstance(document.get("pipelineExecutionArn"), str) and "pipelineArn" in document:
        return "detail with pipelineExecutionArn"
    for kind in _RESOURCES:
        arn, name = document.get(f"{kind}Arn"), document.get(f"{kind}Name")
        if isinstance(arn, str) and ":sagemaker:" in arn:
            return f"detail with {kind}Arn"
        if isinstance(name, str) and f"{kind}Status" in document:
            return f"detail with {kind}Name"
    return None
