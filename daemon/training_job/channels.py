"""Input channels: the sources of a job's data and sometimes of its code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.text import DistinctNames
from daemon.training_job.field_readers import (
    flag,
    integer,
    section,
    sections,
    text,
    text_list,
)
from daemon.training_job.source_code import CodePath, is_in_container

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_FILE_SYSTEMS = {"EFS": "efs", "FSxLustre": "fsx-lustre"}

_MANIFESTS = frozenset({"ManifestFile", "AugmentedManifestFile"})
"""S3DataType where the URI is that of a list of files."""

_SDK_DRIVERS = "sm_drivers"
_SDK_CODE = frozenset({"code", _SDK_DRIVERS})
"""The channels in which the Python SDK's ModelTrainer (version 3) passes source code. Without the
second, the job is not ModelTrainer's, and a channel named `code` holds data."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One entry of InputDataConfig. None: absent."""

    name: str
    uri: str | None
    """S3 URI, `efs://…` or `fsx-lustre://…` with file system id and path, or a data set's ARN."""
    kind: str
    """``s3``, ``efs``, ``fsx-lustre`` (or another type in lower case), ``dataset``, ``unknown``."""
    is_code: bool = False
    """Source code of the job, not a data set."""
    s3_data_type: str | None = None
    distribution: str | None = None
    content_type: str | None = None
    input_mode: str | None = None
    compression: str | None = None
    record_wrapper: str | None = None
    access_mode: str | None = None
    """Of a file system: `ro` or `rw`."""
    attribute_names: tuple[str, ...] = ()
    """Of an augmented manifest: the attributes that the job reads, in order."""
    instance_groups: tuple[str, ...] = ()
    """The instance groups that read the channel; empty for all."""
    hub_content_arn: str | None = None
    """The model of a hub that a fine-tuning starts from."""
    eula_accepted: bool | None = None
    """Of the licence of that model."""
    shuffle_seed: str | None = None
    """A whole number of up to 64 bits, which not every target can store as one."""


def read_channels(
    description: Mapping[str, Any], submit_directory: str | None = None
) -> tuple[Channel, ...]:
    """Reads InputDataConfig in order; a missing or repeated name gets a number.

    Args:
        description: the job's description.
        submit_directory: the job's sagemaker_submit_directory: the channel that it lies in holds
            code.
    """
    in_channel = CodePath.of(submit_directory or "")
    named: dict[str, Mapping[str, Any]] = {}
    names = DistinctNames(named)
    for number, item in enumerate(sections(description, "InputDataConfig"), 1):
        name = text(item, "ChannelName") or f"channel-{number}"
        named[names.untaken(name)] = item
    code = _SDK_CODE if _SDK_DRIVERS in named else frozenset[str]()
    return tuple(
        _channel(
            name,
            item,
            is_code=name in code or (in_channel is not None and name == in_channel.channel),
        )
        for name, item in named.items()
    )


def source_code_uri(submit_directory: str | None, channels: Iterable[Channel]) -> str | None:
    """Where the source code of a script-mode job is, also if it is passed in a channel; None if it
    is only known to be somewhere in the container.
    """
    if submit_directory is None or not is_in_container(submit_directory):
        return submit_directory
    path = CodePath.of(submit_directory)
    for channel in channels:
        if path is not None and channel.name == path.channel and channel.uri:
            is_directory = channel.s3_data_type not in _MANIFESTS and channel.kind != "dataset"
            return path.in_source(channel.uri, is_directory=is_directory)
    return None


def _channel(name: str, item: Mapping[str, Any], *, is_code: bool) -> Channel:
    source = section(item, "DataSource")
    kind, uri = _location(source)
    s3 = section(source, "S3DataSource")
    seed = integer(section(item, "ShuffleConfig"), "Seed")
    return Channel(
        name=name,
        uri=uri,
        kind=kind,
        is_code=is_code,
        s3_data_type=text(s3, "S3DataType"),
        distribution=text(s3, "S3DataDistributionType"),
        content_type=text(item, "ContentType"),
        input_mode=text(item, "InputMode"),
        compression=text(item, "CompressionType"),
        record_wrapper=text(item, "RecordWrapperType"),
        access_mode=text(section(source, "FileSystemDataSource"), "FileSystemAccessMode"),
        attribute_names=text_list(s3, "AttributeNames"),
        instance_groups=text_list(s3, "InstanceGroupNames"),
        hub_content_arn=text(section(s3, "HubAccessConfig"), "HubContentArn"),
        eula_accepted=flag(section(s3, "ModelAccessConfig"), "AcceptEula"),
        shuffle_seed=None if seed is None else str(seed),
    )


def _location(source: Mapping[str, Any]) -> tuple[str, str | None]:
    """Kind and URI. DataSource is a union without required members; botocore returns `{}` for a
    kind it does not know.
    """
    if s3 := section(source, "S3DataSource"):
        return "s3", text(s3, "S3Uri")
    if files := section(source, "FileSystemDataSource"):
        system_type = text(files, "FileSystemType") or "file-system"
        kind = _FILE_SYSTEMS.get(system_type, system_type.lower())
        system, path = text(files, "FileSystemId"), (text(files, "DirectoryPath") or "").lstrip("/")
        return kind, None if system is None else f"{kind}://{system}/{path}"
    if dataset := section(source, "DatasetSource"):
        return "dataset", text(dataset, "DatasetArn")
    return "unknown", None
