"""The demo's ModelDB: a stand-in for V2 or for V1, what becomes of it in the outage, and which runs
it has at the end.

The rest of the demo knows `DemoModelDb` only.
"""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from daemon.demo.modeldb_v1.server import ModelDbV1StandIn
from daemon.demo.modeldb_v2.server import ModelDbV2StandIn
from daemon.targets.modeldb_v1.mapping import mark_in
from daemon.targets.modeldb_v2.mapping import ARN_ATTRIBUTE, CREATION_TIME_ATTRIBUTE
from daemon.training_job.identity import JobMark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import aiohttp

DATABASE_ANSWER_SECONDS = 0.5
"""How long a stand-in takes to say that its database is down or locked; the real servers take 5.1 s
(V2) and 3 s (V1)."""
SETTLE_SECONDS = 1
"""After a write without an answer; a real ModelDB V2 gets 30 s, a real V1 5 s."""


@dataclass(frozen=True, slots=True)
class ModelDbRun:
    """A run, with what it is in and what is in it."""

    project: str
    experiment: str
    name: str
    """What people know it by."""
    run_id: str
    mark: JobMark
    """Whose run it is; blank for one without a mark."""
    metrics: Sequence[tuple[str, float]]
    """Names as the job has them."""
    inputs: Sequence[tuple[str, str]]
    """Name and URI of each channel."""
    models: int
    """In V2 a run is the model."""
    content: str
    """All of it as text."""


class DemoModelDb(Protocol):
    """What the demo needs of a ModelDB."""

    @property
    def title(self) -> str:
        """What it is and where, for people."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The configuration's section ``target``."""

    @property
    def outage(self) -> str:
        """What `go_down` does, as a sentence without its end."""

    @property
    def recovery(self) -> str:
        """What `come_back` does to the database, as a sentence without its end."""

    @property
    def run_count(self) -> int:
        """How many runs there are now."""

    @property
    def places(self) -> Sequence[tuple[str, str]]:
        """How to look into it while it stays up: names and addresses, commands, words."""

    def go_down(self) -> None:
        """The database can no longer be used, the server can be reached."""

    def come_back(self) -> None:
        """Everything works again, but the next run that is made is made without an answer."""

    async def runs(self) -> Sequence[ModelDbRun]:
        """All there are."""


@asynccontextmanager
async def running_modeldb(kind: str, http: aiohttp.ClientSession) -> AsyncIterator[DemoModelDb]:
    """Runs a stand-in until the block ends.

    Args:
        kind: ``target.kind`` of the configuration.
        http: to read it, if it is read over HTTP.
    """
    match kind:
        case "modeldb-v2":
            async with ModelDbV2StandIn() as v2:
                v2.faults.database_answer_seconds = DATABASE_ANSWER_SECONDS
                yield DemoModelDbV2(v2, http)
        case "modeldb-v1":
            async with ModelDbV1StandIn(storage_busy_seconds=DATABASE_ANSWER_SECONDS) as v1:
                yield DemoModelDbV1(v1)
        case _:
            raise ValueError(f"there is no stand-in for {kind!r}")


class DemoModelDbV2:
    """A `DemoModelDb`, read over REST."""

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
        return len(self._server.runs())

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

    async def runs(self) -> Sequence[ModelDbRun]:
        """Every run of every experiment of every project, as anybody would read them."""
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
                _v2_run(project["name"], experiments.get(row["experiment_id"], "?"), row)
                for row in rows
            ]
        return found


def _v2_run(project: str, experiment: str, row: Mapping[str, Any]) -> ModelDbRun:
    attributes = {item["key"]: item.get("value", "") for item in row.get("attributes", ())}
    return ModelDbRun(
        project,
        experiment,
        str(row["name"]),
        str(row["id"]),
        JobMark(attributes.get(ARN_ATTRIBUTE, ""), attributes.get(CREATION_TIME_ATTRIBUTE, "")),
        [
            (item["key"].replace("/", ":"), item.get("value", 0.0))
            for item in row.get("metrics", ())
        ],
        [(item["key"], item["path"]) for item in row.get("datasets", ())],
        1,
        json.dumps(row),
    )


class DemoModelDbV1:
    """A `DemoModelDb`, read from its tables: no call shows all data frames of a run."""

    outage = "Another program locks ModelDB's database"
    recovery = "the database is free again"

    def __init__(self, server: ModelDbV1StandIn) -> None:
        self._server = server

    @property
    def title(self) -> str:
        return f"ModelDB V1, a stand-in for the real server: {self._address}"

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "kind": "modeldb-v1",
            "host": self._server.host,
            "port": self._server.port,
            "settle_seconds": SETTLE_SECONDS,
        }

    @property
    def run_count(self) -> int:
        return len(self._server.store.runs)

    @property
    def places(self) -> Sequence[tuple[str, str]]:
        look = (
            "from thriftpy2.rpc import make_client; from thriftpy2.transport import "
            "TFramedTransportFactory as Framed; "
            "from daemon.targets.modeldb_v1.codec import INTERFACE; "
            f'server = make_client(INTERFACE.ModelDBService, "{self._server.host}", '
            f"{self._server.port}, trans_factory=Framed()); "
            "print(*(run for project in server.getProjectIds({}) "
            'for run in server.getRunsAndExperimentsInProject(project).experimentRuns), sep="\\n")'
        )
        return [
            ("ModelDB (Thrift, framed)", self._address),
            *(("in it", line) for line in self._server.overview().splitlines()),
            ("all runs", shlex.join([sys.executable, "-c", look])),
        ]

    @property
    def _address(self) -> str:
        return f"{self._server.host}:{self._server.port}"

    def go_down(self) -> None:
        self._server.faults.storage_busy = True

    def come_back(self) -> None:
        self._server.faults.lose_next_answer("storeExperimentRunEvent")
        self._server.faults.storage_busy = False

    async def runs(self) -> Sequence[ModelDbRun]:
        store = self._server.store
        projects = {row["id"]: row["name"] for row in store.projects}
        experiments = {row["id"]: row for row in store.experiments}
        return [self._run(run, experiments[run["experiment"]], projects) for run in store.runs]

    def _run(
        self, run: Mapping[str, Any], experiment: Mapping[str, Any], projects: Mapping[int, str]
    ) -> ModelDbRun:
        store, run_id = self._server.store, run["id"]
        fits = [fit for fit in store.fits if fit["experimentRun"] == run_id]
        metrics = [metric for metric in store.metrics if metric["experimentRun"] == run_id]
        frames = store.data_frames.where("experimentRun", run_id)
        models = [fit["transformer"] for fit in fits]
        transformers = store.models.where("experimentRun", run_id)
        key_values = {
            pair["metadataKvId"]
            for frame in frames
            for pair in store.data_frame_metadata.where("dfId", frame["id"])
        }
        content = [
            run,
            *fits,
            *metrics,
            *frames,
            *(store.key_values.get(number) for number in key_values),
            *(spec for spec in store.specs if spec["experimentRun"] == run_id),
            *(
                parameter
                for parameter in store.hyperparameters
                if parameter["experimentRun"] == run_id
            ),
            *transformers,
            *(
                document
                for document in self._server.documents
                if document["MODELDB_model_id"] in models
            ),
        ]
        # metrics of no model of this run are nobody's: whoever reads the run does not see them
        seen = [
            (metric["metricType"], metric["metricValue"])
            for metric in metrics
            if metric["transformer"] in models
        ]
        return ModelDbRun(
            projects[experiment["project"]],
            experiment["name"],
            ", ".join(
                [
                    f"run {run_id}",
                    *(f"model {row['tag']}" for row in transformers if row["id"] in models),
                ]
            ),
            str(run_id),
            _v1_mark(run["description"]),
            seen,
            [(frame["tag"], frame["filepath"]) for frame in frames],
            len(models),
            "\n".join(map(str, content)),
        )


def _v1_mark(description: str | None) -> JobMark:
    marker = mark_in(description)
    if marker is None:
        return JobMark("", "")
    _, arn, creation_time = marker.split(" ")
    return JobMark(arn, creation_time)
