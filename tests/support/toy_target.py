"""A third kind of target, which appends runs to a file.

``python -m tests.support.toy_target VERB …`` is the daemon with this kind beside its own.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason
from daemon.targets.kind import TargetKind
from daemon.targets.ports import TargetRun
from daemon.targets.settings import TargetSettings

if TYPE_CHECKING:
    from daemon.targets.kind import Observe
    from daemon.targets.ports import WriteJournal, WritePermit
    from daemon.training_job.identity import JobMark
    from daemon.training_job.training_run import TrainingRun


class ToySettings(TargetSettings):
    """The section ``target`` of kind ``toy``."""

    kind: Literal["toy"] = Field(description="toy: runs are appended to a file.")
    file: Path = Field(description="The file, one run a line. Its folder must exist.")
    settle_seconds: float = Field(1, description="Nothing is written later.")

    @property
    def address(self) -> str:
        return str(self.file)


class ToyTarget:
    """A `daemon.targets.ports.Target`."""

    kind = "toy"

    def __init__(self, settings: ToySettings, observe: Observe) -> None:
        self._file = settings.file
        self._observe = observe

    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        await self.probe()
        found = await self.find(run.mark)
        if found is not None:
            return found
        await journal.begin_write(run.name)
        entry = {
            "arn": run.mark.arn,
            "created": run.mark.creation_time,
            "name": run.name,
            "metrics": [(metric.name, metric.value) for metric in run.metrics],
            "inputs": [(channel.name, channel.uri) for channel in run.channels],
        }
        with self._file.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        journal.answered()
        self._observe("append", "ok")
        return TargetRun(created=True, ids={"run_id": run.name})

    async def find(self, mark: JobMark, *, unanswered_writes: int = 0) -> TargetRun | None:
        del unanswered_writes  # an append is done when it returns
        for entry in map(json.loads, self._lines()):
            if (entry["arn"], entry["created"]) == (mark.arn, mark.creation_time):
                return TargetRun(created=False, ids={"run_id": entry["name"]})
        return None

    async def probe(self) -> None:
        await asyncio.sleep(0)
        if not self._file.parent.is_dir():
            raise EdgeFault(Edge.TARGET, Reason.UNREACHABLE, f"no folder {self._file.parent}")

    async def aclose(self) -> None: ...

    def _lines(self) -> list[str]:
        return self._file.read_text().split("\n")[:-1] if self._file.exists() else []


def _open(settings: ToySettings, observe: Observe, _permit: WritePermit) -> ToyTarget:
    return ToyTarget(settings, observe)


async def _diagnosis(settings: ToySettings) -> tuple[str, ...]:
    return (f"make the folder {settings.file.parent}",)


TOY = TargetKind(
    ToySettings, _open, lambda settings: (f"see {settings.file}",), diagnosis=_diagnosis
)


if __name__ == "__main__":
    from daemon.demo import STAND_INS
    from daemon.targets.registry import register

    register(TOY)
    STAND_INS["toy"] = "tests.support.toy_demo"
    from daemon.cli import main

    raise SystemExit(main())
