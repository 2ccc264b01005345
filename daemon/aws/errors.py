"""Classifies AWS errors: whose fault it is, and what to do about it.

Error codes have several spellings: with and without ``Exception``, with the prefix of SQS's old
protocol, under another name in ElasticMQ. They are compared without prefix and suffix, together
with the name of botocore's exception class.

Error texts quote the service's message, except for credentials: AWS's response to a wrong signature
quotes the request, and a credential provider's error may quote the provider's output.
"""

from __future__ import annotations

import re
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from botocore import exceptions as botocore_errors
from botocore import parsers
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from daemon.errors import DaemonError, EdgeFault
from daemon.reasons import Edge, Reason
from daemon.redaction.redactor import without_shapes
from daemon.text import one_line
from daemon.unforeseen import log_once

if TYPE_CHECKING:
    from collections.abc import Iterator


class OddAnswerError(Exception):
    """An answer that is not the service's, or an error that nobody foresees under a call."""


class UnreadableAnswerError(OddAnswerError):
    """A JSON object of the service's whose members botocore cannot read: a time that is none, a
    list in place of an object. It is about what was asked for, not the sign of another service.
    """


class CredentialsError(Exception):
    """There are no AWS credentials now; see `daemon.aws.credential_faults`.

    Args:
        detail: where they were to come from, what is wrong there and what to do, in one line.
        reason: of the fault.
        curable: False if only another environment of this process can help.
    """

    def __init__(
        self, detail: str, reason: Reason = Reason.CREDENTIALS, *, curable: bool = True
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.curable = curable

    def again(self) -> CredentialsError:
        """The same error, for another caller."""
        return CredentialsError(str(self), self.reason, curable=self.curable)


AWS_ERRORS = (BotoCoreError, ClientError, ResponseParserError, OddAnswerError, CredentialsError)
"""What the blocks of `observed` raise."""


class CallResult(StrEnum):
    """The result of a call: a closed set, used as metric label."""

    OK = "ok"
    NOT_FOUND = "not_found"
    REFUSED = "refused"  # this request is invalid; others are not affected
    THROTTLED = "throttled"
    CREDENTIALS = "credentials"
    DENIED = "denied"
    UNREACHABLE = "unreachable"
    UNAVAILABLE = "unavailable"
    NOT_THE_API = "not_the_api"
    ERROR = "error"  # anything else


class Observe(Protocol):
    """Called after each call of a service, for metrics."""

    def __call__(self, service: str, operation: str, result: CallResult) -> None: ...


def unobserved(service: str, operation: str, result: CallResult) -> None:
    """Does nothing."""


@dataclass(frozen=True, slots=True)
class Service:
    """Names of a service: for display, in IAM actions and metrics, and in the configuration."""

    name: str
    prefix: str
    endpoint_key: str


SQS = Service("SQS", "sqs", "aws.sqs_endpoint_url")
SAGEMAKER = Service("SageMaker", "sagemaker", "aws.sagemaker_endpoint_url")
SAGEMAKER_METRICS = Service("SageMaker Metrics", "sagemaker", "aws.sagemaker_metrics_endpoint_url")
STS = Service("STS", "sts", "aws.sts_endpoint_url")
DYNAMODB = Service("DynamoDB", "dynamodb", "checkpoint.endpoint_url")

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
_INTERNAL = {"InternalError", "InternalFailure", "InternalServerError", "InternalService"}
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
        _INTERNAL | {"ServiceUnavailable"},
    ),
    (
        Reason.NOT_THE_API,
        {"InvalidAction", "NotImplemented", "UnknownOperation", "UnsupportedOperation"},
    ),
)
_REFUSED = {
    "BatchRequestTooLong",
    "ConditionalCheckFailed",  # DynamoDB: the item is not as the request says
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
_PARSER = parsers.__file__
_UNREACHABLE = (botocore_errors.ConnectionError, botocore_errors.HTTPClientError)

_GETS_CREDENTIALS = re.compile(r"AssumeRole\w*|CreateToken\w*|GetRoleCredentials|GetSessionToken")
"""Calls that botocore makes implicitly to get credentials."""
_MISSING_JOB = re.compile(r"not found|not exist|could not find", re.IGNORECASE)
_NOT_AUTHORIZED = re.compile(
    r"User: (?P<who>\S+) is not authorized to perform: (?P<action>[\w-]+:\w+)(?: on resource: "
    r"(?P<resource>[^\s,]+))?"
)


@contextmanager
def observed(observe: Observe, service: Service, operation: str) -> Iterator[None]:
    """Counts the call made in the block, which also reads its answer.

    botocore does not check answers: any built-in exception may come out of its parsers.

    Raises:
        Exception: one of `AWS_ERRORS`; `OddAnswerError` for what is unforeseen.
    """
    try:
        yield
    except DaemonError as error:
        reason = error.reason if isinstance(error, EdgeFault) else None
        observe(service.prefix, operation, _result_of_reason(reason))
        raise
    except Exception as error:
        known = _known(error, service, operation)
        observe(service.prefix, operation, call_result(known))
        if known is error:
            raise
        raise known from error
    else:
        observe(service.prefix, operation, CallResult.OK)


def _known(error: Exception, service: Service, operation: str) -> Exception:
    """One of `AWS_ERRORS`: the error itself, or what it means."""
    if isinstance(error, ClientError) and not _is_readable(error):
        return OddAnswerError(f"{operation}: an error in a form of its own")
    if isinstance(error, AWS_ERRORS):
        return error
    # botocore raises a plain RuntimeError if refreshed credentials are already expired
    if isinstance(error, RuntimeError) and "credentials" in str(error):
        return botocore_errors.CredentialRetrievalError(
            provider="a provider", error_msg="they are expired"
        )
    if isinstance(error, OSError):
        return botocore_errors.HTTPClientError(error=error)
    if _is_of_the_parser(error):
        return UnreadableAnswerError(f"{operation}: {type(error).__name__} while it was parsed")
    log_once(service.prefix, operation, error)
    return OddAnswerError(f"{operation}: {type(error).__name__} while it was read")


def _is_of_the_parser(error: Exception) -> bool:
    """Whether botocore's parser failed at a member, rather than at the encoding or the depth."""
    if isinstance(error, UnicodeError | RecursionError):
        return False
    return any(
        frame.f_code.co_filename == _PARSER for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def _is_readable(error: ClientError) -> bool:
    response: dict[str, Any] = {**error.response}
    metadata = response.get("ResponseMetadata", {})
    return (
        isinstance(response.get("Error", {}), dict)
        and isinstance(metadata, dict)
        and isinstance(metadata.get("HTTPStatusCode", 0), int)
    )


@contextmanager
def edge_call(observe: Observe, edge: Edge, operation: str) -> Iterator[None]:
    """Counts the call made in the block.

    Raises:
        EdgeFault: the call failed.
    """
    try:
        with observed(observe, _SERVICE_OF[edge], operation):
            yield
    except AWS_ERRORS as error:
        raise edge_fault(error, edge) from error


def edge_fault(error: Exception, edge: Edge) -> EdgeFault:
    """An AWS error as the fault of a whole edge, with advice.

    Args:
        error: one of `AWS_ERRORS`.
        edge: `Edge.QUEUE` or `Edge.SAGEMAKER`.
    """
    if isinstance(error, CredentialsError):
        return EdgeFault(
            edge, error.reason, str(error), curable=error.curable, may_be_the_jobs=False
        )
    reason = reason_of(error)
    cannot_pass = (botocore_errors.InvalidConfigError, botocore_errors.PartialCredentialsError)
    # an answer that nobody foresees may be the only one of its kind, unlike a web page
    curable = isinstance(error, OddAnswerError) or (
        reason not in {Reason.NOT_FOUND, Reason.NOT_THE_API} and not isinstance(error, cannot_pass)
    )
    # an internal error may be caused by the request, unlike an outage (503)
    may_be_the_jobs = True if reason is None or _names(error) & _INTERNAL else None
    return EdgeFault(
        edge,
        reason or Reason.UNAVAILABLE,
        advice(error, _SERVICE_OF[edge]),
        curable=curable,
        may_be_the_jobs=may_be_the_jobs,
    )


def call_result(error: Exception) -> CallResult:
    """The metric label of a failed call."""
    if job_is_missing(error):
        return CallResult.NOT_FOUND
    if request_is_refused(error):
        return CallResult.REFUSED
    return _result_of_reason(reason_of(error))


def _result_of_reason(reason: Reason | None) -> CallResult:
    match reason:
        case None:
            return CallResult.ERROR
        case Reason.ACCESS_DENIED:
            return CallResult.DENIED
        case reason:
            return CallResult(reason.value)


def job_is_missing(error: Exception) -> bool:
    """Whether SageMaker reports that the job does not exist.

    The API model has ``ResourceNotFound``; the service sends ``ValidationException`` with one of
    two texts (boto3 #2808, #4606).
    """
    names = _names(error)
    return "ResourceNotFound" in names or (
        "Validation" in names and _MISSING_JOB.search(_message(error)) is not None
    )


def request_is_refused(error: Exception) -> bool:
    """Whether the service rejects this request as invalid; other requests are not affected."""
    return not _names(error).isdisjoint(_REFUSED)


def credentials_are_refused(response: dict[str, Any]) -> bool:
    """Whether a parsed response says that the credentials are expired, unknown or wrong."""
    error = ClientError(response, "")  # type: ignore[arg-type] # the shape is checked next
    return _is_readable(error) and reason_of(error) is Reason.CREDENTIALS


def said(error: Exception) -> str:
    """The service's message: one line, shortened, without credentials."""
    text = _message(error) if isinstance(error, ClientError) else str(error)
    return without_shapes(one_line(text))[:300]


def advice(error: Exception, service: Service) -> str:
    """The error and what to do about it, in one line.

    Args:
        error: one of `AWS_ERRORS`.
        service: the service that was called.
    """
    if isinstance(error, CredentialsError):
        return str(error)
    code = error_code(error)
    match reason_of(error):
        case Reason.THROTTLED:
            text = f"{service.name} throttles requests ({code}): the daemon backs off and retries"
        case Reason.CREDENTIALS:
            text = _credentials_advice(error, service)
        case Reason.ACCESS_DENIED:
            text = _permission_advice(error, service)
        case Reason.NOT_FOUND:
            text = (
                f"SQS does not know this queue, or not with these credentials ({code}): "
                "check queue.url and the account"
            )
        case Reason.UNREACHABLE:
            text = (
                f"{service.name} cannot be reached ({said(error)}): "
                f"check network, proxy and {service.endpoint_key}"
            )
        case Reason.UNAVAILABLE:
            text = f"{service.name} is unavailable ({code}): the daemon backs off and retries"
        case Reason.NOT_THE_API:
            seen = said(error) or f"HTTP {code}"
            text = (
                f"the response is not from {service.name} ({seen}): "
                f"check {service.endpoint_key} and the proxy"
            )
        case _:
            text = f"{service.name} cannot be used ({code}): {said(error)}"
    return text


def reason_of(error: Exception) -> Reason | None:
    """The reason of a fault; None for an error that has none of its own."""
    if isinstance(error, CredentialsError):
        return error.reason
    if isinstance(error, ClientError):
        return _reason_of_response(error)
    if isinstance(error, CREDENTIAL_ERRORS):
        return Reason.CREDENTIALS
    if isinstance(error, _UNREACHABLE):
        return Reason.UNREACHABLE
    if isinstance(error, ResponseParserError | OddAnswerError):
        return Reason.NOT_THE_API
    return None


def reason_of_code(code: str) -> Reason | None:
    """The reason of an error code alone, as an entry of a batch has it."""
    return reason_of(ClientError({"Error": {"Code": code}}, ""))


def _reason_of_response(error: ClientError) -> Reason | None:
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
    # botocore uses the HTTP status if the response has no code; AWS always sends one
    if error_code(error).isdecimal():
        return Reason.NOT_THE_API
    return None


def _credentials_advice(error: Exception, service: Service) -> str:
    if isinstance(error, ClientError):
        if _GETS_CREDENTIALS.fullmatch(error.operation_name):
            missing = _permission_advice(error, STS)
            return f"no AWS credentials, {error.operation_name} is refused: {missing}"
        cause = (
            "check the clock and the secret key"
            if _names(error) & _WRONG_SIGNATURE
            else "renew or correct them"
        )
        return f"{service.name} refuses the AWS credentials ({error_code(error)}): {cause}"
    if isinstance(error, botocore_errors.NoCredentialsError):
        return (
            "no AWS credentials: none in the environment, the profile, the container or the "
            "instance"
        )
    if isinstance(error, botocore_errors.PartialCredentialsError):
        return f"no AWS credentials: {said(error)}"
    source = getattr(error, "kwargs", {}).get("provider", "the configured provider")
    return f"no AWS credentials from {source} ({type(error).__name__}): check what it needs"


def _permission_advice(error: Exception, service: Service) -> str:
    """Which permission is missing, if the service says so."""
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
    """Codes and class name without prefix and suffix: ``ThrottlingException`` → ``Throttling``."""
    spellings = (
        error_code(error),
        str(_error_member(error).get("QueryErrorCode", "")),
        type(error).__name__,
    )
    return {
        name.removeprefix("AWS.SimpleQueueService.")
        .replace("KMS.", "Kms")
        .removesuffix("Exception")
        for name in spellings
    }


def error_code(error: Exception) -> str:
    """The service's code; the exception's class name if there was no response."""
    return one_line(str(_error_member(error).get("Code") or ""))[:100] or type(error).__name__


def _message(error: Exception) -> str:
    return str(_error_member(error).get("Message") or "")


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _error_member(error: Exception) -> dict[str, Any]:
    """The ``Error`` member of the response; empty if there was no response."""
    return dict(error.response.get("Error", {})) if isinstance(error, ClientError) else {}
