"""The section ``target`` of kind ``modeldb-v1``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationInfo, field_validator

from daemon.config.types import ExistingFile, Host, Number, Whole, Word, refused
from daemon.targets.addresses import host_and_port
from daemon.targets.settings import SingleWriter, TargetSettings

if TYPE_CHECKING:
    from pathlib import Path


class ModelDbV1Settings(TargetSettings):
    """ModelDB V1 over its Thrift interface, the "Light API"."""

    kind: Literal["modeldb-v1"] = Field(
        description="modeldb-v1: ModelDB V1 over Thrift. It takes one writer only: switch off "
        "every other program that writes to"
        " it, such as the rule of AWS's sample."
    )
    host: Host = Field(
        description="Host name or IP address of the server, without scheme, port and path. "
        "Required."
    )
    port: Whole = Field(
        6543, ge=1, le=65_535, description="Port of its Thrift interface (1 to 65535)."
    )
    tls: bool = Field(
        False,
        description="true: TLS, only where a TLS terminator stands in front: ModelDB V1 has none.",
    )
    ca_file: ExistingFile | None = Field(
        None,
        description="PEM file of the authorities to trust, only with tls: true. null: the "
        "system's.",
    )
    server_id: Word | None = Field(
        None,
        description="Names the right to write to this server, the writer lease in the checkpoint. "
        "Every process that writes to one"
        " server must use the same. null: host:port in lower case.",
    )
    metadata_store: bool = Field(
        True,
        description="Whether the server has its MongoDB. true: model name, type and path go into "
        "the model's metadata, and the"
        " server needs MongoDB to take them. false: they go into fields that SQL keeps (the "
        "spec's tag, key-values of the training"
        " data frame).",
    )
    timeout_seconds: Number = Field(
        45,
        ge=31,
        le=300,
        description="Deadline of one call, in seconds (31 to 300). Above the server's own wait of "
        "30 s for MongoDB.",
    )
    settle_seconds: Number = Field(
        5,
        ge=1,
        le=3600,
        description="In seconds (1 to 3600). How long after a lost connection the server may "
        "still be writing what was sent on it;"
        " nothing is written meanwhile.",
    )

    @property
    def address(self) -> str:
        return host_and_port(self.host, self.port)

    @property
    def single_writer(self) -> SingleWriter:
        return SingleWriter(
            self.server_id or self.address.lower(), self.timeout_seconds, self.settle_seconds
        )

    @field_validator("ca_file")
    @classmethod
    def _only_with_tls(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and not info.data.get("tls"):
            raise refused("must not be set unless target.tls is true")
        return value
