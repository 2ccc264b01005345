"""The example of docs/write-a-target.md in the demo, which knows no plug-ins of its own accord.

``python -m tests.support.jsonl_demo demo --target jsonl`` shows it, if a package brings the kind.
"""

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
async def running(_http: aiohttp.ClientSession, _folder: Path) -> AsyncIterator[DemoJsonl]:
    """A folder for the file, until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        yield DemoJsonl(Path(folder))


class DemoJsonl:
    """A `daemon.demo.target.DemoTarget`."""

    system = "the file"
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
        return {"kind": "jsonl", "file": str(self._file)}

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
                JobMark(entry["arn"], entry["creation_time"]),
                list(entry["metrics"].items()),
                list(entry["inputs"].items()),
                1,
                json.dumps(entry),
            )
            for entry in map(json.loads, self._lines())
        ]

    def _lines(self) -> list[str]:
        return self._file.read_text().split("\n")[:-1] if self._file.exists() else []


if __name__ == "__main__":
    from daemon.demo import STAND_INS

    STAND_INS["jsonl"] = "tests.support.jsonl_demo"
    from daemon.cli import main

    raise SystemExit(main())
