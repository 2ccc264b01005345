"""Where runs go, and how the harness reads them: the stand-ins, or real servers that environment
variables name.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.bench.stand_ins.sagemaker import runs_by_job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from benchmarks.bench.world import World
    from tests.real.modeldb_v1_lab import LabServer

_PAGE = 1000


class Target(Protocol):
    """A server of one kind.

    Attributes:
        kind: as the daemon's configuration names it.
        url: base URL; empty for ModelDB V1.
        v1_port: of ModelDB V1 on this machine, else 0.
        look_seconds: how often it may be asked for its runs.
    """

    @property
    def kind(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def v1_port(self) -> int: ...
    @property
    def look_seconds(self) -> float: ...

    async def count(self, project: str) -> int:
        """How many runs a project has."""
        ...

    async def runs(self, project: str) -> list[tuple[str, float | None]]:
        """For each run its job and when it was created, in epoch seconds; None: the server does
        not tell.
        """
        ...


@dataclass(frozen=True)
class StandIn:
    """A ModelDB of the stand-ins' process."""

    world: World
    kind: str
    look_seconds: float = 0.05

    @property
    def url(self) -> str:
        """See `Target`."""
        return str(self.world.addresses["modeldb_v2"])

    @property
    def v1_port(self) -> int:
        """See `Target`."""
        return int(self.world.addresses["modeldb_v1_port"])

    async def count(self, project: str) -> int:
        """See `Target`."""
        return int(await self.world.ask("count", kind=self.kind, project=project))

    async def runs(self, project: str) -> list[tuple[str, float | None]]:
        """See `Target`."""
        found = await self.world.ask("runs", kind=self.kind, project=project)
        return [(job, created) for job, created in found]


@dataclass(frozen=True)
class RealModelDbV2:
    """The server that MODELDB_V2_URL names."""

    world: World
    url: str
    kind: str = "modeldb-v2"
    v1_port: int = 0
    look_seconds: float = 0.25

    async def count(self, project: str) -> int:
        """See `Target`."""
        return int((await self._find(project, 1)).get("total_records", 0))

    async def runs(self, project: str) -> list[tuple[str, float | None]]:
        """See `Target`."""
        found = await self._find(project, _PAGE)
        return [(run["name"], None) for run in found.get("experiment_runs", ())]

    async def _find(self, project: str, limit: int) -> dict[str, Any]:
        known = await self.world.get(f"{self.url}/project/getProjectByName?name={project}")
        asked = {
            "project_id": known["project_by_user"]["id"],
            "page_limit": limit,
            "page_number": 1,
        }
        found: dict[str, Any] = await self.world.post(
            f"{self.url}/experiment-run/findExperimentRuns", asked
        )
        return found


@dataclass(frozen=True)
class RealModelDbV1:
    """A server of the control script in MODELDB_V1_LAB."""

    server: LabServer
    url: str = ""
    kind: str = "modeldb-v1"
    look_seconds: float = 0.25

    @property
    def v1_port(self) -> int:
        """See `Target`."""
        return self.server.port

    async def count(self, project: str) -> int:
        """See `Target`."""
        return len(await self.runs(project))

    async def runs(self, project: str) -> list[tuple[str, float | None]]:
        """See `Target`."""
        stored = await asyncio.to_thread(self.server.runs)
        return [
            (runs_by_job(dict(model.hyperparameters)) or "unknown", None)
            for run in stored
            if run.project[0] == project
            for model in run.models
            if model.metrics
        ]


@dataclass(frozen=True)
class RealMlflow:
    """A server of the control script in MLFLOW_LAB."""

    world: World
    url: str
    kind: str = "mlflow"
    v1_port: int = 0
    look_seconds: float = 0.25

    async def count(self, project: str) -> int:
        """See `Target`."""
        return len(await self.runs(project))

    async def runs(self, project: str) -> list[tuple[str, float | None]]:
        """See `Target`."""
        api = f"{self.url}/api/2.0/mlflow"
        known = await self.world.post(
            f"{api}/experiments/search",
            {"max_results": 10, "filter": f"name = '{project}'"},
        )
        ids = [each["experiment_id"] for each in known.get("experiments", ())]
        if not ids:
            return []
        found = await self.world.post(
            f"{api}/runs/search", {"experiment_ids": ids, "max_results": _PAGE}
        )
        return [
            (run["info"]["run_name"], None)
            for run in found.get("runs", ())
            if run["info"]["status"] == "FINISHED"
        ]


@dataclass(frozen=True)
class RealServer:
    """A kind of real server.

    Attributes:
        key: of its scenario.
        variable: that makes it available.
        open: starts it, or finds it.
    """

    key: str
    variable: str
    open: Callable[[World], contextlib.AbstractAsyncContextManager[Target]]

    @property
    def available(self) -> bool:
        """Whether the variable is set."""
        return bool(os.environ.get(self.variable))


@contextlib.asynccontextmanager
async def _modeldb_v2(world: World) -> AsyncIterator[Target]:
    yield RealModelDbV2(world, os.environ["MODELDB_V2_URL"])


@contextlib.asynccontextmanager
async def _modeldb_v1(_world: World) -> AsyncIterator[Target]:
    from tests.real.modeldb_v1_lab import lab_server  # noqa: PLC0415 - reads its variable when it is imported

    async with lab_server(mongo=True) as server:
        yield RealModelDbV1(server)


@contextlib.asynccontextmanager
async def _mlflow(world: World) -> AsyncIterator[Target]:
    from tests.real.mlflow_lab import lab_server  # noqa: PLC0415 - as above

    async with lab_server() as server:
        yield RealMlflow(world, server.url)


REAL_SERVERS = (
    RealServer("real-modeldb-v2", "MODELDB_V2_URL", _modeldb_v2),
    RealServer("real-modeldb-v1", "MODELDB_V1_LAB", _modeldb_v1),
    RealServer("real-mlflow", "MLFLOW_LAB", _mlflow),
)
