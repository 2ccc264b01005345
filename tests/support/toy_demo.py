"""The toy target in the demo."""

from __future__ import annotations

import json
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.demo.target import FoundRun
from daemon.training_job.identity import JobMark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import aiohttp


@asynccontextmanager
async def running(_http: aiohttp.ClientSession) -> AsyncIterator[DemoToy]:
    """A folder for the file, until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        yield DemoToy(Path(folder))


class DemoToy:
    """A `daemon.demo.target.DemoTarget`."""

    outage = "The folder of the file is renamed"
    recovery = "the folder is back"
    places: Sequence[tuple[str, str]] = ()

    def __init__(self, folder: Path) -> None:
        self._there, self._away = folder / "there", folder / "away"
        self._there.mkdir()

    @property
    def title(self) -> str:
        return f"a file: {self._file}"

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"kind": "toy", "file": str(self._file)}

    @property
    def run_count(self) -> int:
        return len(self._lines())

    @property
    def _file(self) -> Path:
        return self._there / "runs.jsonl"

    def go_down(self) -> None:
        self._there.rename(self._away)

    def come_back(self) -> None:
        self._away.rename(self._there)

    async def runs(self) -> Sequence[FoundRun]:
        return [
            FoundRun(
                "the project",
                "the experiment",
                entry["name"],
                entry["name"],
                JobMark(entry["arn"], entry["created"]),
                [(name, value) for name, value in entry["metrics"]],
                [(name, uri) for name, uri in entry["inputs"]],
                1,
                json.dumps(entry),
            )
            for entry in map(json.loads, self._lines())
        ]

    def _lines(self) -> list[str]:
        return self._file.read_text().split("\n")[:-1] if self._file.exists() else []
