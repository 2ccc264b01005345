"""The section ``target`` of kind ``modeldb-v2``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from daemon.config.types import (
    BaseUrl,
    ExistingFile,
    Headers,
    Number,
    SecretWord,
    Section,
    Whole,
    Word,
)
from daemon.targets.http.auth import BasicAuth, BearerAuth, NoAuth
from daemon.targets.http.settings import HttpTargetSettings


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


class ModelDbV2Settings(HttpTargetSettings):
    """ModelDB V2 over REST."""

    kind: Literal["modeldb-v2"] = Field(
        "modeldb-v2", description="Kind of target: modeldb-v2, modeldb-v1, mlflow."
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
