"""What a job would become in MLflow: as tables for people, as JSON for programs."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from daemon.targets.ports import Preview
from daemon.targets.times import iso

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from daemon.targets.mlflow.entities import DatasetInput, MetricPoint
    from daemon.targets.mlflow.mapping import MappedModel, MappedRun

Rows = list[tuple[str, str]]


def preview(mapped: MappedRun) -> Preview:
    """The experiment, run and model version of a job."""
    sections: list[tuple[str, Rows]] = [
        ("experiment", [("name", mapped.experiment_name), *mapped.experiment_tags.items()]),
        (
            "run",
            [
                ("name", mapped.run_name),
                ("status", mapped.status),
                ("start_time", iso(mapped.start_time)),
                ("end_time", iso(mapped.end_time)),
            ],
        ),
        ("params", list(mapped.params.items())),
        ("metrics", _metrics(mapped.metrics)),
        (
            "data sets",
            [(data.name, f"{data.source} ({data.source_type})") for data in mapped.inputs],
        ),
        ("model version", [] if mapped.model is None else _model(mapped.model)),
        ("tags", list(mapped.tags.items())),
        ("notes", [("", note) for note in mapped.notes]),
    ]
    return Preview(
        title="a run in MLflow",
        sections=[(heading, rows) for heading, rows in sections if rows],
        document={
            "experiment": {
                "name": mapped.experiment_name,
                "tags": _entries(mapped.experiment_tags),
            },
            "run": {
                "info": {
                    "run_name": mapped.run_name,
                    "status": mapped.status,
                    "start_time": mapped.start_time,
                    "end_time": mapped.end_time,
                },
                "data": {
                    "metrics": [_point(point) for point in mapped.metrics],
                    "params": _entries(mapped.params),
                    "tags": _entries(mapped.tags),
                },
                "inputs": {"dataset_inputs": [_input(data) for data in mapped.inputs]},
            },
            **({} if mapped.model is None else {"model_version": _version(mapped.model)}),
            "notes": list(mapped.notes),
        },
    )


def _metrics(points: Iterable[MetricPoint]) -> Rows:
    """The latest value of each metric, and how many points it has; the document has them all."""
    by_key: dict[str, list[MetricPoint]] = {}
    for point in points:
        by_key.setdefault(point.key, []).append(point)
    rows = []
    for key, found in by_key.items():
        latest = max(found, key=lambda point: (point.step, point.timestamp))
        value = json.dumps(latest.value)
        rows.append((key, value if len(found) == 1 else f"{value} ({len(found)} points)"))
    return rows


def _source(data: DatasetInput) -> str:
    return f"{data.source} ({data.source_type})"


def _model(model: MappedModel) -> Rows:
    return [
        ("model", model.name),
        ("source", model.source),
        *([] if model.run_link is None else [("run_link", model.run_link)]),
        ("description", model.version_description),
        *model.tags.items(),
    ]


def _entries(texts: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in texts.items()]


def _point(point: MetricPoint) -> dict[str, Any]:
    """NaN as MLflow writes it, because JSON has none."""
    return {
        "key": point.key,
        "value": "NaN" if math.isnan(point.value) else point.value,
        "timestamp": point.timestamp,
        "step": point.step,
    }


def _input(data: DatasetInput) -> dict[str, Any]:
    return {
        "dataset": {
            "name": data.name,
            "digest": data.digest,
            "source_type": data.source_type,
            "source": data.source,
        },
        "tags": [{"key": "mlflow.data.context", "value": data.context}],
    }


def _version(model: MappedModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "source": model.source,
        **({} if model.run_link is None else {"run_link": model.run_link}),
        "description": model.version_description,
        "tags": _entries(model.tags),
    }
