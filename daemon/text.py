"""Text that every target, log and database can carry.

JSON lets NUL, other control characters and lone surrogates through as escapes; UTF-8, PostgreSQL
and XML do not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


def cleaned(text: str) -> str:
    """Text with U+FFFD for lone surrogates and control characters, except tabs and line ends."""
    return _NO_TEXT.sub(_REPLACEMENT, text)


def one_line(text: str) -> str:
    """Stripped text: control characters become a space (each run), lone surrogates U+FFFD."""
    return _SURROGATE.sub(_REPLACEMENT, _CONTROL.sub(" ", text)).strip()


def without_surrogates(text: str) -> str:
    """Text with U+FFFD for lone surrogates."""
    return _SURROGATE.sub(_REPLACEMENT, text)


def shortened(text: str, limit: int) -> str:
    """Text of at most `limit` characters; the last one of a text that was cut is ``…``."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def is_plain(text: str) -> bool:
    """Whether text holds neither control characters nor lone surrogates."""
    return not (_CONTROL.search(text) or _SURROGATE.search(text))


class DistinctNames:
    """Makes names distinct, in time linear in their number.

    Args:
        taken: the names so far. The caller adds each name that it is given; none may leave, because
            the numbers tried for a name are not tried again.
    """

    def __init__(self, taken: Container[str]) -> None:
        self._taken = taken
        self._next_numbers: dict[str, int] = {}

    def untaken(self, name: str) -> str:
        """A name that is not taken: itself, or with the first number from 2 that makes it one."""
        number, free = self._next_numbers.get(name, 2), name
        while free in self._taken:
            free, number = f"{name}-{number}", number + 1
        self._next_numbers[name] = number
        return free
