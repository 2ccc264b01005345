"""Classifies the errors of ModelDB V2's REST API.

Its proxy answers ``{"error": …, "message": …, "code": <gRPC code>}`` with the HTTP status of the
code, and leaves empty members out. Only such an answer is the API's own word; any other comes from
a proxy in between or from another server. Observed on ModelDB 2.0.8.1.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from daemon.targets.http.answers import (
    OK,
    SERVER_ERROR,
    content_type,
    first_words,
    json_object,
    shortened_line,
    what_came,
)
from daemon.targets.http.errors import CallError

if TYPE_CHECKING:
    from daemon.targets.http.answers import Answer, Request


class ApiErrorKind(StrEnum):
    """Kinds of failure. The words are metric labels."""

    # of this request
    ABSENT = "absent"  # does not exist (any more), or is not ours to see
    EXISTS = "exists"  # the name is taken
    DUPLICATES = "duplicates"  # several entities have this name
    INVALID = "invalid"
    TOO_LARGE = "too_large"
    UNIMPLEMENTED = "unimplemented"
    INTERNAL = "internal"  # the server failed and says why
    # the server failed and does not say why: a value it cannot store, or a dead database connection
    BARE_500 = "bare_500"
    # of the server as a whole
    DATABASE_DOWN = "database_down"
    UNAVAILABLE = "unavailable"
    THROTTLED = "throttled"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    UNAUTHENTICATED = "unauthenticated"
    HEADERS = "headers"  # the configured headers are too large
    NOT_THE_API = "not_the_api"  # something else answers at this address

    @property
    def is_of_the_server(self) -> bool:
        """Whether every call would fail this way now."""
        return self in _OF_THE_SERVER


_OF_THE_SERVER = frozenset(
    {
        ApiErrorKind.DATABASE_DOWN,
        ApiErrorKind.UNAVAILABLE,
        ApiErrorKind.THROTTLED,
        ApiErrorKind.TIMEOUT,
        ApiErrorKind.CONNECTION,
        ApiErrorKind.UNAUTHENTICATED,
        ApiErrorKind.HEADERS,
        ApiErrorKind.NOT_THE_API,
    }
)


class ApiError(CallError):
    """A call of ModelDB V2 that did not succeed.

    Attributes:
        code: gRPC code; None when the answer is not the API's own word.
    """

    kind: ApiErrorKind

    def __init__(
        self,
        kind: ApiErrorKind,
        operation: str,
        detail: str,
        *,
        status: int | None = None,
        code: int | None = None,
        outcome_unknown: bool = False,
        unforeseen: bool = False,
    ) -> None:
        super().__init__(
            kind,
            operation,
            detail,
            status=status,
            outcome_unknown=outcome_unknown,
            unforeseen=unforeseen,
        )
        self.code = code


_HOW_TO_ADDRESS = (
    "target.url should look like http://host:8080/v1 (ModelDB's REST proxy) or "
    "http://host:3000/api/v1/modeldb (its web front end)"
)

_RESOURCE_EXHAUSTED = 8
"""The gRPC code."""

_BODY_LIMIT_BYTES = 4 * 1024 * 1024
"""The backend's limit, of the request as protobuf."""

_STATUS_OF_CODE = {
    1: {408},
    2: {500},
    3: {400},
    4: {504},
    5: {404},
    6: {409},
    7: {403},
    8: {429},
    9: {400, 412},
    10: {409},
    11: {400},
    12: {501},
    13: {500},
    14: {503},
    15: {500},
    16: {401},
}
"""grpc-gateway's HTTPStatusFromCode."""

_KIND_OF_CODE = {
    2: ApiErrorKind.BARE_500,
    3: ApiErrorKind.INVALID,
    4: ApiErrorKind.TIMEOUT,
    5: ApiErrorKind.ABSENT,
    6: ApiErrorKind.EXISTS,
    7: ApiErrorKind.ABSENT,  # "Access is denied. … not found for given ids": deleted or unknown ids
    12: ApiErrorKind.UNIMPLEMENTED,
    14: ApiErrorKind.UNAVAILABLE,
    16: ApiErrorKind.UNAUTHENTICATED,
}
"""Codes whose meaning does not depend on the text. Codes 1, 8 and 13 do; others were never seen."""

_SURELY_NOT_DONE = frozenset(
    {ApiErrorKind.DUPLICATES, ApiErrorKind.HEADERS, ApiErrorKind.UNIMPLEMENTED}
)
"""Server errors (5xx) raised before anything was processed."""


def judged(answer: Answer, request: Request) -> dict[str, Any]:
    """The JSON object of a successful answer.

    Raises:
        ApiError: for any other answer.
    """
    content = json_object(answer)
    if answer.status in OK:
        if content is None:
            raise not_the_api(answer, request)
        return content
    if content is None or not _is_the_apis_word(answer.status, content):
        raise _from_in_between(answer, request)
    raise _from_the_api(answer.status, content, request)


def not_the_api(answer: Answer, request: Request, why: str = "") -> ApiError:
    """The error for another server, or a ModelDB that this client does not understand.

    Args:
        why: what a JSON answer lacks.
    """
    because = f" ({why})" if why else ""
    return ApiError(
        ApiErrorKind.NOT_THE_API,
        request.operation,
        f"{request.url} answered {what_came(answer, request)}{because} instead of ModelDB's API; "
        f"{_HOW_TO_ADDRESS}",
        status=answer.status,
        outcome_unknown=answer.status in OK,
    )


def _is_the_apis_word(status: int, content: dict[str, Any]) -> bool:
    code = content.get("code")
    return type(code) is int and status in _STATUS_OF_CODE.get(code, ())


def _from_the_api(status: int, content: dict[str, Any], request: Request) -> ApiError:
    code: int = content["code"]
    text = str(content.get("message") or content.get("error") or "")
    kind = _kind_of(code, text, request)
    words = shortened_line(request.scrub(text), 500) or "no text"
    hint = ""
    if kind is ApiErrorKind.HEADERS:
        hint = (
            "; shorten target.headers or the credentials: all headers together must stay below 8 kB"
        )
    elif kind is ApiErrorKind.UNAUTHENTICATED:
        hint = "; check target.auth"
    elif kind is ApiErrorKind.NOT_THE_API:
        hint = f"; {_HOW_TO_ADDRESS}, of a ModelDB 2.0"
    # An answer over the proxy's limit (code 8) comes after the create was processed (seen).
    unknown = (
        (status >= SERVER_ERROR and kind not in _SURELY_NOT_DONE)
        or code == _RESOURCE_EXHAUSTED
        or (code == 1 and kind is not ApiErrorKind.TOO_LARGE)
    )
    return ApiError(
        kind,
        request.operation,
        f"{status} code {code}: {words}{hint}",
        status=status,
        code=code,
        outcome_unknown=unknown,
    )


def _kind_of(code: int, text: str, request: Request) -> ApiErrorKind:
    match code:
        case 1:
            # A body over the limit ends in a cancelled stream; a small one may, too, when the
            # backend stops.
            return (
                ApiErrorKind.TOO_LARGE
                if request.body_bytes > _BODY_LIMIT_BYTES // 4
                else ApiErrorKind.UNAVAILABLE
            )
        case 8:
            return ApiErrorKind.TOO_LARGE if "larger than max" in text else ApiErrorKind.THROTTLED
        case 12 if text.startswith(("Method not found", "unknown service", "unknown method")):
            return ApiErrorKind.NOT_THE_API
        case 13:
            return _kind_of_internal(text)
        case _:
            return _KIND_OF_CODE.get(code, ApiErrorKind.INTERNAL)


def _kind_of_internal(text: str) -> ApiErrorKind:
    if "DB connection" in text or text.startswith("UNAVAILABLE"):
        return ApiErrorKind.DATABASE_DOWN
    if text.startswith("Multiple"):
        return ApiErrorKind.DUPLICATES
    if text.startswith("header list size"):
        return ApiErrorKind.HEADERS
    # grpc-go's texts for a broken connection
    if "RST_STREAM" in text or "without sending trailers" in text:
        return ApiErrorKind.UNAVAILABLE
    return ApiErrorKind.INTERNAL


def _from_in_between(answer: Answer, request: Request) -> ApiError:
    """The error for an answer of a proxy or web server, which is never a verdict on the job."""
    status = answer.status
    words = first_words(answer, request)
    said = (
        f"{request.url} answered {status} {content_type(answer, request)} {words!r}, which is "
        "not ModelDB's own word"
    )

    def error(kind: ApiErrorKind, hint: str, *, unknown: bool) -> ApiError:
        return ApiError(
            kind, request.operation, f"{said}; {hint}", status=status, outcome_unknown=unknown
        )

    match status:
        case 401 | 403 | 407:
            return error(ApiErrorKind.UNAUTHENTICATED, "check target.auth", unknown=False)
        case 408:
            return error(
                ApiErrorKind.TIMEOUT,
                "something between here and ModelDB gave up waiting",
                unknown=True,
            )
        case 413:
            return error(
                ApiErrorKind.TOO_LARGE,
                "raise the body limit of what stands before ModelDB",
                unknown=False,
            )
        case 429:
            return error(
                ApiErrorKind.THROTTLED, "something before ModelDB limits the rate", unknown=False
            )
        case _ if status >= SERVER_ERROR:
            return error(
                ApiErrorKind.UNAVAILABLE, "ModelDB behind it does not answer", unknown=True
            )
        case _:
            return not_the_api(answer, request)
