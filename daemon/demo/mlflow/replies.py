"""How MLflow's server words its answers: JSON, its errors, and the pages of its web framework."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

BAD_REQUEST = "BAD_REQUEST"
INTERNAL_ERROR = "INTERNAL_ERROR"
INVALID_PARAMETER_VALUE = "INVALID_PARAMETER_VALUE"
RESOURCE_ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"
RESOURCE_DOES_NOT_EXIST = "RESOURCE_DOES_NOT_EXIST"
TEMPORARILY_UNAVAILABLE = "TEMPORARILY_UNAVAILABLE"

_STATUSES = {
    BAD_REQUEST: 400,
    INTERNAL_ERROR: 500,
    INVALID_PARAMETER_VALUE: 400,
    RESOURCE_ALREADY_EXISTS: 400,
    RESOURCE_DOES_NOT_EXIST: 404,
    TEMPORARILY_UNAVAILABLE: 503,
}
# sqlstate and error_class, which 3.x adds.
_CLASSES = {
    BAD_REQUEST: ("KAM00", "INVALID_PARAMETER_VALUE"),
    INTERNAL_ERROR: ("XXM00", "CLIENT_INTERNAL_ERROR"),
    INVALID_PARAMETER_VALUE: ("KAM00", "INVALID_PARAMETER_VALUE"),
    RESOURCE_ALREADY_EXISTS: ("KAM00", "RESOURCE_ALREADY_EXISTS"),
    RESOURCE_DOES_NOT_EXIST: ("KAM00", "RESOURCE_NOT_FOUND"),
    TEMPORARILY_UNAVAILABLE: ("XXM00", "CLIENT_INTERNAL_ERROR"),
}
JSON_TYPE = "application/json"
HTML_TYPE = "text/html; charset=utf-8"
_TEXT_TYPE = "text/plain"
_NOT_FOUND = (
    "The requested URL was not found on the server. If you entered the URL manually please check "
    "your spelling and try again."
)
_FAILED = (
    "The server encountered an internal error and was unable to complete your request. Either the "
    "server is overloaded or there is an error in the application."
)
_PAGES = {
    404: ("Not Found", _NOT_FOUND),
    405: ("Method Not Allowed", "The method is not allowed for the requested URL."),
    500: ("Internal Server Error", _FAILED),
}


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer. `headers` has what stands beside the content type and the length."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class ServerError(Exception):
    """An error as the API reports it, in JSON."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def reply(self, *, names_class: bool) -> Reply:
        """The answer.

        Args:
            names_class: whether it has ``sqlstate`` and ``error_class``, as in 3.x.
        """
        body = {"error_code": self.code, "message": self.message}
        if names_class:
            body["sqlstate"], body["error_class"] = _CLASSES[self.code]
        return Reply(_STATUSES[self.code], JSON_TYPE, json.dumps(body).encode())


def invalid(message: str) -> ServerError:
    """400 INVALID_PARAMETER_VALUE."""
    return ServerError(INVALID_PARAMETER_VALUE, message)


class MissingEntity(ServerError):
    """404 RESOURCE_DOES_NOT_EXIST of an experiment, a run or a model that a call names."""

    def __init__(self, message: str) -> None:
        super().__init__(RESOURCE_DOES_NOT_EXIST, message)


def absent(message: str) -> ServerError:
    """404 RESOURCE_DOES_NOT_EXIST."""
    return ServerError(RESOURCE_DOES_NOT_EXIST, message)


class Crash(Exception):
    """The server fails in its own code and answers with the page of its web framework, 500."""


def json_reply(body: Mapping[str, Any]) -> Reply:
    """200 with a message, printed as the server does."""
    return Reply(200, JSON_TYPE, json.dumps(body, indent=2).encode())


def page(status: int, headers: Mapping[str, str] | None = None) -> Reply:
    """A page of the web framework: 404, 405 or 500."""
    title, text = _PAGES[status]
    body = (
        f"<!doctype html>\n<html lang=en>\n<title>{status} {title}</title>\n<h1>{title}</h1>\n"
        f"<p>{text}</p>\n"
    )
    return Reply(status, HTML_TYPE, body.encode(), headers or {})


def text(status: int, words: str, content_type: str = _TEXT_TYPE) -> Reply:
    return Reply(status, content_type, words.encode())
