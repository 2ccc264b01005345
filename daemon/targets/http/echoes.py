"""Redaction of the secrets that were sent with a request, in what the server answers to it."""

from __future__ import annotations

import base64
import contextlib
import re
from typing import TYPE_CHECKING

from daemon.redaction.forms import secret_forms

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHORTEST_SECRET = 6


class Echoes:
    """Finds the values of request headers in text, in every form in which a server may write them.

    Args:
        headers: their values count as secrets. Of a basic login also the password, which the server
            knows decoded.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        # the longest first so that none leaves a part behind
        self._forms = tuple(sorted(_forms(headers), key=len, reverse=True))

    def scrub(self, text: str) -> str:
        """The text with ``[redacted]`` for each secret."""
        for form in self._forms:
            text = text.replace(form, "[redacted]")
        return text


def _forms(headers: Mapping[str, str]) -> set[str]:
    values = [*headers.values(), *(word for value in headers.values() for word in value.split())]
    # cookies
    values += [
        part for value in headers.values() if "=" in value for part in re.split(r"[;=]\s*", value)
    ]
    for value in headers.values():
        scheme, _, login = value.partition(" ")
        if scheme == "Basic":
            with contextlib.suppress(ValueError):  # one of target.headers, and no valid login
                values.append(base64.b64decode(login).decode().partition(":")[2])
    words = {word for word in values if len(word) >= _SHORTEST_SECRET}
    return {form for word in words for form in secret_forms(word)}
