"""The exchanges recorded from a real ModelDB V1 server (tests/data/modeldb_v1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.json_lines import read_json_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = Path(__file__).parents[1] / "data" / "modeldb_v1"


@dataclass(frozen=True, slots=True)
class Exchange:
    file: str
    """Without its suffix."""
    name: str
    note: str
    method: str | None
    """None: the frame is no call of the interface."""
    request_frame: bytes
    """Without its length, as is the answer."""
    response_frame: bytes | None
    """None: the server closed the connection."""
    request: Mapping[str, Any] | None
    """The arguments as JSON data."""
    response: Mapping[str, Any]
    """One of ``result``, ``exception`` and ``closed``."""

    @property
    def label(self) -> str:
        return f"{self.file}/{self.name}"


def load() -> list[Exchange]:
    """All recorded exchanges, in the order in which they happened within each file."""
    return [
        Exchange(
            path.stem,
            line["name"],
            line["note"],
            line["method"],
            bytes.fromhex(line["request_hex"]),
            None if line["response_hex"] is None else bytes.fromhex(line["response_hex"]),
            line["request"],
            line["response"],
        )
        for path in sorted(FOLDER.glob("*.jsonl"))
        for line in read_json_lines(path)
    ]
