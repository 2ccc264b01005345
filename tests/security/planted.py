"""Planted secrets: words that occur nowhere else, and a search for them in all outputs of the
daemon.
"""

from __future__ import annotations

import base64
import json
import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

ODD = '"\\/+&='
"""Looks different in JSON, in a URL and in a repr."""


class Planted:
    """Secrets by the place where they were planted."""

    def __init__(self) -> None:
        self._words: dict[str, str] = {}

    def word(self, place: str, *, odd: bool = False) -> str:
        """A new secret for a place, or the same one as before for that place.

        Args:
            odd: with characters that are written in several ways.
        """
        if place not in self._words:
            self._words[place] = f"{secrets.token_hex(8)}{ODD if odd else ''}{secrets.token_hex(8)}"
        return self._words[place]

    def login(self, place: str, user: str) -> None:
        """Adds the form of a user and password in basic authentication to the secrets."""
        self._words[f"{place} as it is sent"] = base64.b64encode(
            f"{user}:{self._words[place]}".encode()
        ).decode()

    def leaks(self, outputs: Mapping[str, str | bytes]) -> list[str]:
        """Each secret found and where, one per line. Half a secret counts."""
        texts = {
            where: output if isinstance(output, str) else output.decode("latin-1")
            for where, output in outputs.items()
        }
        return [
            f"{place} in {where}: {_around(text, form)}"
            for place, word in self._words.items()
            for where, text in texts.items()
            for form in _forms(word)
            if form in text
        ]


def _forms(word: str) -> Iterable[str]:
    """The word and its halves (one shortened by a limit is half a secret), as text, in JSON, in a
    URL and in a repr.
    """
    halves = [word] if len(word) < 16 else [word[: len(word) // 2], word[len(word) // 2 :]]
    found = {
        form
        for half in halves
        for form in (half, json.dumps(half)[1:-1], quote(half, safe=""), repr(half)[1:-1])
    }
    return [form for form in found if len(form) >= 8]


def _around(text: str, form: str) -> str:
    at = text.index(form)
    return repr(text[max(0, at - 60) : at + len(form) + 20])


def files_in(folder: Path) -> dict[str, bytes]:
    """The raw bytes of every file."""
    return {
        f"file {path.name}": path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
