"""Maps a training run to a run of MLflow, within every limit of its servers. Pure.

| MLflow | from the job |
|---|---|
| experiment, run | tag project name, job name |
| tags | the mark, description, facts as `sagemaker.<fact>`, AWS tags as `aws_tag/<key>` |
| params | people's own hyperparameters, as text |
| metrics | final ones: `train:auc` as `train/auc`, at step 0; series: the iteration as step |
| inputs | one data set per input channel, its digest that of its URI |
| model version | the model of a job that completed, if MLflow takes its location as a source |

Hyperparameters of SageMaker's SDK become tags `sdk/<key>`, what is known of a channel a tag
`channel/<name>`. NaN stays NaN, infinities are named in a tag. A job that evaluates a model makes
no version. Everything that is shortened, renamed or left out has a line in `MappedRun.notes` and in
the tag `sagemaker_sync_notes`, except a `/` for a plain `:` and cleaned keys of channels, AWS tags
and the SDK that needed no hash.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from daemon.targets.channel_details import channel_details
from daemon.targets.common_attributes import common_attributes, instead_of_a_model
from daemon.targets.curves import extremes, iteration_time, repeated_metrics
from daemon.targets.mlflow import limits
from daemon.targets.mlflow.description import (
    model_description,
    run_description,
    version_description,
)
from daemon.targets.mlflow.entities import DatasetInput, MetricPoint
from daemon.targets.names import digest, distinct_keys, shortened_name
from daemon.targets.renaming import note_hashed, note_renamed, quoted
from daemon.targets.sdk_hyperparameters import (
    own_hyperparameters,
    plain_text,
    sdk_hyperparameters,
    tools_last,
)
from daemon.targets.times import milliseconds
from daemon.training_job.float32 import without_float32_noise
from daemon.training_job.metric_series import thinning_note
from daemon.training_job.objective import objective_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from daemon.training_job.channels import Channel
    from daemon.training_job.identity import JobMark
    from daemon.training_job.metric_series import MetricSeries
    from daemon.training_job.training_run import TrainingRun

ARN_TAG = "sagemaker_training_job_arn"
CREATION_TIME_TAG = "sagemaker_creation_time"
WRITTEN_TAG = "sagemaker_sync_written"
DOUBLE_OF_TAG = "sagemaker_sync_double_of"
NOTES_TAG = "sagemaker_sync_notes"
NOTE_TAG = "mlflow.note.content"
"""MLflow's own for the description of an experiment or a run."""
DESCRIPTION_TAG = "sagemaker_sync_description"
"""The hash of the description that was written last: another one is people's."""
VERSION_DESCRIPTION_TAG = "sagemaker_sync_version_description"
"""The same for the description of the model version; a tag of the run."""
VERSION_OF_SYNC_TAG = "sagemaker.sync_version"
AWS_TAG_PREFIX = "aws_tag/"
CHANNEL_PREFIX = "channel/"
SDK_PREFIX = "sdk/"
STATUS_TAG = "sagemaker.status"
NON_FINITE_TAG = "sagemaker.non_finite_metrics"

_PLAIN_FACTS = frozenset({"model_name", "model_type", "project_user"})
"""Facts whose tags have no prefix."""
_STATUSES = {"Completed": "FINISHED", "Failed": "FAILED", "Stopped": "KILLED"}
_DATASET_DIGEST = 16
"""Hex digits: two locations of a channel in a project never share them."""
_LATER_TAGS = 2
"""`NOTES_TAG` and `WRITTEN_TAG`."""


@dataclass(frozen=True, slots=True)
class MappedModel:
    """The version of a registered model to create for a job."""

    name: str
    description: str
    """Of the registered model, if it does not exist yet."""
    source: str
    run_link: str | None
    tags: Mapping[str, str]
    version_description: str


@dataclass(frozen=True, slots=True)
class MappedRun:
    """The entities to create for a job. Times are epoch milliseconds."""

    mark: JobMark
    experiment_name: str
    experiment_tags: Mapping[str, str]
    """Of an experiment that does not exist yet."""
    run_name: str
    start_time: int
    end_time: int
    status: str
    """``FINISHED``, ``FAILED`` or ``KILLED``."""
    tags: Mapping[str, str]
    """For `runs/create`, the mark first; without `WRITTEN_TAG`."""
    params: Mapping[str, str]
    metrics: tuple[MetricPoint, ...]
    """More than one call takes if there are series: see `limits.batches`."""
    inputs: tuple[DatasetInput, ...]
    model: MappedModel | None
    notes: tuple[str, ...]
    """One line for each member that was shortened, renamed or left out."""


def map_run(
    run: TrainingRun, *, experiment_prefix: str = "", register_models: bool = True
) -> MappedRun:
    """Maps a run. Deterministic.

    Args:
        run: the job.
        experiment_prefix: of the names of all experiments.
        register_models: whether a model becomes a version of a registered model.
    """
    notes: list[str] = list(run.notes)
    mark_tags = {ARN_TAG: run.mark.arn, CREATION_TIME_TAG: run.mark.creation_time}
    experiment = _experiment_name(run, experiment_prefix, notes)
    run_name = _shortened("run", run.name, limits.RUN_NAME, notes)
    params = _params(run, notes)
    metrics = _metrics(run, notes)
    inputs = _inputs(run, notes)
    model = _model(run, mark_tags, notes) if register_models else None
    tags = _tags(run, mark_tags, model, notes)
    if notes:
        tags[NOTES_TAG] = limits.cut("\n".join(notes), limits.TAG_VALUE)
    return MappedRun(
        mark=run.mark,
        experiment_name=experiment,
        experiment_tags={
            NOTE_TAG: limits.cut(run.project_description, limits.EXPERIMENT_TAG_VALUE),
            "project_user": limits.cut(run.project_user, limits.EXPERIMENT_TAG_VALUE),
        },
        run_name=run_name,
        start_time=milliseconds(run.start_time or run.creation_time),
        end_time=_end(run),
        status=_STATUSES.get(run.status, "FAILED"),
        tags=tags,
        params=params,
        metrics=metrics,
        inputs=inputs,
        model=model,
        notes=tuple(notes),
    )


def distinct_run_name(name: str, mark: JobMark) -> str:
    """The name of a run whose own name is taken: with 8 hex digits of the mark's hash."""
    suffix = f"-{mark.short_hash}"
    return shortened_name(name, limits.RUN_NAME - len(suffix)) + suffix


def _experiment_name(run: TrainingRun, prefix: str, notes: list[str]) -> str:
    name = limits.experiment_name(run.project_name, prefix)
    if name != prefix + run.project_name:
        notes.append(f"project name {quoted(run.project_name)} written as {name}")
    return name


def _shortened(what: str, name: str, units: int, notes: list[str]) -> str:
    short = shortened_name(name, units)
    if short != name:
        notes.append(f"{what} name of {len(name)} characters shortened to {short}")
    return short


def _end(run: TrainingRun) -> int:
    return milliseconds(
        run.end_time or run.last_modified_time or run.start_time or run.creation_time
    )


def _distinct(keys: Iterable[str]) -> dict[str, str]:
    return distinct_keys(keys, limits.clean_key, limits.equal_as)


def _params(run: TrainingRun, notes: list[str]) -> dict[str, str]:
    """People's own hyperparameters; those set by tools come last."""
    own = tools_last(own_hyperparameters(run))
    keys = _distinct(each.key for each in own)
    note_renamed("hyperparameter", keys, notes)
    params = {}
    for each in own:
        text = plain_text(each)
        params[keys[each.key]] = limits.shortened_value(text, limits.PARAM_VALUE)
        if not limits.fits(text, limits.PARAM_VALUE):
            notes.append(f"hyperparameter {quoted(each.key)} of {len(text)} characters shortened")
    return params


def _metrics(run: TrainingRun, notes: list[str]) -> tuple[MetricPoint, ...]:
    """Final values, extremes of series, and series."""
    left_out = repeated_metrics(run)
    finals = _final_values(run)
    best = {
        name: (series, extreme)
        for series, extreme in extremes(run)
        if (name := f"{series.name}/{extreme.label}") not in finals
    }
    names = dict.fromkeys(chain(finals, best, (series.name for series in run.metric_series)))
    keys = _distinct(names)
    note_renamed(
        "metric",
        {
            name: key
            for name, key in keys.items()
            if key != name.replace(":", "/") and name not in left_out
        },
        notes,
    )
    points: list[MetricPoint] = []
    curves = {series.name: _curve(run, series, keys[series.name]) for series in run.metric_series}
    for name, (value, time) in finals.items():
        if name not in left_out:
            points += _final_point(keys[name], value, time, curves.get(name))
    for name, (series, extreme) in best.items():
        at = series.steps.index(extreme.step)
        points.append(replace(curves[series.name][at], key=keys[name]))
    points += chain.from_iterable(curves.values())
    notes.extend(
        f"metric {quoted(name)} is {word}: only in tag {NON_FINITE_TAG}"
        for name, word in _infinite(run).items()
    )
    if (note := thinning_note(run.metric_series)) is not None:
        notes.append(note)
    return tuple(points)


def _final_values(run: TrainingRun) -> dict[str, tuple[float, int]]:
    """Value and time of each metric that has a final value and is not infinite."""
    end = _not_negative(_end(run))
    found = {
        metric.name: (
            without_float32_noise(float(metric.value)),
            end if metric.timestamp is None else _not_negative(milliseconds(metric.timestamp)),
        )
        for metric in run.metrics
    }
    return found | {
        name: (math.nan, end) for name, word in run.non_finite_metrics.items() if word == "NaN"
    }


def _final_point(
    key: str, value: float, time: int, curve: Sequence[MetricPoint] | None
) -> list[MetricPoint]:
    """The point of a final value. As MLflow shows of a metric the value of the highest step, and of
    several the latest, it follows the last point of a curve, unless it is that.
    """
    if curve is None:
        return [MetricPoint(key, value, time, 0)]
    last = curve[-1]
    return (
        []
        if last.value == value
        else [MetricPoint(key, value, max(time, last.timestamp + 1), last.step)]
    )


def _curve(run: TrainingRun, series: MetricSeries, key: str) -> list[MetricPoint]:
    time_of = iteration_time(run)
    return [
        MetricPoint(key, without_float32_noise(float(value)), _not_negative(time_of(step)), step)
        for step, value in zip(series.steps, series.values, strict=True)
    ]


def _not_negative(time: int) -> int:
    """MLflow refuses the times of metrics before 1970."""
    return max(0, time)


def _infinite(run: TrainingRun) -> dict[str, str]:
    left_out = repeated_metrics(run)
    return {
        name: word
        for name, word in run.non_finite_metrics.items()
        if word != "NaN" and name not in left_out
    }


def _inputs(run: TrainingRun, notes: list[str]) -> tuple[DatasetInput, ...]:
    data = [channel for channel in run.channels if not channel.is_code]
    names = distinct_keys((channel.name for channel in data), limits.dataset_name, limits.equal_as)
    note_renamed("data set", names, notes)
    inputs = []
    for channel in data:
        source = json.dumps({"uri": channel.uri}, ensure_ascii=False)
        if not channel.uri:
            notes.append(f"channel {quoted(channel.name)} has no location: left out")
        elif len(source.encode()) > limits.DATASET_SOURCE:
            notes.append(f"location of channel {quoted(channel.name)} is too long: left out")
        else:
            inputs.append(
                DatasetInput(
                    name=names[channel.name],
                    digest=digest(channel.uri, _DATASET_DIGEST),
                    source_type=limits.cut(channel.kind, limits.DATASET_SOURCE_TYPE),
                    source=source,
                    context=limits.cut(channel.name, limits.INPUT_TAG_VALUE),
                )
            )
    return tuple(inputs)


def _model(run: TrainingRun, mark: Mapping[str, str], notes: list[str]) -> MappedModel | None:
    if run.status != "Completed" or run.is_evaluation or run.model_location is None:
        return None
    if (reason := limits.unfit_source(run.model_location)) is not None:
        notes.append(f"model not registered: {reason}")
        return None
    name = limits.model_name(run.model_name)
    if name != run.model_name:
        notes.append(f"model name {quoted(run.model_name)} written as {name}")
    package = run.model_package_arn
    return MappedModel(
        name=name,
        description=model_description(run),
        source=run.model_location,
        run_link=(
            run.console_url
            if run.console_url is not None and limits.fits(run.console_url, limits.RUN_LINK)
            else None
        ),
        tags={
            **mark,
            STATUS_TAG: run.status,
            **({} if package is None else {"sagemaker.model_package_arn": _fitting(package)}),
        },
        version_description=version_description(run),
    )


def description_digest(text: str) -> str:
    """What `DESCRIPTION_TAG` holds of a description."""
    return digest(text, 16)


def _tags(
    run: TrainingRun, mark: Mapping[str, str], model: MappedModel | None, notes: list[str]
) -> dict[str, str]:
    """All tags but that with the notes. The first are the most important."""
    description = run_description(run)
    of_version = (
        {}
        if model is None
        else {VERSION_DESCRIPTION_TAG: description_digest(model.version_description)}
    )
    wanted = {
        **mark,
        NOTE_TAG: description,
        DESCRIPTION_TAG: description_digest(description),
        **of_version,
        "mlflow.user": run.project_user,
        "mlflow.source.type": "JOB",
        "mlflow.source.name": run.console_url or run.arn.text,
        **_facts(run),
        **_keyed(CHANNEL_PREFIX, "channel", _channels(run.channels), notes),
        **_keyed(AWS_TAG_PREFIX, "AWS tag", run.all_tags, notes),
        **_keyed(SDK_PREFIX, "hyperparameter", sdk_hyperparameters(run), notes),
    }
    notes.extend(
        f"tag {key} of {len(value)} characters shortened"
        for key, value in wanted.items()
        if not limits.fits(value, limits.TAG_VALUE)
    )
    kept = dict(list(wanted.items())[: limits.TAGS - _LATER_TAGS])
    if len(kept) < len(wanted):
        notes.append(f"{len(wanted) - len(kept)} of {len(wanted)} tags left out: too many")
    return {key: _fitting(value) for key, value in kept.items()}


def _fitting(value: str) -> str:
    return limits.shortened_value(value, limits.TAG_VALUE)


def _facts(run: TrainingRun) -> dict[str, str]:
    objective = objective_of(run)
    facts = {
        **common_attributes(run),
        **instead_of_a_model(run),
        "objective_metric": None if objective is None else objective.name,
        "non_finite_metrics": ", ".join(f"{name}={word}" for name, word in _infinite(run).items()),
    }
    return {
        key if key in _PLAIN_FACTS else f"sagemaker.{key.removeprefix('sagemaker_')}": _text(value)
        for key, value in facts.items()
        if value is not None and value != ""
    }


def _text(value: float | str | bool) -> str:  # noqa: FBT001 - any fact
    return value if isinstance(value, str) else json.dumps(value)


def _channels(channels: Iterable[Channel]) -> dict[str, str]:
    """Where a job read each channel, and how."""
    return {
        channel.name: "; ".join(
            part
            for part in (
                "code" if channel.is_code else "",
                channel.uri or "no location",
                channel_details(channel),
            )
            if part
        )
        for channel in channels
    }


def _keyed(prefix: str, what: str, texts: Mapping[str, str], notes: list[str]) -> dict[str, str]:
    """Tags whose keys were given by people."""
    keys = _distinct(texts)
    note_hashed(what, keys, limits.clean_key, notes)
    return {f"{prefix}{keys[key]}": text for key, text in texts.items()}
