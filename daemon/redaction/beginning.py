"""The beginning of a text that could not be parsed."""

from __future__ import annotations

import re

from daemon.redaction.keys import may_hide
from daemon.redaction.redactor import without_shapes

_ALWAYS_PRIVATE = re.compile(r"hyper[-_ ]?parameters|environment", re.IGNORECASE)
_KEY = re.compile(r"[^\W_][\w.-]*")
_SEARCHED_LIMIT = 1_000
"""A secret that begins in the beginning is recognised by what follows."""


def safe_beginning(text: str, limit: int) -> str:
    """At most `limit` characters, up to the first word that a secret may follow."""
    start = text[:limit]
    beyond = text[: 2 * limit]
    private = _ALWAYS_PRIVATE.search(beyond)
    risks = [private.start()] if private is not None else []
    risks += [found.start() for found in _KEY.finditer(beyond) if may_hide(found[0])]
    if risks:
        start = start[: min(risks)]
    return without_shapes(start + text[len(start) : _SEARCHED_LIMIT])[: len(start)]
