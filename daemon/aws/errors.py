"""What an error of AWS means: whose fault it is, and what to do about it.

An error of the service has a code, and codes have several spellings: with and without
``Exception``, with the prefix of SQS's old protocol, under another name in ElasticMQ. They are
compared by their core, together with the class that botocore makes of them.

Texts are made from what the service said, except for credentials: AWS's answer to a wrong signature
quotes the request, and a credential provider's error may quote what it printed.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from botocore import exceptions as botocore_errors
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from daemon.errors import EdgeFault
from daemon.outcome import Edge, Reason
from daemon.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

AWS_ERRORS = (BotoCoreError, ClientError, ResponseParserError)
"""What a call of a client of `daemon.aws.clients` raises."""


class CallResult(StrEnum):
    """How a call ended: a closed set, for metrics."""

    OK = "ok"
    NOT_FOUND = "not_found"
    REFUSED = "refused"  # the service finds this one request invalid
    THROTTLED = "throttled"
    CREDENTIALS = "credentials"
    DENIED = "denied"
    UNREACHABLE = "unreachable"
    UNAVAILABLE = "unavailable"
    NOT_THE_API = "not_the_api"
    ERROR = "error"  # anything else


class Observe(Protocol):
    """Told of each call of a service, for metrics."""

    def __call__(self, service: str, operation: str, result: CallResult) -> None: ...


def unobserved(service: str, operation: str, result: CallResult) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Service:
    """How a service is named to people, in IAM actions (and metrics) and in our configuration."""

    name: str
    prefix: str
    endpoint_key: str


SQS = Service("SQS", "sqs", "aws.sqs_endpoint_url")
SAGEMAKER = Service("SageMaker", "sagemaker", "aws.sagemaker_endpoint_url")
STS = Service("STS", "sts", "aws.sts_endpoint_url")

_SERVICE_OF = {Edge.QUEUE: SQS, Edge.SAGEMAKER: SAGEMAKER}

_KMS = {
    "KmsAccessDenied",
    "KmsDisabled",
    "KmsInvalidKeyUsage",
    "KmsInvalidState",
    "KmsNotFound",
    "KmsOptInRequired",
}
_WRONG_SIGNATURE = {
    "IncompleteSignature",
    "InvalidSignature",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
_CODES = (
    (
        Reason.THROTTLED,
        {
            "BandwidthLimitExceeded",
            "KmsThrottled",
            "KmsThrottling",
            "LimitExceeded",
            "OverLimit",  # 120,000 messages in flight
            "ProvisionedThroughputExceeded",
            "RequestLimitExceeded",
            "RequestThrottled",
            "SlowDown",
            "Throttled",
            "Throttling",
            "ThrottledRequest",
            "ThrottlingError",
            "TooManyRequests",
        },
    ),
    (
        Reason.CREDENTIALS,
        _WRONG_SIGNATURE
        | {
            "AuthFailure",
            "ExpiredToken",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidIdentityToken",
            "InvalidToken",
            "MissingAuthenticationToken",
            "TokenRefreshRequired",
            "UnrecognizedClient",
        },
    ),
    (
        Reason.ACCESS_DENIED,
        _KMS
        | {
            "AccessDenied",
            "AuthorizationError",
            "NotAuthorized",
            "OptInRequired",
            "UnauthorizedOperation",
        },
    ),
    (Reason.NOT_FOUND, {"InvalidAddress", "NonExistentQueue", "QueueDoesNotExist"}),
    (
        Reason.UNAVAILABLE,
        {
            "InternalError",
            "InternalFailure",
            "InternalServerError",
            "InternalService",
            "ServiceUnavailable",
        },
    ),
    (
        Reason.NOT_THE_API,
        {"InvalidAction", "NotImplemented", "UnknownOperation", "UnsupportedOperation"},
    ),
)
_REFUSED = {
    "InvalidAttributeValue",  # ElasticMQ's InvalidParameterValue
    "InvalidMessageContents",
    "InvalidParameterValue",
    "MessageNotInflight",
    "MissingParameter",
    "ReceiptHandleIsInvalid",
    "Validation",
}
CREDENTIAL_ERRORS = (
    botocore_errors.CredentialRetrievalError,
    botocore_errors.InvalidConfigError,
    botocore_errors.LoginError,
    botocore_errors.MetadataRetrievalError,
    botocore_errors.NoAuthTokenError,
    botocore_errors.NoCredentialsError,
    botocore_errors.PartialCredentialsError,
    botocore_errors.RefreshWithMFAUnsupportedError,
    botocore_errors.SSOError,
    botocore_errors.TokenRetrievalError,
    botocore_errors.UnknownCredentialError,
)
_UNREACHABLE = (botocore_errors.ConnectionError, botocore_errors.HTTPClientError)

_GETS_CREDENTIALS = re.compile(r"AssumeRole\w*|CreateToken\w*|GetRoleCredentials|GetSessionToken")
"""Calls that botocore makes by itself, inside another, when it needs credentials."""
_MISSING_JOB = re.compile(r"not found|not exist|could not find", re.IGNORECASE)
_NOT_AUTHORIZED = re.compile(
    r"User: (?P<who>\S+) is not authorized to perform: (?P<action>[\w-]+:\w+)(?: on resource: "
    r"(?P<resource>[^\s,]+))?"
)
_KEY_ID = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b")
_LOGIN = re.compile(r"//[^/@\s]*@")
_OF_A_REQUEST = re.compile(
    r"(security-?token\W{1,4}|\bsignature\W{1,4})[^\s\"',;&<>]+", re.IGNORECASE
)
"""What a signed request carries, where a proxy or a canonical string in an error repeats it."""


@contextmanager
def observed(observe: Observe, service: Service, operation: str) -> Iterator[None]:
    """Counts the one call made inside.

    Raises:
        AWS_ERRORS: as the call raised them.
    """
    try:
        yield
    except RuntimeError as error:
        # botocore has no class of its own for a provider whose fresh credentials are expired
        if "credentials" not in str(error):
            raise
        observe(service.prefix, operation, CallResult.CREDENTIALS)
        raise botocore_errors.CredentialRetrievalError(
            provider="a provider", error_msg="they are expired"
        ) from error
    except AWS_ERRORS as error:
        observe(service.prefix, operation, call_result(error))
        raise
    else:
        observe(service.prefix, operation, CallResult.OK)


@contextmanager
def edge_call(observe: Observe, edge: Edge, operation: str) -> Iterator[None]:
    """Counts the one call made inside, and makes its error the edge's.

    Raises:
        EdgeFault: the call failed.
    """
    try:
        with observed(observe, _SERVICE_OF[edge], operation):
            yield
    except AWS_ERRORS as error:
        raise edge_fault(error, edge) from error


def edge_fault(error: Exception, edge: Edge) -> EdgeFault:
    """An error of AWS as the fault of a whole edge, with what to do next.

    Args:
        error: one of `AWS_ERRORS`.
        edge: `Edge.QUEUE` or `Edge.SAGEMAKER`.
    """
    reason = _reason(error)
    cannot_pass = (botocore_errors.InvalidConfigError, botocore_errors.PartialCredentialsError)
    curable = reason not in {Reason.NOT_FOUND, Reason.NOT_THE_API} and not isinstance(
        error, cannot_pass
    )
    return EdgeFault(
        edge, reason or Reason.UNAVAILABLE, advice(error, _SERVICE_OF[edge]), curable=curable
    )


def call_result(error: Exception) -> CallResult:
    """The word under which a failed call is counted."""
    if job_is_missing(error):
        return CallResult.NOT_FOUND
    if request_is_refused(error):
        return CallResult.REFUSED
    match _reason(error):
        case None:
            return CallResult.ERROR
        case Reason.ACCESS_DENIED:
            return CallResult.DENIED
        case reason:
            return CallResult(reason.value)


def job_is_missing(error: Exception) -> bool:
    """Whether SageMaker says that it does not have this job.

    The model promises ``ResourceNotFound``; the service answers ``ValidationException`` with one of
    two texts (boto3 #2808, #4606).
    """
    names = _names(error)
    return "ResourceNotFound" in names or (
        "Validation" in names and _MISSING_JOB.search(_message(error)) is not None
    )


def request_is_refused(error: Exception) -> bool:
    """Whether the service finds this one request invalid: no other request is concerned."""
    return not _names(error).isdisjoint(_REFUSED)


def said(error: Exception) -> str:
    """What the service said: one line, shortened, without what a login can be made of."""
    text = _message(error) if isinstance(error, ClientError) else str(error)
    return _OF_A_REQUEST.sub(r"\1***", _LOGIN.sub("//***@", _KEY_ID.sub("***", one_line(text))))[
        :300
    ]


def advice(error: Exception, service: Service) -> str:
    """What was seen and what to do, in one line.

    Args:
        error: one of `AWS_ERRORS`.
        service: the service that was asked.
    """
    code = error_code(error)
    match _reason(error):
        case Reason.THROTTLED:
            text = (
                f"{service.name} throttles ({code}): it is asked less often until it answers again"
            )
        case Reason.CREDENTIALS:
            text = _credentials_advice(error, service)
        case Reason.ACCESS_DENIED:
            text = _permission_advice(error, service)
        case Reason.NOT_FOUND:
            text = (
                f"SQS knows no such queue, or not for these credentials ({code}): check queue.url "
                f"and the "
                f"account"
            )
        case Reason.UNREACHABLE:
            text = (
                f"{service.name} cannot be reached ({said(error)}): check network, proxy and "
                f"{service.endpoint_key}"
            )
        case Reason.UNAVAILABLE:
            text = f"{service.name} cannot serve now ({code}): wait, it is asked again"
        case Reason.NOT_THE_API:
            seen = said(error) or f"HTTP {code}"
            text = (
                f"something else than {service.name} answers ({seen}): check "
                f"{service.endpoint_key} and "
                f"the proxy"
            )
        case _:
            text = f"{service.name} cannot be used ({code}): {said(error)}"
    return text


def _reason(error: Exception) -> Reason | None:
    if isinstance(error, ClientError):
        return _reason_of_answer(error)
    if isinstance(error, CREDENTIAL_ERRORS):
        return Reason.CREDENTIALS
    if isinstance(error, _UNREACHABLE):
        return Reason.UNREACHABLE
    return Reason.NOT_THE_API if isinstance(error, ResponseParserError) else None


def _reason_of_answer(error: ClientError) -> Reason | None:
    names = _names(error)
    for reason, codes in _CODES:
        if names & codes:
            refused = reason is Reason.ACCESS_DENIED and _GETS_CREDENTIALS.fullmatch(
                error.operation_name
            )
            return Reason.CREDENTIALS if refused else reason
    status = _status(error)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Reason.THROTTLED
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Reason.UNAVAILABLE
    # botocore's stand-in for an answer without a code: AWS always has one
    if error_code(error).isdecimal():
        return Reason.NOT_THE_API
    return None


def _credentials_advice(error: Exception, service: Service) -> str:
    if isinstance(error, ClientError):
        if _GETS_CREDENTIALS.fullmatch(error.operation_name):
            return f"no AWS credentials, {error.operation_name} is refused: {_permission_advice(error, STS)}"  # noqa: E501
        cause = (
            "check the clock and the secret key"
            if _names(error) & _WRONG_SIGNATURE
            else "renew or correct them"
        )
        return f"{service.name} refuses the AWS credentials ({error_code(error)}): {cause}"
    if isinstance(error, botocore_errors.NoCredentialsError):
        return "no AWS credentials: none in the environment, the profile, the container or the instance"  # noqa: E501
    if isinstance(error, botocore_errors.PartialCredentialsError):
        return f"no AWS credentials: {said(error)}"
    source = getattr(error, "kwargs", {}).get("provider", "the configured provider")
    return f"no AWS credentials from {source} ({type(error).__name__}): check what it needs"


def _permission_advice(error: Exception, service: Service) -> str:
    """Which permission is missing, as far as the service says."""
    if _names(error) & _KMS:
        return (
            f"the queue's KMS key cannot be used ({error_code(error)}: {said(error)}): "
            "allow kms:Decrypt (to send also kms:GenerateDataKey) and check that the key is enabled"
        )
    if (found := _NOT_AUTHORIZED.search(_message(error))) is not None:
        resource = f" on {found['resource']}" if found["resource"] else ""
        return f"permission {found['action']} is missing{resource}: allow it for {found['who']}"
    operation = getattr(error, "operation_name", "").removesuffix("Batch")
    return (
        f"permission {service.prefix}:{operation} is missing ({error_code(error)}: "
        f"{said(error)}): allow it"
    )


def _names(error: Exception) -> set[str]:
    """The core of the error's codes and class: ``ThrottlingException`` → ``Throttling``."""
    spellings = (
        error_code(error),
        str(_answer(error).get("QueryErrorCode", "")),
        type(error).__name__,
    )
    return {
        name.removeprefix("AWS.SimpleQueueService.")
        .replace("KMS.", "Kms")
        .removesuffix("Exception")
        for name in spellings
    }


def error_code(error: Exception) -> str:
    """The service's code; the name of the class when there was no answer."""
    return str(_answer(error).get("Code") or type(error).__name__)


def _message(error: Exception) -> str:
    return str(_answer(error).get("Message") or "")


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _answer(error: Exception) -> dict[str, Any]:
    """The ``Error`` member of the service's answer; empty when there was no answer."""
    return dict(error.response.get("Error", {})) if isinstance(error, ClientError) else {}
