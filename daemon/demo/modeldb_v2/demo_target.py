"""ModelDB V2 in the demo."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from daemon.demo.modeldb_v2.server import ModelDbV2StandIn
from daemon.demo.target import DATABASE_ANSWER_SECONDS, SETTLE_SECONDS, FoundRun
from daemon.targets.modeldb_v2.mapping import ARN_ATTRIBUTE, CREATION_TIME_ATTRIBUTE
from daemon.training_job.identity import JobMark
from daemon.training_job.objective import OBJECTIVE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    import aiohttp


@asynccontextmanager
async def running(http: aiohttp.ClientSession, _folder: Path) -> AsyncIterator[DemoModelDbV2]:
    """The stand-in, until the block ends."""
    async with ModelDbV2StandIn() as server:
        server.faults.database_answer_seconds = DATABASE_ANSWER_SECONDS
        yield DemoModelDbV2(server, http)


class DemoModelDbV2:
    """A `DemoTarget`, read over REST."""

    system = "ModelDB"
    outage = "ModelDB's database goes down"
    recovery = "the database is back"

    def __init__(self, server: ModelDbV2StandIn, http: aiohttp.ClientSession) -> None:
        self._server = server
        self._http = http

    @property
    def title(self) -> str:
        return f"ModelDB V2, a stand-in for the real server: {self._server.url}"

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"kind": "modeldb-v2", "url": self._server.url, "settle_seconds": SETTLE_SECONDS}

    @property
    def run_count(self) -> int:
        return sum(1 for _ in self._server.store.runs.all_live())

    @property
    def places(self) -> Sequence[tuple[str, str]]:
        url = self._server.url
        return [
            ("ModelDB (REST)", url),
            ("all runs", f"curl -s {url}/experiment-run/findExperimentRuns -d '{{}}'"),
        ]

    def go_down(self) -> None:
        self._server.faults.database_down = True

    def come_back(self) -> None:
        self._server.faults.lose_next_answer("createExperimentRun")
        self._server.faults.database_down = False

    async def runs(self) -> Sequence[FoundRun]:
        """Every run of every experiment of every project, read as any client would."""
        base_url, http = self._server.url, self._http
        async with http.get(f"{base_url}/project/getProjects") as answer:
            projects = (await answer.json()).get("projects", [])
        found = []
        for project in projects:
            wanted = {"project_id": project["id"]}
            async with http.post(f"{base_url}/experiment/findExperiments", json=wanted) as answer:
                experiments = {
                    row["id"]: row["name"] for row in (await answer.json()).get("experiments", [])
                }
            async with http.post(
                f"{base_url}/experiment-run/findExperimentRuns", json=wanted
            ) as answer:
                rows = (await answer.json()).get("experiment_runs", [])
            found += [
                _run(project["name"], experiments.get(row["experiment_id"], "?"), row)
                for row in rows
            ]
        return found


def _run(project: str, experiment: str, row: Mapping[str, Any]) -> FoundRun:
    attributes = {item["key"]: item.get("value", "") for item in row.get("attributes", ())}
    return FoundRun(
        project,
        experiment,
        str(row["name"]),
        str(row["id"]),
        JobMark(attributes.get(ARN_ATTRIBUTE, ""), attributes.get(CREATION_TIME_ATTRIBUTE, "")),
        _metrics(row, attributes.get("objective_metric")),
        [(item["key"], item["path"]) for item in row.get("datasets", ())],
        1,
        json.dumps(row),
    )


def _metrics(row: Mapping[str, Any], objective: object) -> list[tuple[str, float]]:
    """The metrics under SageMaker's names, which has the tuning objective a second time."""
    found = {
        item["key"].replace("/", ":"): item.get("value", 0.0) for item in row.get("metrics", ())
    }
    if isinstance(objective, str) and objective in found:
        found.setdefault(OBJECTIVE, found[objective])
    return list(found.items())
