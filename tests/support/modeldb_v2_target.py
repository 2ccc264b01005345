"""Scenes for tests of the ModelDB V2 target."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.demo.modeldb_v2.store import new_id
from daemon.targets.modeldb_v2.client import ModelDbV2Client
from daemon.targets.modeldb_v2.target import ModelDbV2Target
from tests.support.modeldb_v2_scripted import CLIENT_OPTIONS
from tests.support.target_jobs import (
    CREATED,
    MemoryJournal,
    Settling,
    edge_fault,
    job,
    job_fault,
    refusal,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from daemon.targets.ports import TargetRun
    from daemon.training_job.training_run import TrainingRun
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

__all__ = [
    "CREATED",
    "MemoryJournal",
    "Settling",
    "edge_fault",
    "job",
    "job_fault",
    "refusal",
]
CREATE = "createExperimentRun"
CLOSING: tuple[int, Mapping[str, Any]] = (503, {"code": 14, "message": "transport is closing"})
"""Status and body when the proxy loses the back-end during a call."""
BARE_500: tuple[int, Mapping[str, Any]] = (500, {"code": 2})


@contextlib.asynccontextmanager
async def target_of(
    url: str,
    settling: Callable[[float], Awaitable[None]] | None = None,
    *,
    client: type[ModelDbV2Client] = ModelDbV2Client,
    **options: Any,
) -> AsyncIterator[ModelDbV2Target]:
    """A target with its client; options of either by name."""
    of_client = {name: options.pop(name, value) for name, value in CLIENT_OPTIONS.items()}
    target = ModelDbV2Target(
        client(url, **of_client), settle_seconds=30.0, sleep=settling or Settling(), **options
    )
    try:
        yield target
    finally:
        await target.aclose()


@dataclass(frozen=True, slots=True)
class TargetScene:
    """A server and a target of it."""

    server: ModelDbV2StandIn
    target: ModelDbV2Target
    settling: Settling

    async def sync(
        self,
        name: str = "churn-1",
        *,
        run: TrainingRun | None = None,
        journal: MemoryJournal | None = None,
        **members: Any,
    ) -> TargetRun:
        """Syncs a job.

        Args:
            name: with `members`: the job, as of `job`.
            run: the job, instead of name and members.
            journal: None: that of a job whose write has never begun.
        """
        return await self.target.sync(run or job(name, **members), journal or MemoryJournal())


@contextlib.asynccontextmanager
async def scene_of(
    server: ModelDbV2StandIn, *, client: type[ModelDbV2Client] = ModelDbV2Client
) -> AsyncIterator[TargetScene]:
    settling = Settling()
    async with target_of(server.url, settling, client=client) as target:
        yield TargetScene(server, target, settling)


def attributes(row: Mapping[str, Any]) -> dict[str, Any]:
    return {each["key"]: each["value"] for each in row["attributes"]}


def duplicate(server: ModelDbV2StandIn, run_id: str, *, later_ms: int = 0, **changed: Any) -> str:
    """Inserts a copy of a run, as an overlapping create does. Returns its id."""
    original = server.store.runs.by_id(run_id)
    assert original is not None
    row = copy.deepcopy(original.row) | {"id": new_id()} | changed
    row["date_created"] = str(int(row["date_created"]) + later_ms)
    server.store.runs.insert(row)
    return str(row["id"])


def run_ids(server: ModelDbV2StandIn) -> set[str]:
    return {row["id"] for row in server.runs()}


def counts(server: ModelDbV2StandIn) -> tuple[int, int, int]:
    """Numbers of projects, experiments and runs."""
    return len(server.projects()), len(server.experiments()), len(server.runs())
