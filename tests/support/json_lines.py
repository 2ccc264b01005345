"""Reads JSON Lines: recordings, indexes, logs and the output of commands.

Only a line feed ends a line. `str.splitlines` also splits at U+0085, U+2028 and others, which JSON
texts may hold as they are.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def json_lines(text: str) -> list[dict[str, Any]]:
    """The objects of a text, one for each line."""
    return [json.loads(line) for line in text.split("\n") if line]


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file, one for each line."""
    return json_lines(path.read_bytes().decode())
