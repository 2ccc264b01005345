"""The metadata document of a model, which the server stores in MongoDB and its web pages show.

| member | content |
|---|---|
| NAME, TYPE, PATH | model name ("Model Name" in the web pages), model type, model location |
| CONFIG | hyperparameters by key |
| DATASETS | one {TAG, FILENAME, METADATA} per data channel, the training one first |
| JOB | name, arn and creation_time (as in the run's mark), then the job's other attributes |
| JOB.code_channels | channels of code |
| JOB.metrics_not_stored | metrics that are not finite 32-bit floats |
| TAGS | all tags of the job |

NAME, TYPE, PATH and CONFIG are the original client's keys. The server finds models only by string
equality, for example ``getModelIds({"CONFIG.optimizer": "adam"})``, so CONFIG holds strings,
without the quotes that SageMaker's SDK adds.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from daemon.targets.common_attributes import common_attributes
from daemon.targets.modeldb_v1.limits import DOCUMENT_BYTES, metadata_key, shown, too_much

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daemon.training_job.channels import Channel
    from daemon.training_job.training_run import TrainingRun

_IN_OTHER_MEMBERS = ("model_name", "model_type", "model_artifact_uri")
_NEVER_LEFT_OUT = frozenset({"name", "arn", "creation_time"})
_WHOLE_NUMBERS = range(-(2**63), 2**63)


def metadata_document(
    run: TrainingRun,
    channels: Sequence[Channel],
    metrics_not_stored: Mapping[str, str],
    notes: list[str],
) -> str:
    """Builds the document.

    Args:
        run: the training run.
        channels: its data channels, the training one first.
        metrics_not_stored: values by name, as text.
        notes: receives a line for everything left out because the document would be too large.

    Returns:
        A JSON object that the server's parser accepts, at most `DOCUMENT_BYTES` long.
    """
    facts = {
        word: value
        for word, value in common_attributes(run).items()
        if word not in _IN_OTHER_MEMBERS
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
        "JOB": _present(
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
    """How a channel was read; the original client sends the first two."""
    return _present(
        {
            "CompressionType": channel.compression,
            "RecordWrapperType": channel.record_wrapper,
            "ContentType": channel.content_type,
            "InputMode": channel.input_mode,
            "S3DataType": channel.s3_data_type,
        }
    )


def _dataset(channel: Channel) -> dict[str, Any]:
    words = channel_words(channel) | _present(
        {
            "S3DataDistributionType": channel.distribution,
            "FileSystemAccessMode": channel.access_mode,
            "AttributeNames": ", ".join(channel.attribute_names),
            "InstanceGroupNames": ", ".join(channel.instance_groups),
            "HubContentArn": channel.hub_content_arn,
            "AcceptEula": channel.eula_accepted,
            "ShuffleSeed": channel.shuffle_seed,
        }
    )
    return {"TAG": channel.name, "FILENAME": channel.uri or "", "METADATA": words}


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    """The members that have a value."""
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
            "be too large"
        )


def _text(value: object) -> str:
    return json.dumps(_storable(value), ensure_ascii=False, allow_nan=False)


def _storable(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The value with keys and integers that the metadata store accepts."""
    if isinstance(value, dict):
        return {metadata_key(key): _storable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_storable(inner) for inner in value]
    if isinstance(value, int) and value not in _WHOLE_NUMBERS:
        return str(value)
    return value
