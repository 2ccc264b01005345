"""What a job would become in ModelDB V2: as tables for people, as JSON for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from daemon.targets.ports import Preview
from daemon.targets.times import iso

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from daemon.targets.modeldb_v2.mapping import MappedRun

Rows = list[tuple[str, str]]


def preview(mapped: MappedRun, *, project_attributes: Mapping[str, str]) -> Preview:
    """The project, experiment and run of a job.

    Args:
        mapped: the job.
        project_attributes: of its project.
    """
    body = mapped.body
    sections: list[tuple[str, Rows]] = [
        (
            "project",
            [
                ("name", mapped.project_name),
                ("description", mapped.project_description),
                *project_attributes.items(),
            ],
        ),
        ("experiment", [("name", mapped.experiment_name)]),
        (
            "run",
            [
                ("name", mapped.run_name),
                ("description", body["description"]),
                *((key, iso(body[key])) for key in _TIMES if key in body),
                ("tags", ", ".join(body["tags"])),
            ],
        ),
        *((name, _values(body[name])) for name in ("hyperparameters", "metrics")),
        *((name, _paths(body[name])) for name in ("datasets", "artifacts")),
        ("attributes", _values(body["attributes"])),
        ("observations", _curves(body.get("observations", ()))),
        ("notes", [("", note) for note in mapped.notes]),
    ]
    return Preview(
        title="a run in ModelDB V2",
        sections=[(heading, rows) for heading, rows in sections if rows],
        document={
            "project": {
                "name": mapped.project_name,
                "description": mapped.project_description,
                "attributes": [
                    {"key": key, "value": value} for key, value in project_attributes.items()
                ],
            },
            "experiment": {"name": mapped.experiment_name},
            "experiment_run": dict(body),
            "notes": list(mapped.notes),
        },
    )


_TIMES = ("start_time", "end_time", "date_created")


def _values(entries: Iterable[Mapping[str, Any]]) -> Rows:
    return [(entry["key"], _text(entry["value"])) for entry in entries]


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _paths(entries: Iterable[Mapping[str, Any]]) -> Rows:
    return [(entry["key"], f"{entry['path']} ({entry['artifact_type']})") for entry in entries]


def _curves(entries: Iterable[Mapping[str, Any]]) -> Rows:
    """The number of points of each curve; the document has them all."""
    points: dict[str, int] = {}
    for entry in entries:
        key = entry["attribute"]["key"]
        points[key] = points.get(key, 0) + 1
    return [(key, f"{count} points") for key, count in points.items()]
