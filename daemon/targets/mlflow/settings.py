"""The section ``target`` of kind ``mlflow``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from daemon.config.types import (
    BaseUrl,
    ExistingFile,
    Headers,
    Number,
    Section,
    Whole,
    Word,
    base_url,
    matching,
    refused,
)
from daemon.targets.http.auth import BasicAuth, BearerAuth, NoAuth
from daemon.targets.http.settings import HttpTargetSettings
from daemon.targets.mlflow.managed import (
    SIGNED_HEADERS,
    ManagedServer,
    NotAManagedServerError,
    is_arn,
    managed_server,
)
from daemon.targets.place import normal_address

WORKSPACE_HEADER = "X-MLFLOW-WORKSPACE"


def _managed(text: str) -> ManagedServer:
    try:
        return managed_server(text)
    except NotAManagedServerError as error:
        raise refused(str(error)) from error


def _arn(text: str) -> str:
    return _managed(text).arn


def _tracking_uri(text: str) -> str:
    if is_arn(text):
        return _arn(text)
    if re.fullmatch(r"databricks(?:-uc)?(?::.*)?", text):
        raise refused("must be the workspace's URL, https://HOST, with its token in target.auth")
    url = base_url(text)
    if re.search(r"/api/\d\.\d(/|$)|/ajax-api(/|$)", url):
        raise refused("must not contain the path of the API: the client adds /api/2.0/mlflow")
    return url


class TokenFileAuth(Section):
    """A bearer token in a file, such as that of a Kubernetes service account."""

    kind: Literal["token_file"] = Field(
        description="token_file: as bearer, with a token that is read from a file before each "
        "request, such as that of a Kubernetes service account."
    )
    token_file: Path = Field(
        description="Path of the file, which contains the token only and may be replaced at any "
        "time."
    )

    @field_validator("token_file")
    @classmethod
    def _a_file(cls, value: Path) -> Path:
        if value.name in {"", ".."} or not str(value).isprintable():
            raise refused("must be the path of a file")
        return value


class SigV4Auth(Section):
    """AWS Signature Version 4, for SageMaker-managed MLflow."""

    kind: Literal["sigv4"] = Field(
        description="sigv4: AWS Signature Version 4 with the daemon's own credentials, for "
        "SageMaker-managed MLflow. Implied by an ARN in target.tracking_uri."
    )
    resource_arn: Annotated[str, AfterValidator(_arn)] | None = Field(
        None,
        description="ARN of the tracking server or MLflow App; only where target.tracking_uri is "
        "an https URL (a VPC endpoint). null: the ARN in target.tracking_uri.",
    )


Auth = NoAuth | BasicAuth | BearerAuth | TokenFileAuth | SigV4Auth


class MlflowSettings(HttpTargetSettings):
    """MLflow over REST: self-hosted, or managed by SageMaker."""

    address_key: ClassVar[str] = "tracking_uri"
    own_headers: ClassVar[frozenset[str]] = HttpTargetSettings.own_headers | {
        "origin",  # the server answers 403 to one that it does not know
        WORKSPACE_HEADER.lower(),
        *SIGNED_HEADERS,
    }

    kind: Literal["mlflow"] = Field(
        description="mlflow: MLflow 2.16 or newer over REST, self-hosted or managed by SageMaker."
    )
    tracking_uri: Annotated[str, AfterValidator(_tracking_uri)] = Field(
        description="Base URL of the MLflow server, such as http://HOST:5000, without "
        "/api/2.0/mlflow; or the ARN of a SageMaker-managed tracking server or MLflow App. "
        "Required."
    )
    auth: Auth = Field(
        NoAuth(),
        discriminator="kind",
        validate_default=True,
        description="Authentication, by kind: none, basic, bearer, token_file, sigv4.",
    )
    headers: Headers = Field(
        default_factory=dict,
        description="Additional request headers, as name: value. Values are treated as secrets. "
        "Together with auth at most 7 kB. As an environment variable: a JSON object.",
    )
    workspace: Word | None = Field(
        None,
        description="Workspace of the MLflow server, sent as X-MLFLOW-WORKSPACE; on Kubernetes "
        "often the namespace. null: not sent.",
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
        description="Request timeout, in seconds (10 to 300). A request that times out has an "
        "unknown outcome.",
    )
    max_concurrency: Whole = Field(
        8, ge=1, le=32, description="Maximum number of concurrent requests (1 to 32)."
    )
    settle_seconds: Number = Field(
        30,
        ge=1,
        le=3600,
        description="How long a request without a response may still be processed by the server, "
        "and how far its read replica may lag, in seconds (1 to 3600).",
    )
    experiment_prefix: Annotated[
        str,
        matching(
            r"[^\x00-\x1f\x7f\ud800-\udfff]{0,128}",
            "must be at most 128 characters, without line breaks and control characters",
        ),
    ] = Field(
        "",
        description="Prepended to the names of experiments, such as /Shared/sagemaker/ on "
        "Databricks, whose experiments have paths as names.",
    )
    register_models: bool = Field(
        True,
        description="Whether the model of a completed job becomes a version of the registered "
        "model that has the job's model name. An MLflow App of SageMaker by default copies each "
        "version into SageMaker's Model Registry.",
    )
    ui_url: BaseUrl | None = Field(
        None,
        description="Base URL of MLflow's web pages, used for links to runs. null: "
        "target.tracking_uri; no links for a managed server.",
    )

    @property
    def managed(self) -> ManagedServer | None:
        """The SageMaker-managed server; None: self-hosted."""
        if isinstance(self.auth, SigV4Auth) and self.auth.resource_arn is not None:
            return managed_server(self.auth.resource_arn)
        return None

    @property
    def base_url(self) -> str:
        """Where the paths of the API are, without a slash at the end."""
        if is_arn(self.tracking_uri):
            return managed_server(self.tracking_uri).base_url
        return self.tracking_uri

    @property
    def pages_url(self) -> str | None:
        """Base URL of the links to runs; None: no links."""
        if self.ui_url is not None or self.managed is not None:
            return self.ui_url
        return self.tracking_uri

    @property
    def address(self) -> str:
        return self.tracking_uri

    @property
    def place(self) -> str:
        """A managed server is the same one through whichever endpoint it is reached."""
        if self.managed is not None:
            return self.managed.arn.lower()
        return normal_address(self.tracking_uri)

    @field_validator("auth")
    @classmethod
    def _fits_the_address(cls, value: Auth, info: ValidationInfo) -> Auth:
        """The ARN of a managed server, if it is one, is in the result."""
        uri = info.data.get("tracking_uri")
        if uri is None:  # refused already
            return value
        if not is_arn(uri):
            if not isinstance(value, SigV4Auth):
                return value
            if not uri.startswith("https:"):
                raise refused(
                    "must not be sigv4 unless target.tracking_uri is an https:// URL or an ARN",
                    key="kind",
                )
            if value.resource_arn is None:
                raise refused(
                    "is required: which server is meant behind the URL in target.tracking_uri",
                    key="resource_arn",
                )
            return value
        if isinstance(value, NoAuth | SigV4Auth):
            given = value.resource_arn if isinstance(value, SigV4Auth) else None
            if given not in {None, uri}:
                raise refused(
                    "must not differ from the ARN in target.tracking_uri", key="resource_arn"
                )
            return SigV4Auth(kind="sigv4", resource_arn=uri)
        raise refused("must be sigv4 or left out where target.tracking_uri is an ARN", key="kind")
