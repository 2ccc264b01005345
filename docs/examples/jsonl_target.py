"""The target ``jsonl``: each finished training job becomes one line of JSON in a file."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeVar

from pydantic import Field

from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason
from daemon.targets.common_attributes import common_attributes
from daemon.targets.kind import TargetKind
from daemon.targets.plain_target import PlainTarget
from daemon.targets.ports import Preview, TargetRun
from daemon.targets.settings import TargetSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.targets.kind import TargetContext
    from daemon.targets.ports import WriteJournal
    from daemon.training_job.identity import JobMark
    from daemon.training_job.training_run import TrainingRun

Value = TypeVar("Value")


class JsonlSettings(TargetSettings):
    """The section ``target`` of kind ``jsonl``."""

    kind: Literal["jsonl"] = Field(description="jsonl: each run is a line of JSON in a file.")
    file: Path = Field(description="The file, on a local disk. Its folder must exist.")
    settle_seconds: float = Field(1, ge=0, description="How long an append may take, in seconds.")

    @property
    def address(self) -> str:
        return str(self.file)


class JsonlTarget(PlainTarget):
    """Appends under a lock of the file, after a look whether the job is there: never twice."""

    kind = "jsonl"

    def __init__(self, settings: JsonlSettings, context: TargetContext) -> None:
        self._file = settings.file
        self._settle_seconds = settings.settle_seconds
        self._observe = context.observe

    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        created = False
        if await self.find(run.mark) is None:
            await journal.begin_write(f"jsonl/run/{run.mark.job_name}")
            created = await self._locked("append", lambda file: _append(file, run))
        journal.settled()  # an append that comes late finds the line and adds none
        return TargetRun(created, self._ids(run.mark), notes=run.notes)

    async def find(self, mark: JobMark, *, unanswered_writes: int = 0) -> TargetRun | None:
        if unanswered_writes:
            await asyncio.sleep(self._settle_seconds)
        there = await self._locked("find", lambda file: _has(file.read(), mark))
        return TargetRun(created=False, ids=self._ids(mark)) if there else None

    def preview(self, run: TrainingRun) -> Preview:
        rows = [(key, json.dumps(value)) for key, value in _entry(run).items()]
        return Preview("a line of JSON", [("line", rows)], _entry(run))

    def _ids(self, mark: JobMark) -> dict[str, str]:
        return {"run_id": mark.short_hash, "file": str(self._file)}

    async def _locked(self, operation: str, work: Callable[[BinaryIO], Value]) -> Value:
        """What `work` returns, which has the file to itself, in a thread: disks can be slow."""

        def in_thread() -> Value:
            with self._file.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
                file.seek(0)
                return work(file)

        try:
            result = await asyncio.to_thread(in_thread)
        except OSError as error:
            self._observe(operation, "failed")
            raise EdgeFault(
                Edge.TARGET, Reason.UNAVAILABLE, f"{self._file}: {error.strerror}"
            ) from error
        self._observe(operation, "ok")
        return result


def _append(file: BinaryIO, run: TrainingRun) -> bool:
    """False: the job is there."""
    text = file.read()
    if _has(text, run.mark):
        return False
    file.truncate(text.rfind(b"\n") + 1)  # drops what a killed process left of a line
    file.write(json.dumps(_entry(run), allow_nan=False).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())
    return True


def _has(text: bytes, mark: JobMark) -> bool:
    lines = [line for line in text.split(b"\n")[:-1] if mark.arn.encode() in line]
    marks = [(entry["arn"], entry["creation_time"]) for entry in map(json.loads, lines)]
    return (mark.arn, mark.creation_time) in marks


def _entry(run: TrainingRun) -> dict[str, Any]:
    return {
        "arn": run.mark.arn,
        "creation_time": run.mark.creation_time,
        "name": run.name,
        "project": run.project_name,
        "description": run.project_description,
        "hyperparameters": {each.key: each.text for each in run.hyperparameters},
        "metrics": {each.name: each.value for each in run.metrics},
        "non_finite_metrics": dict(run.non_finite_metrics),
        "inputs": {each.name: each.uri for each in run.channels if not each.is_code},
        "tags": dict(run.all_tags),
        "attributes": {
            key: value for key, value in common_attributes(run).items() if value is not None
        },
    }


JSONL = TargetKind(JsonlSettings, JsonlTarget)
"""What the entry point names."""
