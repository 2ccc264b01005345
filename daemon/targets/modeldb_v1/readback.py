"""Compares the model that the server returns for a run with the job it should represent.

If another program writes to the same server, answers can be wrong without an error, so each run is
read back before it counts as done. After a lost answer, the next attempt finds out in the same way
what has been stored.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.text import shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from daemon.targets.modeldb_v1.mapping import MappedDataFrame, MappedJob

_OF_NO_JOB = "no training job"
_OWNER_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model (fit) stored in a run."""

    model_id: int
    data_frame_id: int
    """Of the training data."""
    metrics: Mapping[str, Mapping[int, float]] | None
    """By name and data frame id; None if unreadable (no metadata store)."""
    has_document: bool
    """The metadata store has metadata of its number."""
    other_owner: str | None = None
    """Whose those are if they are another's, as `other_owner` says it."""


def float32(value: float) -> float:
    """The value as the server stores it: rounded to 32 bits."""
    packed: tuple[float] = struct.unpack("<f", struct.pack("<f", value))
    return packed[0]


def from_details(job: MappedJob, models: Iterable[Any]) -> StoredModel | None:
    """The oldest model (``ModelResponse``) of a run that is the job's; others may be there."""
    for model in sorted(models, key=lambda each: int(each.id)):
        spec, frame = model.specification, model.trainingDataFrame
        if (
            _is_spec(job, spec)
            and _is_frame(job.data_frames[0], frame)
            and _parameters(spec) == sorted(job.hyperparameters)
        ):
            metrics = {name: dict(by_frame) for name, by_frame in (model.metrics or {}).items()}
            owner = other_owner(model.metadata, job.marker)
            return StoredModel(model.id, frame.id, metrics, bool(model.metadata), owner)
    return None


def other_owner(document: str | None, marker: str) -> str | None:
    """Whose a model's metadata are, in words; None if it has none, or they are the job's.

    Args:
        document: as the server returns it.
        marker: of the job.
    """
    if not document:
        return None
    _, arn, creation_time = marker.split(" ")
    try:
        read = json.loads(document)
    except (ValueError, RecursionError):  # the driver's text of what only others store
        return None if arn in document and creation_time in document else _OF_NO_JOB
    job = read.get("JOB") if isinstance(read, dict) else None
    if not isinstance(job, dict) or not isinstance(job.get("arn"), str):
        return _OF_NO_JOB
    # metadata that do not say when the job was created are those of the ARN's job
    created = job.get("creation_time", creation_time)
    if job["arn"].lower() == arn and created == creation_time:
        return None
    return shortened(f"{job['arn']} created {created}", _OWNER_CHARACTERS)


def from_ancestry(job: MappedJob, run_id: int, answer: Any) -> StoredModel | None:  # noqa: ANN401 - a Thrift struct
    """The model in an answer of ``computeModelAncestry``, which needs no metadata store; None if it
    is not the job's.
    """
    fit = answer.fitEvent
    if (
        fit.experimentRunId != run_id
        or not _is_spec(job, fit.spec)
        or not _is_frame(job.data_frames[0], fit.df)
    ):
        return None
    return StoredModel(answer.modelId, fit.df.id, None, has_document=False)


def missing_metrics(job: MappedJob, model: StoredModel, data_frame_ids: Sequence[int]) -> list[int]:
    """Indices of the job's metrics that the model lacks on their data frame; all if unreadable."""
    if model.metrics is None:
        return list(range(len(job.metrics)))
    return [
        number
        for number, metric in enumerate(job.metrics)
        if model.metrics.get(metric.name, {}).get(data_frame_ids[metric.channel])
        != float32(metric.value)
    ]


def data_frames_of_metrics(job: MappedJob, model: StoredModel) -> dict[int, int]:
    """Ids by channel of other stored data frames, as far as metrics on them are known."""
    found: dict[int, int] = {}
    for metric in job.metrics if model.metrics else ():
        on = (model.metrics or {}).get(metric.name, {})
        others = [
            frame
            for frame, value in on.items()
            if frame != model.data_frame_id and value == float32(metric.value)
        ]
        if metric.channel and others:
            found.setdefault(metric.channel, min(others))
    return found


def _is_spec(job: MappedJob, spec: Any) -> bool:  # noqa: ANN401 - a Thrift struct
    return bool(spec.transformerType == job.model_type and spec.tag == job.model_name)


def _is_frame(wanted: MappedDataFrame, frame: Any) -> bool:  # noqa: ANN401 - a Thrift struct
    return bool((frame.tag or "") == wanted.tag and (frame.filepath or "") == wanted.filepath)


def _parameters(spec: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - a Thrift struct
    return sorted((parameter.name, parameter.value) for parameter in spec.hyperparameters or ())
