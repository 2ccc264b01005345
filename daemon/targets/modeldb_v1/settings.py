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
        description="modeldb-v1: ModelDB V1 over Thrift. It supports a single writer: disable "
        "every other program that writes to it, such as the rule of AWS's sample."
    )
    host: Host = Field(
        description="Host name or IP address of the server, without scheme, port and path. "
        "Required."
    )
    port: Whole = Field(
        6543, ge=1, le=65_535, description="Port of the Thrift interface (1 to 65535)."
    )
    tls: bool = Field(
        False,
        description="Whether to use TLS. Only for a TLS terminator in front of the server: "
        "ModelDB V1 itself has no TLS.",
    )
    ca_file: ExistingFile | None = Field(
        None,
        description="PEM file with the trusted certificate authorities; only with tls: true. "
        "null: the system's.",
    )
    server_id: Word | None = Field(
        None,
        description="Name of the writer lease in the checkpoint. All processes that write to one "
        "server must use the same name, and another server needs another name, because jobs are "
        "recorded under it. null: host:port in lower case.",
    )
    metadata_store: bool = Field(
        True,
        description="Whether the server has its MongoDB. true: model name, type and path are "
        "stored in the model's metadata, which needs MongoDB. false: they are stored in SQL "
        "fields (the spec's tag, key-values of the training data frame).",
    )
    timeout_seconds: Number = Field(
        45,
        ge=31,
        le=300,
        description="Timeout of one call, in seconds (31 to 300). Longer than the 30 s for which "
        "the server itself waits for MongoDB.",
    )
    settle_seconds: Number = Field(
        5,
        ge=1,
        le=3600,
        description="How long after a lost connection the server may still be processing requests "
        "sent on it, in seconds (1 to 3600). Nothing is written during this time.",
    )

    @property
    def address(self) -> str:
        return host_and_port(self.host, self.port)

    @property
    def place(self) -> str:
        return self.server_id or self.address.lower()

    @property
    def single_writer(self) -> SingleWriter:
        return SingleWriter(self.place, self.timeout_seconds, self.settle_seconds)

    @field_validator("ca_file")
    @classmethod
    def _only_with_tls(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and not info.data.get("tls"):
            raise refused("must not be set unless target.tls is true")
        return value
