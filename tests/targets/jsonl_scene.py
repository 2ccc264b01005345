"""The example of docs/write-a-target.md in the suite of targets: a file, no server."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from daemon.targets.kind import TargetContext
from daemon.training_job.identity import JobMark
from docs.examples import jsonl_target
from docs.examples.jsonl_target import JSONL, JsonlSettings
from tests.targets.scene import NO_MARK, StoredRun, TargetScene, texts_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from daemon.targets.ports import Target

_NO_NETWORK = "a file is not behind a network"
_NO_DEADLINE = "an append has no deadline: the disk answers, or nothing on the machine does"
_NO_DUPLICATES = "it looks and appends under one lock, so that there is nothing to heal"
_TAKES_ALL = "a file takes every job"
_NOT_COMPARED = "it keeps PlainTarget's compare and repair, which look at nothing but the mark"


class JsonlScene(TargetScene):
    kind = "jsonl"
    cannot: ClassVar[Mapping[str, str]] = {
        "test_a_slow_write_that_is_carried_out_after_the_timeout": _NO_DEADLINE,
        "test_find_waits_for_unanswered_writes": _NO_DEADLINE,
        "test_duplicates_are_healed_and_the_oldest_stays": _NO_DUPLICATES,
        "test_a_write_that_comes_while_it_settles_is_healed": _NO_DUPLICATES,
        "test_find_heals_what_unanswered_writes_left": _NO_DUPLICATES,
        "test_paused_before_a_create": _NO_DUPLICATES,
        "test_paused_in_a_create": _NO_DUPLICATES,
        "test_edge_silent": _NO_NETWORK,
        "test_edge_throttled": _NO_NETWORK,
        "test_edge_web_page": _NO_NETWORK,
        "test_edge_login_refused": _NO_NETWORK,
        "test_the_login_shows_nowhere": _NO_NETWORK,
        "test_a_secret_that_the_server_says_shows_nowhere": _NO_NETWORK,
        "test_a_job_refused_for_good": _TAKES_ALL,
        "test_repair_of_a_damaged_run": _NOT_COMPARED,
        "test_repair_interrupted_anywhere_completes_when_repeated": _NOT_COMPARED,
        "test_repair_brings_a_changed_job_up_to_date": _NOT_COMPARED,
    }

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.AsyncExitStack()
        self._losses: list[str] = []
        self._requests = 0

    async def __aenter__(self) -> Self:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        self._folder, self._away = Path(folder) / "there", Path(folder) / "away"
        self._folder.mkdir()
        patch = self._stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(jsonl_target, "os", self)  # of which it uses `fsync`
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def fsync(self, number: int) -> None:
        """In place of the system's, after a line was written."""
        if self._losses:
            if self._losses.pop() == "write":
                os.ftruncate(number, os.fstat(number).st_size - 5)
            raise OSError(errno.EIO, "Input/output error")
        os.fsync(number)

    async def open(self, *, timeout_seconds: float | None = None) -> Target:
        del timeout_seconds  # it has none
        settings = JsonlSettings(kind="jsonl", file=self._file, settle_seconds=0)
        return JSONL.open(settings, TargetContext(observe=self._seen))

    def _seen(self, *words: str) -> None:
        self._requests += 1
        self.observed.append((words[0], words[1]))

    async def runs(self) -> Sequence[StoredRun]:
        return [_stored(number, line) for number, line in enumerate(self._lines()) if line]

    async def requests(self) -> int:
        return self._requests

    async def add_copy(self, key: str, *, marked: bool = True) -> str:
        assert not marked
        entry = json.loads(self._lines()[int(key)])
        lines = self._lines()
        self._write([*lines, json.dumps(entry | {"arn": "somebody's"})])
        return str(len(lines))

    async def delete(self, key: str) -> None:
        lines = self._lines()
        lines[int(key)] = ""
        self._write(lines)

    async def add_by_hand(self, key: str) -> str:
        lines = self._lines()
        lines[int(key)] = json.dumps(json.loads(lines[int(key)]) | {"remark": "by hand"})
        self._write(lines)
        return "by hand"

    async def clear(self) -> None:
        self._losses.clear()
        if self._away.exists():
            self._away.rename(self._folder)

    async def go_down(self) -> None:
        self._folder.rename(self._away)

    def lose_write(self) -> None:
        self._losses.append("write")

    def lose_answer(self) -> None:
        self._losses.append("answer")

    @property
    def _file(self) -> Path:
        return self._folder / "runs.jsonl"

    def _lines(self) -> list[str]:
        """Without what is left of a line that was not written to its end."""
        return self._file.read_text().split("\n")[:-1] if self._file.exists() else []

    def _write(self, lines: list[str]) -> None:
        self._file.write_text("".join(f"{line}\n" for line in lines))


def _stored(number: int, line: str) -> StoredRun:
    entry: dict[str, Any] = json.loads(line)
    mark = JobMark(entry["arn"], entry["creation_time"])
    return StoredRun(
        key=str(number),
        mark=NO_MARK if mark.arn == "somebody's" else mark,
        name=entry["name"],
        hyperparameters=entry["hyperparameters"],
        metrics={name: float(value) for name, value in entry["metrics"].items()},
        inputs=entry["inputs"],
        complete=True,  # a line is there or not
        texts=frozenset(texts_in(entry)),
    )
