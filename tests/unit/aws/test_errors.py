"""AWS errors are classified by code, class and text."""

from __future__ import annotations

import asyncio

import pytest
from botocore import exceptions as botocore_errors
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from structlog.testing import capture_logs

from daemon.aws.errors import SQS as SQS_SERVICE
from daemon.aws.errors import (
    CallResult,
    call_result,
    edge_call,
    edge_fault,
    job_is_missing,
    observed,
    unobserved,
)
from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason

DENIED_TEXT = (
    "User: arn:aws:sts::123456789012:assumed-role/sync/i-0abc is not authorized to perform: "
    "sqs:receivemessage on resource: arn:aws:sqs:eu-west-1:123456789012:jobs because no "
    "identity-based policy allows the action"
)
ENDPOINT = "https://sqs.eu-west-1.amazonaws.com/"


def answer(
    code: str,
    message: str = "",
    *,
    status: int = 400,
    operation: str = "ReceiveMessage",
    query_code: str = "",
) -> ClientError:
    error = {"Code": code, "Message": message} | (
        {"QueryErrorCode": query_code} if query_code else {}
    )
    return ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}, operation)  # type: ignore[typeddict-item] # the members that matter


REASONS: list[tuple[Exception, Reason]] = [
    (botocore_errors.EndpointConnectionError(endpoint_url=ENDPOINT), Reason.UNREACHABLE),
    (botocore_errors.ConnectTimeoutError(endpoint_url=ENDPOINT), Reason.UNREACHABLE),
    (botocore_errors.ReadTimeoutError(endpoint_url=ENDPOINT), Reason.UNREACHABLE),
    (botocore_errors.ConnectionClosedError(endpoint_url=ENDPOINT), Reason.UNREACHABLE),
    (
        botocore_errors.SSLError(endpoint_url=ENDPOINT, error=OSError("self-signed certificate")),
        Reason.UNREACHABLE,
    ),
    (botocore_errors.ProxyConnectionError(proxy_url="http://proxy:3128"), Reason.UNREACHABLE),
    (botocore_errors.HTTPClientError(error="odd"), Reason.UNREACHABLE),
    (answer("ThrottlingException", "Rate exceeded"), Reason.THROTTLED),
    (answer("Throttling"), Reason.THROTTLED),
    (answer("RequestThrottled"), Reason.THROTTLED),
    (answer("RequestLimitExceeded", status=503), Reason.THROTTLED),
    (answer("TooManyRequestsException"), Reason.THROTTLED),
    (answer("SlowDown", status=503), Reason.THROTTLED),
    (answer("KMS.ThrottlingException", query_code="KmsThrottled"), Reason.THROTTLED),
    (answer("OverLimit"), Reason.THROTTLED),
    (answer("429", status=429), Reason.THROTTLED),
    (answer("ExpiredToken", status=403), Reason.CREDENTIALS),
    (answer("ExpiredTokenException"), Reason.CREDENTIALS),
    (answer("UnrecognizedClientException"), Reason.CREDENTIALS),
    (answer("InvalidClientTokenId", status=403), Reason.CREDENTIALS),
    (answer("InvalidAccessKeyId", status=403), Reason.CREDENTIALS),
    (answer("SignatureDoesNotMatch", status=403), Reason.CREDENTIALS),
    (
        answer("AccessDenied", operation="AssumeRoleWithWebIdentity", status=403),
        Reason.CREDENTIALS,
    ),
    (botocore_errors.NoCredentialsError(), Reason.CREDENTIALS),
    (
        botocore_errors.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
        Reason.CREDENTIALS,
    ),
    (
        botocore_errors.CredentialRetrievalError(provider="process", error_msg="no"),
        Reason.CREDENTIALS,
    ),
    (botocore_errors.TokenRetrievalError(provider="sso", error_msg="no"), Reason.CREDENTIALS),
    (botocore_errors.MetadataRetrievalError(error_msg="no"), Reason.CREDENTIALS),
    (botocore_errors.UnauthorizedSSOTokenError(), Reason.CREDENTIALS),
    (answer("AccessDeniedException", DENIED_TEXT), Reason.ACCESS_DENIED),
    (answer("AccessDenied", status=403), Reason.ACCESS_DENIED),
    (answer("KMS.AccessDeniedException", query_code="KmsAccessDenied"), Reason.ACCESS_DENIED),
    (answer("KmsDisabled"), Reason.ACCESS_DENIED),
    (
        answer("AWS.SimpleQueueService.NonExistentQueue", query_code="QueueDoesNotExist"),
        Reason.NOT_FOUND,
    ),
    (answer("QueueDoesNotExist"), Reason.NOT_FOUND),
    (answer("AWS.Queue.OldName", query_code="QueueDoesNotExist"), Reason.NOT_FOUND),
    (answer("InternalFailure", status=500), Reason.UNAVAILABLE),
    (answer("ServiceUnavailable", status=503), Reason.UNAVAILABLE),
    (answer("502", "Bad Gateway", status=502), Reason.UNAVAILABLE),
    (answer("SomethingNew", "odd"), Reason.UNAVAILABLE),
    (ResponseParserError("HTTP 200 with text/html, not JSON"), Reason.NOT_THE_API),
    (answer("404", "", status=404), Reason.NOT_THE_API),
    (answer("UnknownOperationException"), Reason.NOT_THE_API),
]


def test_every_error_has_its_reason(subtests: pytest.Subtests) -> None:
    for error, reason in REASONS:
        with subtests.test(repr(error)[:60]):
            fault = edge_fault(error, Edge.QUEUE)

            assert (fault.edge, fault.reason) == (Edge.QUEUE, reason)
            assert "\n" not in fault.detail


@pytest.mark.parametrize(
    ("error", "curable"),
    [
        (answer("AWS.SimpleQueueService.NonExistentQueue"), False),
        (ResponseParserError("HTTP 200 with text/html, not JSON"), False),
        (
            botocore_errors.PartialCredentialsError(
                provider="env", cred_var="AWS_SECRET_ACCESS_KEY"
            ),
            False,
        ),
        (botocore_errors.NoCredentialsError(), True),
        (answer("ExpiredToken"), True),
        (answer("AccessDenied"), True),
        (botocore_errors.EndpointConnectionError(endpoint_url=ENDPOINT), True),
        (answer("SomethingNew"), True),
    ],
)
def test_only_what_waiting_cannot_mend_is_incurable(error: Exception, *, curable: bool) -> None:
    assert edge_fault(error, Edge.QUEUE).curable is curable


def test_a_class_of_botocore_counts_like_a_code() -> None:
    # ElasticMQ's codes differ from AWS's; the class that a client makes of them does not
    made_by_client = type("QueueDoesNotExist", (ClientError,), {})
    error = made_by_client({"Error": {"Code": "Odd", "Message": ""}}, "ReceiveMessage")

    assert edge_fault(error, Edge.QUEUE).reason is Reason.NOT_FOUND


def test_a_missing_permission_is_named_with_its_resource_and_who_needs_it() -> None:
    detail = edge_fault(answer("AccessDeniedException", DENIED_TEXT), Edge.QUEUE).detail

    assert detail == (
        "permission sqs:receivemessage is missing on arn:aws:sqs:eu-west-1:123456789012:jobs: "
        "allow it for arn:aws:sts::123456789012:assumed-role/sync/i-0abc"
    )


def test_a_missing_permission_is_named_after_the_operation_when_the_service_does_not_say() -> None:
    error = answer(
        "AccessDenied", "Access to the resource is denied.", operation="DeleteMessageBatch"
    )

    assert edge_fault(error, Edge.QUEUE).detail.startswith(
        "permission sqs:DeleteMessage is missing"
    )


def test_a_key_that_cannot_be_used_names_the_kms_permission() -> None:
    error = answer(
        "KMS.DisabledException",
        "arn:aws:kms:eu-west-1:1:key/k is disabled.",
        query_code="KmsDisabled",
    )

    detail = edge_fault(error, Edge.QUEUE).detail

    assert "kms:Decrypt" in detail
    assert "key/k is disabled" in detail


def test_a_role_that_cannot_be_assumed_names_the_permission_of_sts() -> None:
    text = (
        "User: arn:aws:iam::1:user/u is not authorized to perform: sts:AssumeRole on resource: "
        "arn:aws:iam::1:role/r"
    )

    fault = edge_fault(
        answer("AccessDenied", text, operation="AssumeRole", status=403), Edge.SAGEMAKER
    )

    assert fault.reason is Reason.CREDENTIALS
    assert "sts:AssumeRole is missing on arn:aws:iam::1:role/r" in fault.detail


@pytest.mark.parametrize(
    "error",
    [
        answer(
            "SignatureDoesNotMatch",
            "The Canonical String for this request should have been 'POST / "
            "x-amz-security-token:SECRET AKIASECRETSECRETSE'",
        ),
        answer("InvalidAccessKeyId", "The key AKIASECRETSECRETSECR does not exist SECRET"),
        answer("SomethingNew", "your key ASIASECRETSECRETSECR is odd"),
        botocore_errors.CredentialRetrievalError(
            provider="custom-process", error_msg="stderr: SECRET"
        ),
        botocore_errors.TokenRetrievalError(provider="sso", error_msg="SECRET"),
        botocore_errors.EndpointConnectionError(endpoint_url="http://user:SECRET@host/"),
        botocore_errors.ProxyConnectionError(proxy_url="http://user:SECRET@proxy:3128"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_secret_is_repeated(error: Exception) -> None:
    fault = edge_fault(error, Edge.QUEUE)

    assert "SECRET" not in fault.detail
    assert "SECRET" not in str(fault)


def test_a_wrong_signature_points_at_the_clock() -> None:
    assert "clock" in edge_fault(answer("SignatureDoesNotMatch"), Edge.QUEUE).detail


def test_the_setting_that_names_another_address_is_in_the_advice() -> None:
    error = botocore_errors.EndpointConnectionError(endpoint_url=ENDPOINT)

    assert "aws.sqs_endpoint_url" in edge_fault(error, Edge.QUEUE).detail
    assert "aws.sagemaker_endpoint_url" in edge_fault(error, Edge.SAGEMAKER).detail


def test_a_long_text_of_a_service_is_shortened() -> None:
    assert len(edge_fault(answer("SomethingNew", "long\n" * 1000), Edge.QUEUE).detail) < 400


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (answer("ValidationException", "Requested resource not found."), CallResult.NOT_FOUND),
        (answer("ValidationException", "Resource does not exist."), CallResult.NOT_FOUND),
        (answer("ResourceNotFound", "Requested resource not found."), CallResult.NOT_FOUND),
        (
            answer("ValidationException", "1 validation error detected: Value 'x_y'"),
            CallResult.REFUSED,
        ),
        (answer("InvalidMessageContents"), CallResult.REFUSED),
        (answer("InvalidAttributeValue"), CallResult.REFUSED),
        (answer("QueueDoesNotExist"), CallResult.NOT_FOUND),
        (answer("Throttling"), CallResult.THROTTLED),
        (answer("AccessDenied"), CallResult.DENIED),
        (answer("ExpiredToken"), CallResult.CREDENTIALS),
        (answer("503", status=503), CallResult.UNAVAILABLE),
        (botocore_errors.ReadTimeoutError(endpoint_url=ENDPOINT), CallResult.UNREACHABLE),
        (ResponseParserError("x"), CallResult.NOT_THE_API),
        (answer("SomethingNew"), CallResult.ERROR),
        (botocore_errors.ParamValidationError(report="x"), CallResult.ERROR),
    ],
    ids=str,
)
def test_every_failed_call_is_counted_under_a_word_of_the_set(
    error: Exception, result: CallResult
) -> None:
    seen: list[tuple[str, str, CallResult]] = []

    with (
        pytest.raises(type(error)),
        observed(lambda *call: seen.append(call), SQS_SERVICE, "ReceiveMessage"),
    ):
        raise error

    assert call_result(error) is result
    assert seen == [("sqs", "ReceiveMessage", result)]


def test_a_call_that_worked_is_counted_once() -> None:
    seen: list[CallResult] = []

    with observed(
        lambda _service, _operation, result: seen.append(result), SQS_SERVICE, "ReceiveMessage"
    ):
        pass

    assert seen == [CallResult.OK]


def test_expired_credentials_of_a_provider_are_an_error_of_credentials() -> None:
    # botocore raises a bare RuntimeError here
    error = RuntimeError(
        "Credentials were refreshed, but the refreshed credentials are still expired."
    )

    with (
        pytest.raises(botocore_errors.CredentialRetrievalError) as caught,
        observed(lambda *_: None, SQS_SERVICE, "ReceiveMessage"),
    ):
        raise error

    assert edge_fault(caught.value, Edge.QUEUE).reason is Reason.CREDENTIALS


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a bug"),
        KeyError("Key"),
        OverflowError("date value out of range"),
        RecursionError("maximum recursion depth exceeded"),
        UnicodeDecodeError("utf-8", b"Zugriff verweigert f\xfcr", 20, 21, "invalid start byte"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_nobody_foresees_under_a_call_is_the_edges_fault_and_quotes_nothing(
    error: Exception,
) -> None:
    results: list[CallResult] = []
    with (
        capture_logs() as logs,
        pytest.raises(EdgeFault) as caught,
        edge_call(lambda _s, _o, result: results.append(result), Edge.QUEUE, "ReceiveMessage"),
    ):
        raise error
    fault = caught.value
    assert (fault.reason, fault.curable) == (Reason.NOT_THE_API, True)
    assert type(error).__name__ in fault.detail
    assert str(error) not in fault.detail + str(logs)
    assert results == [CallResult.NOT_THE_API]


def test_the_traceback_of_an_unforeseen_error_is_logged_once() -> None:
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(EdgeFault), edge_call(unobserved, Edge.QUEUE, "ReceiveMessage"):
                raise ZeroDivisionError
    [line] = logs
    assert (line["event"], line["error"]) == ("unforeseen error in a call", "ZeroDivisionError")
    assert "raise ZeroDivisionError" in line["traceback"]


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_an_end_of_the_program_passes_a_call(error: type[BaseException]) -> None:
    with pytest.raises(error), edge_call(unobserved, Edge.QUEUE, "ReceiveMessage"):
        raise error


def test_only_the_words_of_sagemaker_say_that_a_job_is_missing() -> None:
    assert job_is_missing(answer("ValidationException", "Requested resource not found."))
    assert not job_is_missing(answer("ValidationException", "1 validation error detected"))
    assert not job_is_missing(answer("404", "page not found", status=404))
    assert not job_is_missing(
        botocore_errors.EndpointConnectionError(endpoint_url="http://not-found")
    )
