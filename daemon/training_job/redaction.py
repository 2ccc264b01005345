"""Redaction of values whose key marks them as secret."""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

REDACTED = "[redacted]"

SECRET_KEYS = (
    "*password*",
    "*passwd*",
    "*secret*",
    "token",
    "*_token",
    "*-token",
    "*api_key*",
    "*apikey*",
    "*credential*",
    "*private_key*",
)
"""The default patterns of ``jobs.redact``."""

_SHORTEST_SECRET = 4
"""Shorter values are not searched for in other texts: `1` is everywhere."""


def is_secret(key: str, patterns: Sequence[str]) -> bool:
    """Whether a key matches one of the patterns (wildcards `*` and `?`, case-insensitive)."""
    return _any_of(tuple(patterns)).match(key) is not None


@lru_cache(maxsize=8)
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)) or "(?!)", re.IGNORECASE)


def secrets_in(values: Mapping[str, str], patterns: Sequence[str]) -> list[str]:
    """The values under secret keys."""
    return [value for key, value in values.items() if is_secret(key, patterns)]


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """A text with the secrets that it quotes redacted. A failure reason, for example, quotes the
    command line with all hyperparameters.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, REDACTED)
    return text
