"""Maps a training run to one createExperimentRun of ModelDB V2, within every limit of the server.

| ModelDB | from the job |
|---|---|
| project, experiment, run | tags project name and model name, job name; hashed if over 250 units |
| hyperparameters | people's own; numbers in any spelling, else text: `true`; blank: `(empty)` |
| metrics | `train:auc` as `train/auc`; not finite: named in attribute `metrics_not_finite`; |
| | `ObjectiveMetric` only if no other has its value |
| observations | metric series, with the iteration as epoch |
| datasets | one per input channel, by path only; channels of code are artifacts |
| artifacts | model, image, source code, checkpoints, TensorBoard, debugger; by path only |
| attributes | everything else: numbers as numbers, booleans as text, never null or empty |
| tags | `sagemaker`, model type, status unless Completed, `tuning:` and the parent's name |

A job that evaluates a model has the tag `evaluation`, and an artifact `evaluation_output` in place
of a model.

Text of a hyperparameter over 2000 bytes is shortened; the attribute `hyperparameter_<key>_full` has
all of it. A number with more digits than a double holds is rounded; `hyperparameter_<key>_exact`
has its text. Hyperparameters of SageMaker's SDK become attributes `sdk_<key>`. Everything that is
shortened, renamed or left out has a line in `MappedRun.notes` and in the attribute `sync_notes`,
except a `/` for a plain `:` in a metric name and cleaned attribute keys of channels and tags that
needed no hash.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.targets.channel_details import channel_details
from daemon.targets.common_attributes import common_attributes, instead_of_a_model
from daemon.targets.modeldb_v2.description import description
from daemon.targets.modeldb_v2.hyperparameters import (
    EMPTY,
    hyperparameter_attributes,
    hyperparameters,
)
from daemon.targets.modeldb_v2.limits import (
    BODY_BYTES,
    NAME_UNITS,
    attribute_key,
    run_key,
    shortened_tag,
)
from daemon.targets.modeldb_v2.metrics import metric_attributes, metrics
from daemon.targets.modeldb_v2.observations import extreme_steps, observations
from daemon.targets.names import distinct_keys, shortened_name
from daemon.targets.renaming import note_hashed, note_renamed, quoted
from daemon.targets.times import milliseconds

if TYPE_CHECKING:
    from daemon.training_job.channels import Channel
    from daemon.training_job.identity import JobMark
    from daemon.training_job.training_run import TrainingRun

ARN_ATTRIBUTE = "sagemaker_training_job_arn"
CREATION_TIME_ATTRIBUTE = "sagemaker_creation_time"
NOTES_ATTRIBUTE = "sync_notes"

_NOTES_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True)
class MappedRun:
    """The entities to create for a job."""

    project_name: str
    project_description: str
    project_user: str
    experiment_name: str
    run_name: str
    body: dict[str, Any]
    """The request body of createExperimentRun without project_id and experiment_id."""
    notes: tuple[str, ...]
    """One line for each member that was shortened, renamed or left out."""


def map_run(run: TrainingRun) -> MappedRun:
    """Maps a run. Deterministic."""
    notes: list[str] = list(run.notes)
    run_name = _name("run", run.name, notes)
    body: dict[str, Any] = {
        "name": run_name,
        "description": description(run),
        **_times(run),
        "tags": run_tags(run, notes),
        "hyperparameters": hyperparameters(run, notes),
        "metrics": metrics(run, notes),
        "datasets": _datasets(run, notes),
        "artifacts": _artifacts(run),
        "attributes": _attributes(run, notes),
    }
    if curves := observations(run, body, notes):
        body["observations"] = curves
    project_name = _name("project", run.project_name, notes)
    experiment_name = _name("experiment", run.model_name, notes)
    _fit(body, notes)
    if notes:
        body["attributes"].append(
            {"key": NOTES_ATTRIBUTE, "value": "\n".join(notes)[:_NOTES_CHARACTERS]}
        )
    return MappedRun(
        project_name=project_name,
        project_description=run.project_description,
        project_user=run.project_user,
        experiment_name=experiment_name,
        run_name=run_name,
        body=body,
        notes=tuple(notes),
    )


def distinct_run_name(name: str, mark: JobMark) -> str:
    """The name of a run whose own name is taken: with 8 hex digits of the mark's hash."""
    suffix = f"-{mark.short_hash}"
    return shortened_name(name, NAME_UNITS - len(suffix)) + suffix


def _name(what: str, name: str, notes: list[str]) -> str:
    short = shortened_name(name, NAME_UNITS)
    if short != name:
        notes.append(f"{what} name of {len(name)} characters shortened to {short}")
    return short


def _times(run: TrainingRun) -> dict[str, int]:
    """Times in epoch milliseconds, settable at creation only (date_created by a server flag)."""
    start = run.start_time or run.creation_time
    end = run.end_time or run.last_modified_time
    times = {"start_time": milliseconds(start)}
    if end is not None:
        times |= {"end_time": milliseconds(end), "date_created": milliseconds(end)}
    return times


def run_tags(run: TrainingRun, notes: list[str]) -> list[str]:
    """The tags of a job's run; `notes` gets a line for each that was cut."""
    wanted = [
        "sagemaker",
        run.model_type,
        *(["evaluation"] if run.is_evaluation else []),
        *([run.status] if run.status not in {"", "Completed"} else []),
        *([f"tuning:{run.tuning_job_name}"] if run.tuning_job_name is not None else []),
    ]
    tags = {tag: shortened_tag(tag) for tag in wanted}
    notes.extend(
        f"tag {quoted(tag)} cut to 40 characters" for tag, short in tags.items() if short != tag
    )
    return list(dict.fromkeys(tags.values()))


def _datasets(run: TrainingRun, notes: list[str]) -> list[dict[str, Any]]:
    data = [channel for channel in run.channels if not channel.is_code]
    notes.extend(
        f"channel {quoted(channel.name)} has no location: left out"
        for channel in data
        if not channel.uri
    )
    keys = distinct_keys((channel.name for channel in data), run_key)
    note_renamed("dataset", keys, notes)
    return [_artifact(keys[channel.name], channel.uri, "DATA") for channel in data if channel.uri]


def _artifacts(run: TrainingRun) -> list[dict[str, Any]]:
    """Key, path, type. The keys are none of those that the official client reserves (`model.pkl`,
    `train_data` and so on).
    """
    code = [channel for channel in run.channels if channel.is_code]
    keys = distinct_keys((channel.name for channel in code), run_key)
    wanted = [
        ("evaluation_output", run.model_location, "BLOB")
        if run.is_evaluation
        else ("model_artifact", run.model_location, "MODEL"),
        ("training_image", run.training_image, "CONTAINER"),
        ("source_code", run.source_code_uri, "CODE"),
        *(
            (f"channel_{keys[channel.name]}", channel.uri, "CODE")
            for channel in code
            if channel.uri != run.source_code_uri
        ),
        ("checkpoints", run.checkpoint_uri, "BLOB"),
        ("tensorboard", run.tensorboard_uri, "TENSORBOARD"),
        ("debugger", run.debugger_uri, "BLOB"),
    ]
    return [_artifact(key, path, kind) for key, path, kind in wanted if path]


def _artifact(key: str, path: str, kind: str) -> dict[str, Any]:
    entry = {"key": key, "path": path, "path_only": True, "artifact_type": kind}
    return entry | {"filename_extension": "tar.gz"} if path.endswith(".tar.gz") else entry


def _attributes(run: TrainingRun, notes: list[str]) -> list[dict[str, Any]]:
    """The mark first, then the job's facts; keys from user-given names have their own prefixes."""
    attributes: dict[str, float | str | bool | None] = {
        ARN_ATTRIBUTE: run.mark.arn,
        CREATION_TIME_ATTRIBUTE: run.mark.creation_time,
        **common_attributes(run),
        **instead_of_a_model(run),
        **metric_attributes(run),
        **_channel_attributes(run.channels, notes),
        **extreme_steps(run),
        **hyperparameter_attributes(run, notes),
        **_aws_tags(run, notes),
    }
    return [
        {"key": key, "value": str(value).lower() if isinstance(value, bool) else value}
        for key, value in attributes.items()
        if value is not None and value != ""
    ]


def _channel_attributes(channels: tuple[Channel, ...], notes: list[str]) -> dict[str, str]:
    """URIs again (hosted Verta replaces paths) and how a channel was read."""
    keys = distinct_keys((channel.name for channel in channels), attribute_key)
    note_hashed("channel", keys, attribute_key, notes)
    attributes = {
        "channels_without_uri": ", ".join(channel.name for channel in channels if not channel.uri)
    }
    for channel in channels:
        prefix = f"{'code' if channel.is_code else 'dataset'}_{keys[channel.name]}"
        attributes[f"{prefix}_uri"] = channel.uri or ""
        attributes[f"{prefix}_details"] = channel_details(channel)
    return attributes


def _aws_tags(run: TrainingRun, notes: list[str]) -> dict[str, str]:
    keys = distinct_keys(run.all_tags, attribute_key)
    note_hashed("AWS tag", keys, attribute_key, notes)
    return {f"aws_tag_{keys[key]}": value or EMPTY for key, value in run.all_tags.items()}


def _fit(body: dict[str, Any], notes: list[str]) -> None:
    """Keeps the request below what the server takes: drops attributes, never the mark, until it is.

    Whole texts of shortened hyperparameters go first, then the rest, the largest first of each.
    With what SageMaker allows in a job this never happens.
    """
    excess = _size(body) - BODY_BYTES
    if excess <= 0:
        return
    dropped = set()
    for entry in sorted(body["attributes"], key=_dispensability):
        if excess <= 0 or entry["key"] in {ARN_ATTRIBUTE, CREATION_TIME_ATTRIBUTE}:
            break
        excess -= _size(entry)
        dropped.add(entry["key"])
        notes.append(
            f"attribute {entry['key']} of {_size(entry)} bytes left out: the request would be too "
            "large"
        )
    body["attributes"] = [entry for entry in body["attributes"] if entry["key"] not in dropped]


def _dispensability(entry: dict[str, Any]) -> tuple[bool, bool, int, str]:
    key: str = entry["key"]
    return (
        key in {ARN_ATTRIBUTE, CREATION_TIME_ATTRIBUTE},
        not key.endswith("_full"),
        -_size(entry),
        key,
    )


def _size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())
