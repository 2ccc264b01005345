"""Requests and answers of the HTTP targets, and how errors quote them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daemon.text import shortened

if TYPE_CHECKING:
    from collections.abc import Callable

OK = range(200, 300)
REDIRECT = range(300, 400)
SERVER_ERROR = 500
"""And above."""

_READ_BYTES = 4096
_LONGEST_SECRET_BYTES = 8192
"""All headers together are shorter."""


@dataclass(frozen=True, slots=True)
class Request:
    """The parts of a request that errors mention."""

    operation: str
    url: str
    """Without query and credentials."""
    body_bytes: int
    scrub: Callable[[str], str] = field(default=str)
    """Redacts secrets in text that the server may have echoed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    content_type: str
    body: bytes
    location: str = ""
    """Where a redirect points to."""


def shortened_line(text: str, limit: int) -> str:
    """One line of at most `limit` characters."""
    return shortened(" ".join(text.split()), limit)


def first_words(answer: Answer, request: Request) -> str:
    """The beginning of an answer, without echoed secrets, to be quoted."""
    # Redacted before it is shortened: redaction does not find half a secret.
    text = request.scrub(
        answer.body[: _READ_BYTES + _LONGEST_SECRET_BYTES].decode(errors="replace")
    )
    whole = len(answer.body) <= _READ_BYTES + _LONGEST_SECRET_BYTES
    return shortened_line(text if whole else text[:-_LONGEST_SECRET_BYTES], 80)


def content_type(answer: Answer, request: Request) -> str:
    """The answer's content type, without echoed secrets, to be quoted."""
    return shortened_line(request.scrub(answer.content_type), 80)


def what_came(answer: Answer, request: Request) -> str:
    """An answer that is not the API's, in a few words: status, content type, redirect, text."""
    came = f"{answer.status} {content_type(answer, request) or 'without a content type'}"
    if answer.status in REDIRECT:
        place = shortened_line(request.scrub(answer.location), 200)
        return f"{came}, a redirect to {place or 'nowhere'}"
    words = first_words(answer, request)
    return f"{came} {words!r}" if words else came


def json_object(answer: Answer) -> dict[str, Any] | None:
    """The JSON object that the answer is; None for anything else."""
    if "json" not in answer.content_type.lower():
        return None
    try:
        content = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
