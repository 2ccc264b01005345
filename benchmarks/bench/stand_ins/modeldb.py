"""The project's own stand-ins for ModelDB V2 and V1, which note when each run was created."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.bench.stand_ins.sagemaker import runs_by_job
from daemon.demo.modeldb_v1.server import ModelDbV1StandIn
from daemon.demo.modeldb_v2.calls import RUN_CALLS
from daemon.demo.modeldb_v2.server import ModelDbV2StandIn

if TYPE_CHECKING:
    from daemon.demo.modeldb_v2.calls import Call
    from daemon.demo.modeldb_v2.server import Request

_CREATE = RUN_CALLS["createExperimentRun"]


@dataclass(frozen=True)
class Run:
    """A run that is there.

    Attributes:
        job: the name of its job.
        created: epoch seconds.
    """

    job: str
    created: float


class ModelDbV2(ModelDbV2StandIn):
    """ModelDB V2."""

    def __init__(self) -> None:
        super().__init__()
        self._created: dict[str, float] = {}

    async def _perform(
        self, request: Request, body: bytes, service: str, call: Call
    ) -> dict[str, Any]:
        answer = await super()._perform(request, body, service, call)
        if call is _CREATE:
            self._created[answer["experiment_run"]["id"]] = time.time()
        return answer

    def runs(self, project: str) -> list[Run]:
        """The runs of a project that nobody has deleted, in order of their creation."""
        return [
            Run(entity.row["name"], self._created[entity.id])
            for found in self.store.projects.find("name", project)
            for entity in self.store.runs.find("project", found.id)
        ]

    def count(self, project: str) -> int:
        """How many they are."""
        return sum(
            len(self.store.runs.find("project", found.id))
            for found in self.store.projects.find("name", project)
        )


class ModelDbV1(ModelDbV1StandIn):
    """ModelDB V1."""

    def runs(self, project: str) -> list[Run]:
        """The runs of a project, also the empty ones (of which nothing tells the job), in order of
        their creation.
        """
        return [
            Run(self._job(int(run["id"])), run["created"] / 1000)
            for found in self.store.projects
            if found["name"] == project
            for run in self.store.runs_in_project(int(found["id"]))
        ]

    def count(self, project: str) -> int:
        """How many of a project are complete: they have their metrics."""
        return sum(
            1
            for found in self.store.projects
            if found["name"] == project
            for run in self.store.runs_in_project(int(found["id"]))
            if any(
                self.store.metrics.where("transformer", model["id"])
                for model in self.store.models.where("experimentRun", run["id"])
            )
        )

    def _job(self, run: int) -> str:
        hyperparameters = {
            row["paramName"]: row["paramValue"]
            for row in self.store.hyperparameters
            if row["experimentRun"] == run
        }
        return runs_by_job(hyperparameters) or f"unknown-{run}"
