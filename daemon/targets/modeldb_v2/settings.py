"""The section ``target`` of kind ``modeldb-v2``."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from daemon.config.types import (
    BaseUrl,
    ExistingFile,
    Headers,
    Number,
    SecretText,
    SecretWord,
    Section,
    Whole,
    Word,
    matching,
    refused,
    secrets_in,
)
from daemon.targets.settings import TargetSettings

if TYPE_CHECKING:
    from pathlib import Path

HEADER_BYTES = 7168
"""What configured headers may take together. ModelDB refuses a request with more than 8 kB of
headers (error 500, code 13), and the client adds its own."""


class NoAuth(Section):
    """No authentication."""

    kind: Literal["none"] = Field(
        "none", description="none: no authentication; open-source ModelDB has none."
    )


class BasicAuth(Section):
    """HTTP basic authentication."""

    kind: Literal["basic"] = Field(description="basic: HTTP basic authentication.")
    username: Annotated[
        str,
        matching(
            r"[^:\x00-\x1f\x7f]+", "must not be empty and not contain a colon or control characters"
        ),
    ] = Field(description="User name, without a colon.")
    password: SecretText = Field(description="Password. Secret.")


class BearerAuth(Section):
    """A bearer token."""

    kind: Literal["bearer"] = Field(description="bearer: a token in the Authorization header.")
    token: SecretWord = Field(description="Token, without the word Bearer. Secret.")


class VertaAuth(Section):
    """A developer key of hosted Verta, sent as the official client sends it."""

    kind: Literal["verta"] = Field(
        description="verta: e-mail address and developer key of a hosted Verta account."
    )
    email: Word = Field(description="E-mail address of the account.")
    developer_key: SecretWord = Field(description="Developer key. Secret.")
    organization_id: Word | None = Field(
        None, description="Organization of the account. null: the account's default."
    )


Auth = NoAuth | BasicAuth | BearerAuth | VertaAuth

_OWN_HEADERS = frozenset(
    {"connection", "content-length", "content-type", "host", "transfer-encoding"}
)


class ModelDbV2Settings(TargetSettings):
    """ModelDB V2 over REST."""

    kind: Literal["modeldb-v2"] = Field(
        "modeldb-v2", description="Kind of target: modeldb-v2, modeldb-v1."
    )
    url: BaseUrl = Field(
        description="Base URL of ModelDB's REST API. Required. Through the proxy: "
        "http://HOST:8080/v1; through the web front-end: http://HOST:3000/api/v1/modeldb."
    )
    auth: Auth = Field(
        NoAuth(),
        discriminator="kind",
        description="Authentication, by kind: none, basic, bearer, verta.",
    )
    headers: Headers = Field(
        default_factory=dict,
        description="Additional request headers, as name: value. Values are treated as secrets. "
        "Together with auth at most 7 kB. As an environment variable: a JSON object.",
    )
    ca_file: ExistingFile | None = Field(
        None, description="PEM file with the trusted certificate authorities. null: the system's."
    )
    client_cert_file: ExistingFile | None = Field(
        None, description="PEM file with the client certificate. null: none is sent."
    )
    client_key_file: ExistingFile | None = Field(
        None,
        description="PEM file with the private key of the client certificate. null: it is in "
        "client_cert_file.",
    )
    timeout_seconds: Number = Field(
        30,
        ge=10,
        le=300,
        description="Request timeout, in seconds (10 to 300). ModelDB takes 5.1 s to report that "
        "its database is down, and a request that times out has an unknown outcome.",
    )
    max_concurrency: Whole = Field(
        4,
        ge=1,
        le=8,
        description="Maximum number of concurrent requests (1 to 8). More than 8 make the server "
        "no faster and may make it hang.",
    )
    settle_seconds: Number = Field(
        30,
        ge=1,
        le=3600,
        description="How long a request without a response may still be processed by the server, "
        "in seconds (1 to 3600).",
    )
    workspace: Word | None = Field(
        None,
        description="Workspace in hosted Verta, sent as workspace_name; ModelDB 2.0.8.1 ignores "
        "it. null: not sent.",
    )
    ui_url: BaseUrl | None = Field(
        None,
        description="Base URL of ModelDB's web front-end, http://HOST:3000, used for links to "
        "runs. null: no links.",
    )

    @property
    def address(self) -> str:
        return self.url

    def derived_secrets(self) -> tuple[str, ...]:
        if not isinstance(self.auth, BasicAuth):
            return ()
        login = f"{self.auth.username}:{self.auth.password.get_secret_value()}"
        return (base64.b64encode(login.encode()).decode(),)

    @field_validator("headers")
    @classmethod
    def _sendable(cls, value: Headers, info: ValidationInfo) -> Headers:
        auth = info.data.get("auth")
        for name in value:
            low = name.lower()
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
                raise refused("must be the name of a header: letters, digits and -", key=name)
            if low in _OWN_HEADERS:
                raise refused("must not be set: the client sets it itself", key=name)
            if low == "authorization" and not isinstance(auth, NoAuth):
                raise refused("must not be set beside target.auth", key=name)
        secrets = [*value.values(), *secrets_in(auth)]
        size = sum(len(f"{name}: ") for name in value) + sum(
            len(secret.get_secret_value().encode()) for secret in secrets
        )
        if size > HEADER_BYTES:
            raise refused(
                f"must take at most {HEADER_BYTES} bytes together with target.auth; they take "
                f"{size}"
            )
        return value

    @field_validator("ca_file", "client_cert_file")
    @classmethod
    def _only_with_tls(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("url", "").startswith("http:"):
            raise refused("must not be set unless target.url begins with https://")
        return value

    @field_validator("client_key_file")
    @classmethod
    def _only_with_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("client_cert_file", value) is None:
            raise refused("must not be set without target.client_cert_file")
        return value
