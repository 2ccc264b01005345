"""Real ModelDB V1 servers for tests, run by the control script in MODELDB_V1_LAB.

The script has the commands ``up --port N [--mongo]``, ``down``, ``kill``, ``mongo-stop`` and
``mongo-start``. Each server has its own folder, named by MODELDB_V1_STATE, with the SQLite database
``modeldb.db``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.targets.modeldb_v1.mapping import map_job
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags, TagKeys, read_tags
from tests.support.aws_vectors import parsed_description

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from daemon.targets.modeldb_v1.mapping import MappedJob
    from tests.support.daemon_process import Job

LAB = os.environ.get("MODELDB_V1_LAB", "")


@dataclass(frozen=True)
class StoredRun:
    """A run and its rows in the database."""

    project: tuple[str, str, str]
    """Name, author, description."""
    marker: str
    models: Sequence[StoredModel]
    data_frames: Sequence[tuple[str, str]]
    """Tag and path of all data frames of the run, sorted."""


@dataclass(frozen=True)
class StoredModel:
    """One fit."""

    model_type: str
    model_name: str
    """The spec's tag."""
    training: tuple[str, str]
    hyperparameters: Sequence[tuple[str, str]]
    metrics: Sequence[tuple[str, float, str]]
    """Name, value and the tag of its data frame, sorted, each once."""


class LabServer:
    """One server."""

    def __init__(self, state: Path, *, mongo: bool) -> None:
        self._state = state
        self._mongo = mongo
        self.port = 0

    @property
    def target(self) -> dict[str, Any]:
        """The section of the configuration."""
        return {
            "kind": "modeldb-v1",
            "host": "127.0.0.1",
            "port": self.port,
            "metadata_store": self._mongo,
            "settle_seconds": 1,
        }

    @property
    def database(self) -> Path:
        """The server's SQLite file."""
        return self._state / "modeldb.db"

    async def up(self) -> None:
        """Starts it, or restarts it with the same port and data."""
        answer = await self.run(
            "up", "--port", str(self.port), *(["--mongo"] if self._mongo else [])
        )
        self.port = int(answer.strip().rpartition(":")[2])

    async def forget_sqlite(self) -> None:
        """Stops it, deletes its SQLite file and starts it with an empty one. MongoDB goes on."""
        await self.run("kill")
        self._delete("modeldb.db*")
        await self.up()

    async def forget_documents(self) -> None:
        """MongoDB starts empty; the server runs on."""
        await self.run("mongo-stop")
        self._delete("mongo.mv*")
        await self.run("mongo-start")

    def _delete(self, files: str) -> None:
        for each in self._state.glob(files):
            each.unlink()

    async def run(self, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            LAB,
            *arguments,
            env=os.environ | {"MODELDB_V1_STATE": str(self._state)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        answer, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return answer.decode()

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        with contextlib.closing(
            sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10)
        ) as database:
            database.row_factory = sqlite3.Row
            return database.execute(query, values).fetchall()

    def counts(self) -> Mapping[str, int]:
        tables = (
            "Project",
            "ExperimentRun",
            "FitEvent",
            "Transformer",
            "TransformerSpec",
            "DataFrame",
            "MetricEvent",
        )
        return {table: self.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in tables}

    def runs(self) -> list[StoredRun]:
        """Every run, oldest first."""
        return [self._run(row) for row in self.rows(_RUNS)]

    def _run(self, row: sqlite3.Row) -> StoredRun:
        frames = self.rows("SELECT tag, filepath FROM DataFrame WHERE experimentRun = ?", row["id"])
        return StoredRun(
            (row["name"], row["author"], row["about"]),
            row["description"],
            [
                self._model(fit)
                for fit in self.rows(
                    "SELECT * FROM FitEvent WHERE experimentRun = ? ORDER BY transformer", row["id"]
                )
            ],
            sorted((frame["tag"], frame["filepath"] or "") for frame in frames),
        )

    def _model(self, fit: sqlite3.Row) -> StoredModel:
        (spec,) = self.rows("SELECT * FROM TransformerSpec WHERE id = ?", fit["transformerSpec"])
        (frame,) = self.rows("SELECT * FROM DataFrame WHERE id = ?", fit["df"])
        parameters = self.rows(
            "SELECT paramName, paramValue FROM HyperParameter WHERE spec = ?", spec["id"]
        )
        metrics = self.rows(
            "SELECT DISTINCT metricType, metricValue, tag FROM MetricEvent JOIN DataFrame ON df = "
            "DataFrame.id WHERE transformer = ?",
            fit["transformer"],
        )
        return StoredModel(
            spec["transformerType"],
            spec["tag"],
            (frame["tag"], frame["filepath"] or ""),
            sorted((each["paramName"], each["paramValue"]) for each in parameters),
            sorted((each["metricType"], each["metricValue"], each["tag"]) for each in metrics),
        )


_RUNS = """
SELECT ExperimentRun.id, ExperimentRun.description, Project.name, Project.author,
    Project.description AS about
FROM ExperimentRun
    JOIN Experiment ON ExperimentRun.experiment = Experiment.id
    JOIN Project ON Experiment.project = Project.id
ORDER BY ExperimentRun.id
"""


@contextlib.asynccontextmanager
async def lab_server(*, mongo: bool) -> AsyncIterator[LabServer]:
    """A server on a free port with an empty database, stopped after the test."""
    with tempfile.TemporaryDirectory(prefix="modeldb-v1-", ignore_cleanup_errors=True) as state:
        server = LabServer(Path(state), mongo=mongo)
        await server.up()
        try:
            yield server
        finally:
            await server.run("down")


def expected_model(job: MappedJob) -> StoredModel:
    """The mapped model as SQL stores it."""
    from daemon.targets.modeldb_v1.readback import float32

    return StoredModel(
        job.model_type,
        job.model_name,
        (job.data_frames[0].tag, job.data_frames[0].filepath),
        sorted(job.hyperparameters),
        sorted(
            (each.name, float32(each.value), job.data_frames[each.channel].tag)
            for each in job.metrics
        ),
    )


def mapped(job: Job, server: LabServer) -> MappedJob:
    tags = read_tags(job.tags, TagKeys())
    assert isinstance(tags, JobTags)
    description = parsed_description(json.dumps(job.description).encode())
    return map_job(
        training_run(DescribedJob.of(description), tags, job.tags, ()),
        metadata_store=server.target["metadata_store"],
    )


def wrong(jobs: Sequence[Job], server: LabServer) -> list[str]:
    """Deviations: no run, two runs, another model, a wrong data frame."""
    by_marker: dict[str, list[StoredRun]] = {}
    for run in server.runs():
        by_marker.setdefault(run.marker, []).append(run)
    found = []
    for job in jobs:
        expected = mapped(job, server)
        runs = by_marker.pop(expected.marker, [])
        if len(runs) != 1:
            found.append(f"{job.name}: {len(runs)} runs")
            continue
        (run,) = runs
        if run.project != (
            expected.project_name,
            expected.project_user,
            expected.project_description,
        ):
            found.append(f"{job.name}: project {run.project}")
        if list(run.models) != [expected_model(expected)]:
            found.append(f"{job.name}: {run.models} instead of {expected_model(expected)}")
        if set(run.data_frames) != {(frame.tag, frame.filepath) for frame in expected.data_frames}:
            found.append(f"{job.name}: data frames {run.data_frames}")
    return found + [f"a run that nobody wanted: {marker}" for marker in by_marker]
