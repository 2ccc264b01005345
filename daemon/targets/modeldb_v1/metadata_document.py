"""The metadata of a model, which the server keeps in MongoDB and the web pages show in full.

| member | holds |
|---|---|
| NAME, TYPE, PATH | model name ("Model Name" of the web pages), model type, model location |
| CONFIG | hyperparameters by key |
| DATASETS | one {TAG, FILENAME, METADATA} per channel of data, the training one first |
| JOB | name, arn and creation_time (as in the run's mark), then all else of the job, channels of code, metrics that are no numbers |
| TAGS | all tags of the job |

NAME, TYPE, PATH and CONFIG are the original client's own words. The server finds models by equality
of texts only, for example ``getModelIds({"CONFIG.optimizer": "adam"})``: so CONFIG holds texts,
without the quotes that SageMaker's SDK puts around them.
"""  # noqa: E501

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from daemon.targets.common_attributes import common_attributes
from daemon.targets.modeldb_v1.limits import DOCUMENT_BYTES, metadata_key, shown, too_much

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daemon.training_job.channels import Channel
    from daemon.training_job.training_run import TrainingRun

_IN_PLACES_OF_THEIR_OWN = ("model_name", "model_type", "model_artifact_uri")
_NEVER_LEFT_OUT = frozenset({"name", "arn", "creation_time"})
_WHOLE_NUMBERS = range(-(2**63), 2**63)


def metadata_document(
    run: TrainingRun,
    channels: Sequence[Channel],
    metrics_not_stored: Mapping[str, str],
    notes: list[str],
) -> str:
    """A JSON object that the server's parser takes.

    Args:
        channels: those of data, the training one first.
        metrics_not_stored: by name, as text.
        notes: gets a line for everything that is left out because the whole would be too large.
    """
    facts = {
        word: value
        for word, value in common_attributes(run).items()
        if word not in _IN_PLACES_OF_THEIR_OWN
    }
    document: dict[str, Any] = {
        "NAME": run.model_name,
        "TYPE": run.model_type,
        "PATH": run.model_location or "",
        "CONFIG": {
            each.key: each.value if isinstance(each.value, str) else each.text
            for each in run.hyperparameters
        },
        "DATASETS": [_dataset(channel) for channel in channels],
        "JOB": _told(
            {
                "name": run.name,
                "arn": run.mark.arn,
                "creation_time": run.mark.creation_time,
                **facts,
                "code_channels": {
                    channel.name: channel.uri or "" for channel in run.channels if channel.is_code
                },
                "metrics_not_stored": dict(metrics_not_stored),
            }
        ),
        "TAGS": dict(run.all_tags),
    }
    text = _text(document)
    if (excess := len(text.encode()) - DOCUMENT_BYTES) > 0:
        _leave_out(document, excess, notes)
        text = _text(document)
    return text


def channel_words(channel: Channel) -> dict[str, str]:
    """How a channel was read; the first two are those that the original client sends."""
    return _told(
        {
            "CompressionType": channel.compression,
            "RecordWrapperType": channel.record_wrapper,
            "ContentType": channel.content_type,
            "InputMode": channel.input_mode,
            "S3DataType": channel.s3_data_type,
        }
    )


def _dataset(channel: Channel) -> dict[str, Any]:
    words = channel_words(channel) | _told({"S3DataDistributionType": channel.distribution})
    return {"TAG": channel.name, "FILENAME": channel.uri or "", "METADATA": words}


def _told(members: Mapping[str, Any]) -> dict[str, Any]:
    """Without those that are not told."""
    return {
        key: value for key, value in members.items() if value is not None and value not in ("", {})
    }


def _leave_out(document: dict[str, Any], excess: int, notes: list[str]) -> None:
    sizes = {
        (member, key): len(_text(key).encode()) + len(_text(value).encode())
        for member in ("CONFIG", "JOB", "TAGS")
        for key, value in document[member].items()
        if member != "JOB" or key not in _NEVER_LEFT_OUT
    }
    sizes["", "DATASETS"] = len(_text(document["DATASETS"]).encode())
    for member, key in too_much(sizes, sum(sizes.values()) - excess):
        (document[member] if member else document).pop(key)
        name = f"{member} {shown(key)}" if member else key
        notes.append(
            f"{name} of {sizes[member, key]} bytes left out of the model's metadata, which would "
            f"be too large"
        )


def _text(value: object) -> str:
    return json.dumps(_storable(value), ensure_ascii=False, allow_nan=False)


def _storable(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """A value whose keys the metadata store takes, and whose whole numbers it can hold."""
    if isinstance(value, dict):
        return {metadata_key(key): _storable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_storable(inner) for inner in value]
    if isinstance(value, int) and value not in _WHOLE_NUMBERS:
        return str(value)
    return value
