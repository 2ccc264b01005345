"""What a rejected message looks like in the dead-letter queue, and what is kept of it where no
queue takes it.

SQS's own rules (API reference, SendMessage and MessageAttributeValue): body and attributes together
at most 1 MiB, an attribute counts with its name, type and value, no value is empty, and both hold
only the characters of XML 1.0.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daemon.text import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.outcome import Reason

REASON = "reason"
DETAIL = "detail"
"""Names of the message attributes."""

MAX_MESSAGE_BYTES = 1_048_576
MAX_DETAIL_CHARACTERS = 1_000

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_PRIVATE_KEYS = {"hyperparameters", "environment", "failurereason"}
"""A failure reason quotes the command line, hyperparameters and all."""
_MAX_DEPTH = 64
"""No event nests so deep; what is deeper in a kept body is left out, unseen."""
_MAX_DIGITS = 4_300
"""Python refuses to make a number of more digits."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message as SQS takes it."""

    body: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    """String attributes by name; empty when they do not fit beside the body."""


def dead_letter(body: str, reason: Reason, detail: str) -> DeadLetter | None:
    """A rejected message for the dead-letter queue.

    Args:
        body: as it was received.
        reason: why it was rejected.
        detail: what a person needs to mend it; shortened and cleaned here.

    Returns:
        None when SQS will not take the body at all: keep `redacted_body` of it.
    """
    if not body or _NOT_XML.search(body):
        return None
    size = len(body.encode())
    if size > MAX_MESSAGE_BYTES:
        return None
    attributes = {REASON: reason.value, DETAIL: _attribute_text(detail) or reason.value}
    if (
        size + sum(_attribute_size(name, value) for name, value in attributes.items())
        > MAX_MESSAGE_BYTES
    ):
        return DeadLetter(body)
    return DeadLetter(body, attributes)


def redacted_body(body: str) -> str:
    """A body to keep: without hyperparameters, environment and failure reason, wherever they are in
    it.

    JSON inside strings (SNS, doubly encoded bodies) is searched too. A body that is no JSON, or
    holds none of them, is returned as it is.
    """
    parsed, found = _redacted_text(body, 0)
    return parsed if found else body


def _attribute_text(text: str) -> str:
    return shortened(_NOT_XML.sub("\ufffd", text).strip(), MAX_DETAIL_CHARACTERS)


def _attribute_size(name: str, value: str) -> int:
    return len(name.encode()) + len("String") + len(value.encode())


def _redacted_text(text: str, depth: int) -> tuple[str, bool]:
    """JSON text without what is private, and whether there was any."""
    if not text.lstrip().startswith(("{", "[", '"')):
        return text, False
    try:
        # an object as its pairs: a key that comes twice must not hide what stands under the first
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
