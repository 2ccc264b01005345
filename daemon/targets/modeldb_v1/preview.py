"""What a job would become in ModelDB V1: tables for people, the calls themselves for programs.

A preview has all calls of a job of which the server has nothing. `JobSync` leaves out what is there
already: a project with its experiment, or what an earlier attempt stored.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from thriftpy2.thrift import TPayload

from daemon.targets.modeldb_v1 import requests
from daemon.targets.ports import Preview

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from daemon.targets.modeldb_v1.mapping import MappedDataFrame, MappedJob

Rows = list[tuple[str, str]]


class _Answered(int):
    """An id that the server gives in the answer to an earlier call."""

    words: str

    @classmethod
    def of(cls, words: str) -> _Answered:
        made = cls()
        made.words = f"<{words}>"
        return made


_PROJECT = _Answered.of("project id")
_EXPERIMENT = _Answered.of("experiment id")
_RUN = _Answered.of("run id")
_MODEL = _Answered.of("model id")


def preview(job: MappedJob) -> Preview:
    """All calls that write the job.

    Args:
        job: what to write.
    """
    training = job.data_frames[0]
    sections: list[tuple[str, Rows]] = [
        (
            "project",
            [
                ("name", job.project_name),
                ("author", job.project_user),
                ("description", job.project_description),
            ],
        ),
        ("experiment", [("", "the default one of the project")]),
        ("run", [("description", job.marker)]),
        (
            "model",
            [
                ("name", job.model_name),
                ("type", job.model_type),
                ("location", job.model_location),
            ],
        ),
        ("hyperparameters", list(job.hyperparameters)),
        ("training data", _data_frame_rows(training)),
        ("other data", [(frame.tag, frame.filepath) for frame in job.data_frames[1:]]),
        (
            "metrics",
            [
                (
                    metric.name,
                    f"{metric.value!r} on {job.data_frames[metric.channel].tag or 'no data'}",
                )
                for metric in job.metrics
            ],
        ),
        ("metadata document", list(_members(json.loads(job.metadata or "{}")))),
        ("notes", [("", note) for note in job.notes]),
    ]
    return Preview(
        title="a run with one model in ModelDB V1",
        sections=[(heading, rows) for heading, rows in sections if rows],
        document={"calls": _calls(job), "notes": list(job.notes)},
    )


def _calls(job: MappedJob) -> list[dict[str, Any]]:
    """The calls in the order in which they are sent."""
    once = "once for all runs of the project"
    frames = {
        number: _Answered.of(f"data frame id {number}") for number in range(len(job.data_frames))
    }
    return [
        _call("storeProjectEvent", once, pr=requests.project_event(job)),
        _call("storeExperimentEvent", once, er=requests.default_experiment_event(_PROJECT)),
        _call("storeExperimentRunEvent", er=requests.run_event(_EXPERIMENT, job)),
        *(
            [
                _call(
                    "updateProject",
                    "if the project exists and has no description",
                    projectId=_PROJECT,
                    key="description",
                    value=job.project_description,
                )
            ]
            if job.project_description
            else []
        ),
        _call("storeFitEvent", fe=requests.fit_event(_RUN, job)),
        *(
            _call("storeDataFrame", df=requests.data_frame(frame), experimentRunId=_RUN)
            for frame in job.data_frames[1:]
        ),
        *(
            _call(
                "storeMetricEvent",
                me=requests.metric_event(_RUN, _MODEL, frames[metric.channel], metric),
            )
            for metric in job.metrics
        ),
    ]


def _call(method: str, when: str = "", **arguments: object) -> dict[str, Any]:
    """A call in plain values.

    Args:
        method: of the interface.
        when: the case in which it is sent; "": always.
        arguments: by their names in the interface.
    """
    plain = {name: _plain(value) for name, value in arguments.items()}
    return {"method": method, **({"when": when} if when else {}), "arguments": plain}


def _plain(value: Any) -> Any:  # noqa: ANN401 - any value of the interface
    """The value as JSON has it, without what is not sent."""
    if isinstance(value, _Answered):
        return value.words
    if isinstance(value, TPayload):
        members = {name: getattr(value, name) for _, name, *_ in value.thrift_spec.values()}
        return {name: _plain(member) for name, member in members.items() if member is not None}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value


def _data_frame_rows(frame: MappedDataFrame) -> Rows:
    """Empty for the data frame of a job without channels."""
    rows = [("name", frame.tag), ("location", frame.filepath), *frame.metadata]
    return [(key, value) for key, value in rows if value]


def _members(document: Mapping[str, Any], path: str = "") -> Iterable[tuple[str, str]]:
    """The members of the metadata document, those within others by their path."""
    for key, value in document.items():
        name = f"{path}{key}"
        if isinstance(value, dict) and value:
            yield from _members(value, f"{name}.")
        else:
            yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
