"""What the MLflow stand-in keeps: experiments, runs, data sets, registered models and versions."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

ACTIVE, DELETED = "active", "deleted"


@dataclass(frozen=True, slots=True)
class Point:
    """A value of a metric, as the database has it: NaN is a flag."""

    key: str
    value: float
    timestamp: int
    step: int
    is_nan: bool

    @property
    def order(self) -> tuple[int, int, float]:
        """The highest is the latest."""
        return self.step, self.timestamp, self.value

    def printed(self) -> dict[str, Any]:
        value = "NaN" if self.is_nan else self.value
        return {"key": self.key, "value": value, "timestamp": self.timestamp, "step": self.step}

    @classmethod
    def of(cls, key: str, value: float, timestamp: int, step: int) -> Point:
        """Infinities become the largest number."""
        largest = 1.7976931348623157e308
        stored = 0.0 if math.isnan(value) else max(-largest, min(largest, value))
        return cls(key, stored, timestamp, step, math.isnan(value))


@dataclass(slots=True)
class Experiment:
    id: int
    name: str
    artifact_location: str
    created: int
    updated: int
    tags: dict[str, str]
    stage: str = ACTIVE
    owner: str = ""

    def printed(self, *, with_workspace: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "experiment_id": str(self.id),
            "name": self.name,
            "artifact_location": self.artifact_location,
            "lifecycle_stage": self.stage,
            "last_update_time": self.updated,
            "creation_time": self.created,
        }
        if self.tags:
            body["tags"] = _pairs(self.tags)
        return body | ({"workspace": "default"} if with_workspace else {})


@dataclass(slots=True)
class Run:
    id: str
    experiment_id: int
    name: str
    user_id: str
    start_time: int
    artifact_uri: str
    tags: dict[str, str]
    status: str = "RUNNING"
    end_time: int | None = None
    stage: str = ACTIVE
    params: dict[str, str] = field(default_factory=dict)
    points: dict[Point, None] = field(default_factory=dict)
    """Every value of every metric, in the order of their arrival."""
    latest: dict[str, Point] = field(default_factory=dict)
    inputs: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    """By name and digest of the data set: the tags of the input."""

    def info(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "run_uuid": self.id,
            "experiment_id": str(self.experiment_id),
            "run_name": self.name,
            "user_id": self.user_id,
            "status": self.status,
            "start_time": self.start_time,
        }
        if self.end_time is not None:
            body["end_time"] = self.end_time
        return body | {
            "artifact_uri": self.artifact_uri,
            "lifecycle_stage": self.stage,
            "run_id": self.id,
        }

    def data(self) -> dict[str, Any]:
        body: dict[str, Any] = {}
        if self.latest:
            body["metrics"] = [point.printed() for point in self.latest.values()]
        if self.params:
            body["params"] = _pairs(self.params)
        if self.tags:
            body["tags"] = _pairs(self.tags)
        return body

    def add(self, point: Point) -> None:
        self.points[point] = None
        known = self.latest.get(point.key)
        if known is None or point.order > known.order:
            self.latest[point.key] = point


@dataclass(slots=True)
class Model:
    name: str
    description: str
    created: int
    updated: int
    tags: dict[str, str]
    owner: str = ""

    def printed(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "name": self.name,
            "creation_timestamp": self.created,
            "last_updated_timestamp": self.updated,
        }
        if self.description:
            body["description"] = self.description
        if self.tags:
            body["tags"] = _pairs(self.tags)
        return body


@dataclass(slots=True)
class Version:
    name: str
    number: int
    source: str
    run_id: str
    run_link: str
    description: str
    created: int
    updated: int
    tags: dict[str, str]
    deleted: bool = False

    def printed(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "name": self.name,
            "version": str(self.number),
            "creation_timestamp": self.created,
            "last_updated_timestamp": self.updated,
            "current_stage": "None",
            "description": self.description,
            "source": self.source,
            "run_id": self.run_id,
            "status": "READY",
            "run_link": self.run_link,
        }
        if self.tags:
            body["tags"] = _pairs(self.tags)
        return body


@dataclass(slots=True)
class Store:
    """The database."""

    experiments: dict[int, Experiment] = field(default_factory=dict)
    experiment_ids: dict[str, int] = field(default_factory=dict)
    """By name, of deleted ones as well."""
    runs: dict[str, Run] = field(default_factory=dict)
    runs_of: dict[int, list[Run]] = field(default_factory=dict)
    datasets: dict[tuple[int, str, str], dict[str, str]] = field(default_factory=dict)
    """By experiment, name and digest."""
    models: dict[str, Model] = field(default_factory=dict)
    versions: dict[str, list[Version]] = field(default_factory=dict)
    """By name of the model, deleted ones as well."""

    def add_experiment(self, experiment: Experiment) -> None:
        self.experiments[experiment.id] = experiment
        self.experiment_ids[experiment.name] = experiment.id
        self.runs_of[experiment.id] = []

    def add_run(self, run: Run) -> None:
        self.runs[run.id] = run
        self.runs_of[run.experiment_id].append(run)

    def printed_run(self, run: Run, *, outputs: bool) -> dict[str, Any]:
        inputs = [self._printed_input(run, key, tags) for key, tags in run.inputs.items()]
        body: dict[str, Any] = {
            "info": run.info(),
            "data": run.data(),
            "inputs": {"dataset_inputs": inputs} if inputs else {},
        }
        return body | ({"outputs": {}} if outputs else {})

    def _printed_input(
        self, run: Run, key: tuple[str, str], tags: dict[str, str]
    ) -> dict[str, Any]:
        dataset = dict(self.datasets[run.experiment_id, *key])
        return ({"tags": _pairs(tags)} if tags else {}) | {"dataset": dataset}

    def copy(self) -> Store:
        return copy.deepcopy(self)


def _pairs(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]
