"""ModelDB V1 in the demo."""

from __future__ import annotations

import shlex
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from daemon.demo.modeldb_v1.server import ModelDbV1StandIn
from daemon.demo.target import DATABASE_ANSWER_SECONDS, SETTLE_SECONDS, FoundRun
from daemon.targets.modeldb_v1.mapping import mark_in
from daemon.training_job.identity import JobMark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    import aiohttp


@asynccontextmanager
async def running(_http: aiohttp.ClientSession, _folder: Path) -> AsyncIterator[DemoModelDbV1]:
    """The stand-in, until the block ends."""
    async with ModelDbV1StandIn(storage_busy_seconds=DATABASE_ANSWER_SECONDS) as server:
        yield DemoModelDbV1(server)


class DemoModelDbV1:
    """A `DemoTarget`, read from its tables: no call shows all data frames of a run."""

    system = "ModelDB"
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

    async def runs(self) -> Sequence[FoundRun]:
        store = self._server.store
        projects = {row["id"]: row["name"] for row in store.projects}
        experiments = {row["id"]: row for row in store.experiments}
        return [self._run(run, experiments[run["experiment"]], projects) for run in store.runs]

    def _run(
        self, run: Mapping[str, Any], experiment: Mapping[str, Any], projects: Mapping[int, str]
    ) -> FoundRun:
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
        # metrics of another run's model do not show in this run
        seen = [
            (metric["metricType"], metric["metricValue"])
            for metric in metrics
            if metric["transformer"] in models
        ]
        return FoundRun(
            projects[experiment["project"]],
            experiment["name"],
            ", ".join(
                [
                    f"run {run_id}",
                    *(f"model {row['tag']}" for row in transformers if row["id"] in models),
                ]
            ),
            str(run_id),
            _mark(run["description"]),
            seen,
            [(frame["tag"], frame["filepath"]) for frame in frames],
            len(models),
            "\n".join(map(str, content)),
        )


def _mark(description: str | None) -> JobMark:
    marker = mark_in(description)
    if marker is None:
        return JobMark("", "")
    _, arn, creation_time = marker.split(" ")
    return JobMark(arn, creation_time)
