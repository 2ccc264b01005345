"""Maps a training run to what is written to ModelDB V1: a run with one model, its data frames and
metrics.

| ModelDB V1 | from the job |
|---|---|
| project: name, author, description | the three project tags |
| experiment | the project's default one |
| run: description | the mark; nothing else leads back from a run to its job |
| fit: spec (type, tag) and transformer | model type, model name (visible without MongoDB) |
| fit: hyperparameters | their texts as SageMaker has them |
| fit: data frame | the training channel: `train`, else `training`, else the first one |
| further data frames | the other channels |
| fit: metadata (with a metadata store) | see `metadata_document` |
| key-values of the data frame (without one) | location, ARN, status, times, other channels, … |
| metrics | finite ones, each on the data frame of its channel |

A metric `x:auc` is stored on the data frame of the channel `x` if there is one (`train:auc` on the
training data frame), other metrics on that of `test`, or without one on the training data frame.

Hyperparameters keep the quotes that SageMaker's SDK adds, byte for byte as the original client sent
them: the server compares models by these texts, so a model of today would otherwise differ from all
earlier ones. The metadata have them without quotes.

The server stores metrics as 32-bit floats. Larger values, NaN and infinities are named in the notes
and in the metadata or key-values instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.targets.modeldb_v1.limits import (
    FLOAT32_OVERFLOW,
    FLOAT32_UNDERFLOW,
    HYPERPARAMETER_BYTES,
    HYPERPARAMETER_FRAMING,
    VALUE_CHARACTERS,
    shown,
    too_much,
)
from daemon.targets.modeldb_v1.metadata_document import channel_words, metadata_document
from daemon.text import shortened
from daemon.training_job.identity import iso_milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from daemon.training_job.channels import Channel
    from daemon.training_job.identity import JobMark
    from daemon.training_job.training_run import TrainingRun

_MARKER = re.compile(
    r"sagemaker-training-job (arn:\S+) "
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z)(?!\S)"
)
_TRAINING_CHANNELS = ("train", "training")
_TEST_CHANNEL = "test"


@dataclass(frozen=True, slots=True)
class MappedDataFrame:
    """A channel."""

    tag: str
    """The channel's name; "" if there is no channel."""
    filepath: str
    """Its URI; "" if it has none."""
    metadata: tuple[tuple[str, str], ...] = ()
    """Keys and values."""


@dataclass(frozen=True, slots=True)
class MappedMetric:
    """A metric that the server can store."""

    name: str
    value: float
    """Finite, also as a 32-bit float."""
    channel: int
    """Index of its data frame in `MappedJob.data_frames`."""


@dataclass(frozen=True, slots=True)
class MappedJob:
    """Everything to write for a job."""

    mark: JobMark
    marker: str
    """Description of the run."""
    project_name: str
    project_user: str
    project_description: str
    model_name: str
    model_type: str
    model_location: str
    """"" if unknown."""
    hyperparameters: tuple[tuple[str, str], ...]
    """Names and texts."""
    data_frames: tuple[MappedDataFrame, ...]
    """The training one first; an empty one if there is no channel."""
    metrics: tuple[MappedMetric, ...]
    metadata: str | None
    """JSON; None if the server has no metadata store."""
    notes: tuple[str, ...]
    """One line for everything that was left out, shortened or changed."""


def map_job(run: TrainingRun, *, metadata_store: bool) -> MappedJob:
    """Maps a run. Pure: the same run gives the same result.

    Args:
        run: the training run.
        metadata_store: whether the server has a MongoDB. Without one, the most useful attributes
            become key-values of the training data frame.
    """
    notes: list[str] = list(run.notes)
    channels = _channels(run)
    not_stored = _metrics_not_stored(run, notes)
    metrics = tuple(_metrics(run, channels, notes))
    if not metrics:
        notes.append("no metric is stored: ModelDB's web pages list no model without one")
    frames = [_data_frame(each) for each in channels] or [MappedDataFrame("", "")]
    if not metadata_store:
        words = tuple(_words_without_store(run, channels, not_stored, notes))
        frames[0] = MappedDataFrame(frames[0].tag, frames[0].filepath, frames[0].metadata + words)
    return MappedJob(
        mark=run.mark,
        marker=marker_of(run.mark),
        project_name=run.project_name,
        project_user=run.project_user,
        project_description=run.project_description,
        model_name=run.model_name,
        model_type=run.model_type,
        model_location=run.model_location or "",
        hyperparameters=_hyperparameters(run, notes),
        data_frames=tuple(frames),
        metrics=metrics,
        metadata=metadata_document(run, channels, not_stored, notes) if metadata_store else None,
        notes=tuple(notes),
    )


def marker_of(mark: JobMark) -> str:
    """The mark as written to a run's description."""
    return f"sagemaker-training-job {mark.arn} {mark.creation_time}"


def mark_in(description: str | None) -> str | None:
    """The mark that `marker_of` wrote at the beginning of a run's description, if there is one."""
    found = _MARKER.match(description or "")
    return None if found is None else f"sagemaker-training-job {found[1].lower()} {found[2]}"


def _channels(run: TrainingRun) -> list[Channel]:
    """The data channels, the training one first."""
    data = [channel for channel in run.channels if not channel.is_code]
    names = [channel.name for channel in data]
    training = next((names.index(name) for name in _TRAINING_CHANNELS if name in names), 0)
    return data[training : training + 1] + data[:training] + data[training + 1 :]


def _data_frame(channel: Channel) -> MappedDataFrame:
    return MappedDataFrame(channel.name, channel.uri or "", tuple(channel_words(channel).items()))


def _hyperparameters(run: TrainingRun, notes: list[str]) -> tuple[tuple[str, str], ...]:
    sizes = {
        each.key: len(each.key.encode()) + len(each.text.encode()) + HYPERPARAMETER_FRAMING
        for each in run.hyperparameters
    }
    left_out = dict.fromkeys(too_much(sizes, HYPERPARAMETER_BYTES))
    notes.extend(
        f"hyperparameter {shown(key)} of {sizes[key]} bytes left out: the model would be too large"
        for key in left_out
    )
    return tuple((each.key, each.text) for each in run.hyperparameters if each.key not in left_out)


def _metrics(run: TrainingRun, channels: Sequence[Channel], notes: list[str]) -> list[MappedMetric]:
    names = [channel.name for channel in channels]
    found = []
    for metric in run.metrics:
        if abs(metric.value) >= FLOAT32_OVERFLOW:
            continue
        if 0 < abs(metric.value) <= FLOAT32_UNDERFLOW:
            notes.append(f"metric {shown(metric.name)} is {metric.value!r}: ModelDB keeps it as 0")
        found.append(MappedMetric(metric.name, metric.value, _channel_of(metric.name, names)))
    return found


def _channel_of(metric: str, names: Sequence[str]) -> int:
    prefix, colon, _ = metric.partition(":")
    if colon and prefix in names:
        return names.index(prefix)
    if colon and prefix in _TRAINING_CHANNELS:
        return 0
    return names.index(_TEST_CHANNEL) if _TEST_CHANNEL in names else 0


def _metrics_not_stored(run: TrainingRun, notes: list[str]) -> dict[str, str]:
    """Values by name of the metrics that the server cannot store, as text."""
    beyond = {
        metric.name: repr(metric.value)
        for metric in run.metrics
        if abs(metric.value) >= FLOAT32_OVERFLOW
    }
    notes.extend(
        f"metric {shown(name)} is {value}: left out"
        for name, value in run.non_finite_metrics.items()
    )
    notes.extend(
        f"metric {shown(name)} is {value}, which ModelDB would keep as infinity: left out"
        for name, value in beyond.items()
    )
    return {**run.non_finite_metrics, **beyond}


def _words_without_store(
    run: TrainingRun,
    channels: Sequence[Channel],
    metrics_not_stored: Mapping[str, str],
    notes: list[str],
) -> list[tuple[str, str]]:
    """Key-values of the training data frame: besides a model's type and name, the only place that
    SQL stores and the web pages show.
    """
    members = {
        "ModelArtifacts": run.model_location,
        "TrainingJobName": run.name,
        "TrainingJobArn": run.arn.text,
        "TrainingJobStatus": run.status,
        "FailureReason": run.failure_reason,
        "Console": run.console_url,
        "Logs": run.logs_url,
        "DebuggerIssues": run.debugger_issues,
        "TrainingStartTime": _iso(run.start_time),
        "TrainingEndTime": _iso(run.end_time),
        "TrainingTimeInSeconds": _number(run.training_seconds),
        "BillableTimeInSeconds": _number(run.billable_seconds),
        "Instances": run.instances,
        "TrainingImage": run.training_image or run.algorithm_name,
        "RoleArn": run.role_arn,
        "TuningJobArn": run.tuning_job_arn,
        "PipelineExecution": run.pipeline_execution,
        "ModelPackageArn": run.model_package_arn,
        **{f"Channel {channel.name}": channel.uri for channel in channels[1:]},
        **{f"Code {channel.name}": channel.uri for channel in run.channels if channel.is_code},
        "MetricsNotStored": ", ".join(
            f"{name}={value}" for name, value in metrics_not_stored.items()
        ),
    }
    words = []
    for key, value in members.items():
        if value and len(value) > VALUE_CHARACTERS:
            notes.append(f"{shown(key)} of {len(value)} characters shortened")
        if value:
            words.append((key, shortened(value, VALUE_CHARACTERS)))
    return words


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else iso_milliseconds(moment)


def _number(value: int | None) -> str | None:
    return None if value is None else str(value)
