"""MLflow in the demo: the real server where the package ``mlflow`` is installed (extra
``demo-mlflow``), else the stand-in.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from daemon.demo.mlflow.real_server import running_real_server
from daemon.demo.mlflow.server import MlflowStandIn
from daemon.demo.target import DATABASE_ANSWER_SECONDS, SETTLE_SECONDS, FoundRun
from daemon.targets.mlflow.mapping import ARN_TAG, CREATION_TIME_TAG
from daemon.training_job.identity import JobMark
from daemon.training_job.objective import OBJECTIVE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    import aiohttp

_API = "api/2.0/mlflow"
_PAGE = 1000
_CREATE = "runs/create"


class Server(Protocol):
    """A running MLflow, or what stands in for it."""

    @property
    def title(self) -> str:
        """What it is, for people, without its address."""

    @property
    def url(self) -> str:
        """The tracking URI."""

    @property
    def places(self) -> Sequence[tuple[str, str]]:
        """How to look into it."""

    @property
    def run_count(self) -> int: ...

    def go_down(self) -> None:
        """From now on every call is answered as if its database had gone."""

    def come_back(self, lost: str) -> None:
        """Ends that; the answer to the next call of operation `lost` does not arrive."""


@asynccontextmanager
async def running(http: aiohttp.ClientSession, folder: Path) -> AsyncIterator[DemoMlflow]:
    """MLflow, until the block ends."""
    if find_spec("mlflow") is not None:
        async with running_real_server(http, folder) as real:
            yield DemoMlflow(real, http)
        return
    async with MlflowStandIn() as stand_in:
        stand_in.faults.database_answer_seconds = DATABASE_ANSWER_SECONDS
        yield DemoMlflow(_StandInServer(stand_in), http)


class _StandInServer:
    title = "MLflow, a stand-in for the real server"

    def __init__(self, server: MlflowStandIn) -> None:
        self._server = server

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def places(self) -> Sequence[tuple[str, str]]:
        search = f"{self.url}/{_API}/experiments/search?max_results={_PAGE}"
        return [("MLflow (REST)", self.url), ("all experiments", f"curl -s '{search}'")]

    @property
    def run_count(self) -> int:
        return len(self._server.model.runs())

    def go_down(self) -> None:
        self._server.faults.database_down = True

    def come_back(self, lost: str) -> None:
        self._server.faults.lose_next_answer(lost)
        self._server.faults.database_down = False


class DemoMlflow:
    """A `DemoTarget`, read over REST as any client would."""

    system = "MLflow"
    outage = "MLflow's database goes down"
    recovery = "the database is back"

    def __init__(self, server: Server, http: aiohttp.ClientSession) -> None:
        self._server = server
        self._http = http

    @property
    def title(self) -> str:
        return f"{self._server.title}: {self._server.url}"

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "kind": "mlflow",
            "tracking_uri": self._server.url,
            "settle_seconds": SETTLE_SECONDS,
        }

    @property
    def run_count(self) -> int:
        return self._server.run_count

    @property
    def places(self) -> Sequence[tuple[str, str]]:
        return self._server.places

    def go_down(self) -> None:
        self._server.go_down()

    def come_back(self) -> None:
        self._server.come_back(_CREATE)

    async def runs(self) -> Sequence[FoundRun]:
        """Every run of every experiment."""
        wanted = {"max_results": _PAGE, "view_type": "ALL"}
        found = await self._call("experiments/search", wanted)
        names = {each["experiment_id"]: each["name"] for each in found.get("experiments", ())}
        wanted = {"max_results": _PAGE, "experiment_ids": list(names)}
        runs = (await self._call("runs/search", wanted)).get("runs", ())
        url = f"{self._server.url}/{_API}/model-versions/search"
        async with self._http.get(url, params={"max_results": _PAGE}) as answer:
            versions = (await answer.json()).get("model_versions", ())
        return [
            _run(
                names[run["info"]["experiment_id"]],
                run,
                [version for version in versions if version["run_id"] == run["info"]["run_id"]],
            )
            for run in runs
        ]

    async def _call(self, operation: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        url = f"{self._server.url}/{_API}/{operation}"
        async with self._http.post(url, json=dict(body)) as answer:
            found: Mapping[str, Any] = await answer.json()
            return found


def _run(project: str, run: Mapping[str, Any], versions: Sequence[Mapping[str, Any]]) -> FoundRun:
    info, data = run["info"], run["data"]
    tags = {tag["key"]: tag["value"] for tag in data.get("tags", ())}
    return FoundRun(
        project,
        tags.get("model_name", "?"),
        info["run_name"],
        info["run_id"],
        JobMark(tags.get(ARN_TAG, ""), tags.get(CREATION_TIME_TAG, "")),
        _metrics(data, tags.get("sagemaker.objective_metric", "")),
        [
            (item["dataset"]["name"], json.loads(item["dataset"]["source"])["uri"])
            for item in run.get("inputs", {}).get("dataset_inputs", ())
        ],
        len(versions),
        json.dumps([run, list(versions)]),
    )


def _metrics(data: Mapping[str, Any], objective: str) -> list[tuple[str, float]]:
    """The finite metrics under SageMaker's names, which has the tuning objective a second time."""
    found = {
        item["key"].replace("/", ":"): item["value"]
        for item in data.get("metrics", ())
        if item["value"] != "NaN"
    }
    if objective in found:
        found.setdefault(OBJECTIVE, found[objective])
    return list(found.items())
