"""The form of a rejected message in the dead-letter queue, and the redacted body that is kept if no
queue takes it.

SQS's limits (API reference, SendMessage and MessageAttributeValue): body and attributes together
are at most 1 MiB, where an attribute counts with its name, type and value; values are not empty;
only characters of XML 1.0.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daemon.aws.ports import OutgoingMessage
from daemon.redaction.redactor import Redactor
from daemon.text import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.reasons import Reason

REASON = "reason"
DETAIL = "detail"
"""Names of the message attributes."""

MAX_MESSAGE_BYTES = 1_048_576
MAX_DETAIL_CHARACTERS = 1_000

_SEARCHED_LIMIT = 10 * MAX_DETAIL_CHARACTERS
_REDACTOR = Redactor()

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_PRIVATE_KEYS = {"hyperparameters", "environment", "failurereason"}
"""A failure reason quotes the command line with all hyperparameters."""
_MAX_DEPTH = 64
"""Events are never nested this deeply; anything deeper is dropped from a kept body."""
_MAX_DIGITS = 4_300
"""Python refuses to parse an integer with more digits."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that SQS accepts."""

    body: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    """String attributes by name; empty if they do not fit beside the body."""


def dead_letter(body: str, reason: Reason, detail: str) -> DeadLetter | None:
    """A rejected message for the dead-letter queue.

    Args:
        body: as it was received.
        reason: why it was rejected.
        detail: what is needed to fix it; shortened and cleaned here.

    Returns:
        None if SQS does not accept the body at all: keep its `redacted_body`.
    """
    if not body or _NOT_XML.search(body):
        return None
    if OutgoingMessage(body).size > MAX_MESSAGE_BYTES:
        return None
    attributes = {REASON: reason.value, DETAIL: _attribute_text(detail) or reason.value}
    if OutgoingMessage(body, attributes).size > MAX_MESSAGE_BYTES:
        return DeadLetter(body)
    return DeadLetter(body, attributes)


def redacted_body(body: str) -> str:
    """A body without hyperparameters, environment and failure reason at any depth, to be kept.

    JSON inside strings (SNS, doubly encoded bodies) is searched too. A body that is not JSON or
    contains none of them is returned unchanged. What is a secret by its key or its shape is
    replaced in every body.
    """
    parsed, found = _redacted_text(body, 0)
    return _REDACTOR.text(parsed if found else body).text


def _attribute_text(text: str) -> str:
    safe = _REDACTOR.text(text[:_SEARCHED_LIMIT]).text
    return shortened(_NOT_XML.sub("\ufffd", safe).strip(), MAX_DETAIL_CHARACTERS)


def _redacted_text(text: str, depth: int) -> tuple[str, bool]:
    """JSON text without private members, and whether it had any."""
    if not text.lstrip().startswith(("{", "[", '"')):
        return text, False
    try:
        # objects as pairs: a repeated key must not hide the value of its first occurrence
        value = json.loads(text, parse_int=_whole_number, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return text, False
    redacted, found = _redacted(value, depth)
    return (json.dumps(redacted), True) if found else (text, False)


def _redacted(value: Any, depth: int) -> tuple[Any, bool]:  # noqa: ANN401 - any JSON
    if depth > _MAX_DEPTH:
        return None, True
    if isinstance(value, str):
        return _redacted_text(value, depth + 1)
    if isinstance(value, list):
        items = [_redacted(item, depth + 1) for item in value]
        return [item for item, _ in items], any(found for _, found in items)
    if isinstance(value, tuple):
        members = [
            (key, _redacted(item, depth + 1))
            for key, item in value
            if key.lower() not in _PRIVATE_KEYS
        ]
        found = len(members) < len(value) or any(found for _, (_, found) in members)
        return {key: item for key, (item, _) in members}, found
    return value, False


def _whole_number(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_DIGITS else digits
