"""Classifies the errors of MLflow's REST API.

It answers ``{"error_code": …, "message": …}`` with the HTTP status of the code; only such an answer
is the API's own word. Any other comes from a proxy in between, from another server, or from the web
framework and the plug-ins around the API. Observed on MLflow 3.17.2 and 2.22.5.

Messages are often raw SQL with the values in it. Errors quote only what stands before those.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from yarl import URL

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
    ABSENT = "absent"  # does not exist (any more), or a lagging replica does not know it yet
    EXISTS = "exists"  # the name is taken
    INACTIVE = "inactive"  # a person deleted the experiment or the run, which can be restored
    INVALID = "invalid"  # always the API's own verdict
    DATABASE_REFUSED = "database_refused"  # does not fit the database: length, key or schema
    ACCESS_DENIED = "access_denied"  # no permission on this experiment or model
    INTERNAL = "internal"  # it failed: a value that it cannot store, a size, or anything else
    # of the server as a whole
    DATABASE_DOWN = "database_down"
    UNAVAILABLE = "unavailable"
    THROTTLED = "throttled"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    UNAUTHENTICATED = "unauthenticated"
    HOST_REFUSED = "host_refused"  # MLflow does not serve under this host name
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
        ApiErrorKind.HOST_REFUSED,
        ApiErrorKind.NOT_THE_API,
    }
)


class ApiError(CallError):
    """A call of MLflow that did not succeed.

    Attributes:
        code: the ``error_code``; None when the answer is not the API's own word.
    """

    kind: ApiErrorKind

    def __init__(
        self,
        kind: ApiErrorKind,
        operation: str,
        detail: str,
        *,
        status: int | None = None,
        code: str | None = None,
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
    "target.tracking_uri should be the address of MLflow's web pages, like http://host:5000, with "
    "the --static-prefix of the server if it has one"
)

_OWN_WORDS = {
    # error_code: HTTP status, kind, whether a write may have been processed
    "BAD_REQUEST": (400, ApiErrorKind.DATABASE_REFUSED, False),
    "INVALID_PARAMETER_VALUE": (400, ApiErrorKind.INVALID, False),
    "RESOURCE_ALREADY_EXISTS": (400, ApiErrorKind.EXISTS, False),
    "CUSTOMER_UNAUTHORIZED": (401, ApiErrorKind.UNAUTHENTICATED, False),
    "UNAUTHENTICATED": (401, ApiErrorKind.UNAUTHENTICATED, False),
    "PERMISSION_DENIED": (403, ApiErrorKind.ACCESS_DENIED, False),
    "ENDPOINT_NOT_FOUND": (404, ApiErrorKind.NOT_THE_API, False),
    "NOT_FOUND": (404, ApiErrorKind.ABSENT, False),
    "RESOURCE_DOES_NOT_EXIST": (404, ApiErrorKind.ABSENT, False),
    "ABORTED": (409, ApiErrorKind.INTERNAL, True),
    "ALREADY_EXISTS": (409, ApiErrorKind.EXISTS, False),
    "RESOURCE_CONFLICT": (409, ApiErrorKind.INTERNAL, True),
    "REQUEST_LIMIT_EXCEEDED": (429, ApiErrorKind.THROTTLED, False),
    "RESOURCE_EXHAUSTED": (429, ApiErrorKind.THROTTLED, False),
    "CANCELLED": (499, ApiErrorKind.UNAVAILABLE, True),
    "DATA_LOSS": (500, ApiErrorKind.INTERNAL, True),
    "FEATURE_DISABLED": (500, ApiErrorKind.NOT_THE_API, False),
    "INTERNAL_ERROR": (500, ApiErrorKind.INTERNAL, True),
    "INVALID_STATE": (500, ApiErrorKind.INTERNAL, True),
    "NOT_IMPLEMENTED": (501, ApiErrorKind.NOT_THE_API, False),
    "TEMPORARILY_UNAVAILABLE": (503, ApiErrorKind.DATABASE_DOWN, True),
    "DEADLINE_EXCEEDED": (504, ApiErrorKind.TIMEOUT, True),
}
"""The error codes of the API (`mlflow.exceptions`)."""

_INACTIVE = "must be in the 'active' state"

_FROM_SQLALCHEMY = re.compile(r"https://sqlalche\.me/e/\w+/(\w+)")
_ROLLED_BACK = frozenset({"9h9h", "f405", "gkpj"})
"""SQLAlchemy's codes of DataError, ProgrammingError and IntegrityError: a statement was refused,
and the transaction with it. After others, such as InterfaceError, it may have been committed."""

_VALUES_FOLLOW = re.compile(
    r"""\[SQL:|\[parameters:|\(Background\ on|\bDETAIL:|\blogged=|\bDuplicate\ entry\b
    |\b(?:old_|new_)?values?'?+\s*[:=]?\s*(?=['"\[{(])""",
    re.VERBOSE | re.IGNORECASE,
)
"""What stands in messages before the values of a request or of the database."""


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
    code = None if content is None else content.get("error_code")
    if content is None or not isinstance(code, str) or code not in _OWN_WORDS:
        raise _from_in_between(answer, request)
    status, kind, unknown = _OWN_WORDS[code]
    if status != answer.status:
        raise _from_in_between(answer, request)
    raise _from_the_api(code, str(content.get("message") or ""), request, status, kind, unknown)


def not_the_api(answer: Answer, request: Request, why: str = "") -> ApiError:
    """The error for another server, or an MLflow that this client does not understand.

    Args:
        why: what a JSON answer lacks.
    """
    because = f" ({why})" if why else ""
    return ApiError(
        ApiErrorKind.NOT_THE_API,
        request.operation,
        f"{request.url} answered {what_came(answer, request)}{because} instead of MLflow's API; "
        f"{_HOW_TO_ADDRESS}",
        status=answer.status,
        outcome_unknown=answer.status in OK,
    )


def without_values(message: str) -> str:
    """As much of an API's message as holds no value of a request or of the database: what is wrong
    with which parameter, or what the database says before it shows the statement.
    """
    text = _INVALID_VALUE.sub("Invalid value … for parameter '", message, count=1)
    found = _VALUES_FOLLOW.search(text, len(_ELIDED) if text.startswith(_ELIDED) else 0)
    if found is None:
        return text
    kept = text[: found.start()].rstrip(" \n(,:=")
    return f"{kept} …" if kept else "…"


_ELIDED = "Invalid value …"
_INVALID_VALUE = re.compile(r"\AInvalid value .* for parameter '", re.DOTALL)


def _from_the_api(
    code: str,
    message: str,
    request: Request,
    status: int,
    kind: ApiErrorKind,
    unknown: bool,  # noqa: FBT001 - a column of the table
) -> ApiError:
    hint = ""
    if kind is ApiErrorKind.INVALID and _INACTIVE in message:
        kind = ApiErrorKind.INACTIVE
    elif kind is ApiErrorKind.DATABASE_REFUSED:
        errors = set(_FROM_SQLALCHEMY.findall(message))
        unknown = not errors <= _ROLLED_BACK
    elif kind is ApiErrorKind.UNAUTHENTICATED:
        hint = "; check target.auth"
    elif kind is ApiErrorKind.NOT_THE_API:
        hint = (
            "; this takes MLflow 2.16 or newer with a database behind it, and for target.workspace "
            "enabled workspaces"
        )
    # Redacted before it is cut: redaction does not find half a secret.
    words = shortened_line(without_values(request.scrub(message)), 300) or "no text"
    return ApiError(
        kind,
        request.operation,
        f"{status} {code}: {words}{hint}",
        status=status,
        code=code,
        outcome_unknown=unknown,
    )


def _from_in_between(answer: Answer, request: Request) -> ApiError:
    """The error for an answer that is not the API's own word: of a proxy, a login, a web server."""
    taken_as = _taken_as(answer.status, answer.body[:4096].decode(errors="replace"), request)
    if taken_as is None:
        return not_the_api(answer, request)
    kind, hint = taken_as
    return ApiError(
        kind,
        request.operation,
        f"{request.url} answered {answer.status} {content_type(answer, request)} "
        f"{_words(answer, request)!r}, which is not the API's own word; {hint}",
        status=answer.status,
        outcome_unknown=kind is ApiErrorKind.TIMEOUT or answer.status >= SERVER_ERROR,
    )


def _words(answer: Answer, request: Request) -> str:
    """What is quoted: of JSON, such as AWS's answers to what it does not allow, the message."""
    content = json_object(answer) or {}
    for member in ("message", "Message"):
        if isinstance(text := content.get(member), str):
            return shortened_line(request.scrub(text), 300)
    return first_words(answer, request)


def _taken_as(status: int, text: str, request: Request) -> tuple[ApiErrorKind, str] | None:
    """Kind and hint of what stands around the API; None for what is none of its answers."""
    for of_status, words, kind, hint in _AROUND_THE_API:
        if status == of_status and words.search(text):
            url = URL(request.url)
            host = f"[{url.host}]" if ":" in (url.host or "") else url.host
            return kind, hint.format(host=host, port=url.port)
    if status >= SERVER_ERROR:
        return ApiErrorKind.UNAVAILABLE, "MLflow behind it does not answer"
    return None


_ANY = re.compile("")

_AROUND_THE_API = (
    # HTTP status, what the text contains, kind, hint
    (
        403,
        re.compile(r"\AInvalid Host header"),
        ApiErrorKind.HOST_REFUSED,
        "start MLflow with --allowed-hosts {host},{host}:{port}",
    ),
    (
        403,
        re.compile(r"\ACross-origin request blocked"),
        ApiErrorKind.HOST_REFUSED,
        "something between here and MLflow adds the header Origin, which must go",
    ),
    (
        403,
        re.compile(r"\A\s*Permission denied\s*\Z"),
        ApiErrorKind.ACCESS_DENIED,
        "the user of target.auth needs the permission EDIT on this experiment or model",
    ),
    # IAM before a managed server; the text names the action
    (
        403,
        re.compile(r"not authorized to perform"),
        ApiErrorKind.UNAUTHENTICATED,
        "the daemon's role needs this permission on the managed server",
    ),
    (401, _ANY, ApiErrorKind.UNAUTHENTICATED, "check target.auth"),
    (403, _ANY, ApiErrorKind.UNAUTHENTICATED, "check target.auth and what its login may do"),
    (407, _ANY, ApiErrorKind.UNAUTHENTICATED, "the proxy before MLflow wants a login of its own"),
    (
        404,
        re.compile(r"Tracking server could not be found"),
        ApiErrorKind.UNAVAILABLE,
        "the managed server is stopped or deleted: start it, or change target.tracking_uri",
    ),
    (408, _ANY, ApiErrorKind.TIMEOUT, "something between here and MLflow gave up waiting"),
    # of this request, and no verdict of MLflow's on it
    (413, _ANY, ApiErrorKind.INTERNAL, "raise the body limit of what stands before MLflow"),
    (429, _ANY, ApiErrorKind.THROTTLED, "something before MLflow limits the rate"),
    # the web frameworks of MLflow, on an error that it did not expect
    (
        500,
        re.compile(r"The server encountered an internal error|\AInternal Server Error\Z"),
        ApiErrorKind.INTERNAL,
        "MLflow's log says more",
    ),
)
