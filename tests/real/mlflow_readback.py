"""Whether an MLflow holds each job once and complete, field by field, as its official client
reads it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.targets.mlflow.mapping import ARN_TAG, CREATION_TIME_TAG, WRITTEN_TAG, map_run
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags, TagKeys, read_tags
from tests.real.mlflow_lab import interpreter, output_of
from tests.support.aws_vectors import parsed_description

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from daemon.targets.mlflow.mapping import MappedModel, MappedRun
    from daemon.training_job.training_run import TrainingRun
    from tests.support.daemon_process import Job


@dataclass(frozen=True)
class Readback:
    """What `mlflow_reader` printed."""

    experiments: Sequence[Mapping[str, Any]]
    runs: Sequence[Mapping[str, Any]]
    models: Mapping[str, str]
    versions: Sequence[Mapping[str, Any]]
    frame: Sequence[Mapping[str, Any]] = ()

    def of_run(self, run_id: str) -> list[Mapping[str, Any]]:
        """The model versions of a run."""
        return [each for each in self.versions if each["run_id"] == run_id]


async def read(url: str, *options: str, environment: Mapping[str, str] | None = None) -> Readback:
    """Everything in a server.

    Args:
        url: of the server.
        options: of `mlflow_reader`.
        environment: for the client, such as its login.
    """
    reader = Path(__file__).with_name("mlflow_reader.py")
    text = await output_of(
        await interpreter(),
        str(reader),
        url,
        *options,
        environment=environment,
    )
    return Readback(**json.loads(text))


def run_of(job: Job) -> TrainingRun:
    """As a daemon with ``jobs.redact: []`` reads it."""
    tags = read_tags(job.tags, TagKeys())
    assert isinstance(tags, JobTags)
    description = parsed_description(json.dumps(job.description).encode())
    return training_run(DescribedJob.of(description), tags, job.tags, ())


def mapped(job: Job) -> MappedRun:
    return map_run(run_of(job))


def wrong(jobs: Iterable[Job], found: Readback) -> list[str]:
    """Deviations: no run, two runs, half a run, another value, a missing or second version."""
    by_mark: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in found.runs:
        if not run["deleted"]:
            mark = (run["tags"].get(ARN_TAG, ""), run["tags"].get(CREATION_TIME_TAG, ""))
            by_mark.setdefault(mark, []).append(run)
    experiments = {each["id"]: each for each in found.experiments}
    deviations = []
    counted_versions = 0
    for job in jobs:
        expected = mapped(job)
        runs = by_mark.pop((expected.mark.arn, expected.mark.creation_time), [])
        if len(runs) != 1:
            deviations.append(f"{job.name}: {len(runs)} runs")
            continue
        (run,) = runs
        deviations += [f"{job.name}: {each}" for each in _differences(expected, run)]
        experiment = experiments[run["experiment_id"]]
        if experiment["name"] != expected.experiment_name:
            deviations.append(f"{job.name}: in the experiment {experiment['name']}")
        versions = found.of_run(run["id"])
        counted_versions += len(versions)
        deviations += [
            f"{job.name}: {each}" for each in _version_differences(expected.model, versions)
        ]
    if counted_versions != len(found.versions):
        deviations.append(f"{len(found.versions)} model versions, {counted_versions} of the jobs")
    return deviations + [f"a run that nobody wanted: {mark}" for mark in by_mark]


def _differences(expected: MappedRun, run: Mapping[str, Any]) -> list[str]:
    tags = {
        key: value
        for key, value in run["tags"].items()
        if key not in {WRITTEN_TAG, "mlflow.runName"}
    }
    points: dict[str, list[list[float]]] = {}
    for point in expected.metrics:
        points.setdefault(point.key, []).append([point.value, point.timestamp, point.step])
    wanted = {
        "name": expected.run_name,
        "status": expected.status,
        "start_time": expected.start_time,
        "end_time": expected.end_time,
        "tags": {key: value for key, value in expected.tags.items() if key != "mlflow.runName"},
        "params": dict(expected.params),
        "metrics": {key: _comparable(each) for key, each in points.items()},
        "inputs": sorted(
            (each.name, each.digest, each.source_type, each.source, each.context)
            for each in expected.inputs
        ),
    }
    is_there = {
        **{key: run[key] for key in ("name", "status", "start_time", "end_time", "params")},
        "tags": tags,
        "metrics": {key: _comparable(each) for key, each in run["metrics"].items()},
        "inputs": sorted(
            (
                each["name"],
                each["digest"],
                each["source_type"],
                each["source"],
                each["tags"].get("mlflow.data.context", ""),
            )
            for each in run["inputs"]
        ),
    }
    return [
        f"{key} {is_there[key]} instead of {wanted[key]}"
        for key in wanted
        if is_there[key] != wanted[key]
    ]


def _comparable(points: Iterable[Sequence[float]]) -> list[str]:
    """NaN equals itself here; equal points are one, as in MLflow."""
    return sorted({repr(tuple(point)) for point in points})


def _version_differences(
    expected: MappedModel | None, versions: Sequence[Mapping[str, Any]]
) -> list[str]:
    if len(versions) != (expected is not None):
        return [f"{len(versions)} model versions"]
    if expected is None:
        return []
    version = dict(versions[0])
    wanted: dict[str, object] = {
        "name": expected.name,
        "source": expected.source,
        "run_link": expected.run_link or "",
        "description": expected.version_description,
        "tags": dict(expected.tags),
        "status": "READY",
        "aliases": [],
    }
    is_there = version | {"run_link": version["run_link"] or ""}
    return [
        f"{key} of the version {is_there[key]} instead of {wanted[key]}"
        for key in wanted
        if is_there[key] != wanted[key]
    ]
