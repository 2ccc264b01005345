"""SageMaker-managed MLflow: tracking servers and MLflow Apps, which are named by their ARN.

Both are reached at an address that the ARN determines, take requests signed with AWS Signature
Version 4, and read from a header which server is meant. As in AWS's plug-in sagemaker-mlflow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ARN = re.compile(
    r"arn:(?P<partition>[^:]*):sagemaker:(?P<region>[^:]*):(?P<account>[^:]*):"
    r"(?P<type>[^/:]*)/(?P<name>.*)"
)
_PARTITIONS = ("aws", "aws-us-gov")
"""Those of AWS's plug-in; the names of the servers in others are not known."""
_TRACKING_SERVER, _APP = "mlflow-tracking-server", "mlflow-app"
_TRACKING_SERVER_HEADER, _APP_HEADER = "x-mlflow-sm-tracking-server-arn", "x-sm-mlflow-app-arn"
SIGNED_HEADERS = frozenset(
    {
        _TRACKING_SERVER_HEADER,
        _APP_HEADER,
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-security-token",
    }
)
"""Headers, in lower case, that the signature is made of."""
_EXAMPLE = "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-tracking-server/NAME"


class NotAManagedServerError(ValueError):
    """An ARN that is not that of a managed MLflow. The text says what is allowed."""


@dataclass(frozen=True, slots=True)
class ManagedServer:
    """A managed MLflow."""

    arn: str
    """As configured: compared with case by AWS."""
    region: str
    base_url: str
    service: str
    """What requests are signed for."""
    arn_header: str
    """The header that names the server."""
    is_app: bool
    """An MLflow App, which has no server of its own; otherwise a tracking server."""


def is_arn(text: str) -> bool:
    """Whether a text is meant to be an ARN."""
    return text.lower().startswith("arn:")


def managed_server(arn: str) -> ManagedServer:
    """The server of an ARN.

    Raises:
        NotAManagedServerError: it is not the ARN of a managed MLflow that can be reached.
    """
    parts = _ARN.fullmatch(arn)
    if (
        parts is None
        or parts["type"] not in {_TRACKING_SERVER, _APP}
        or not re.fullmatch(r"[a-z]{2}(?:-[a-z]+)+-[0-9]", parts["region"])
        or not re.fullmatch(r"[0-9]{12}", parts["account"])
        or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,255}", parts["name"])
    ):
        raise NotAManagedServerError(
            f"must be the ARN of a SageMaker-managed MLflow, like {_EXAMPLE} or …:mlflow-app/ID"
        )
    if parts["partition"] not in _PARTITIONS:
        raise NotAManagedServerError(
            f"is in the AWS partition {parts['partition']}; managed MLflow is supported in "
            f"{' and '.join(_PARTITIONS)}"
        )
    region = parts["region"]
    if parts["type"] == _APP:
        return ManagedServer(
            arn,
            region,
            f"https://mlflow.sagemaker.{region}.app.aws",
            "sagemaker",
            _APP_HEADER,
            is_app=True,
        )
    return ManagedServer(
        arn,
        region,
        f"https://{region}.experiments.sagemaker.aws",
        "sagemaker-mlflow",
        _TRACKING_SERVER_HEADER,
        is_app=False,
    )
