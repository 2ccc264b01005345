"""How a run in ModelDB V1 differs from its job, and what can be done about each difference.

The interface has a call for metrics (the newer of two values on one data frame is the one that is
read), for members of the metadata document, and for the project's description. Everything else is
stored once and for all. Only what this program writes is compared: what people added is not seen.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.targets.modeldb_v1.pairing import ForeignDocument
from daemon.targets.modeldb_v1.readback import (
    StoredModel,
    data_frames_of_metrics,
    float32,
    from_details,
    other_owner,
)
from daemon.text import shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from daemon.targets.modeldb_v1.mapping import MappedJob
    from daemon.targets.modeldb_v1.run_index import FoundRun

_CHARACTERS = 120
"""Of each value in a text for people."""
_OWN_MEMBERS = ("TAGS",)
"""Members of the document whose own members are all this program's."""
_VERSION = "JOB.sync_version"
"""Which version of this program wrote the document: alone it is no difference."""
_JAVA_INTEGERS = range(-(2**31), 2**31)

NOT_READABLE = (
    "model, metrics and data frames: a ModelDB V1 without a metadata store shows none of them, so "
    "they are left as they are"
)


@dataclass(frozen=True, slots=True)
class MetricChange:
    """A metric that the model lacks or has with another value."""

    number: int
    """Index in `MappedJob.metrics`."""
    data_frame_id: int | None
    """Where to store it; None: the data frame of its channel, which must be stored first."""


@dataclass(frozen=True, slots=True)
class MemberChange:
    """A member of the metadata document to set."""

    path: str
    """Keys, joined by dots, as the server takes them."""
    value: str
    value_type: str
    """One of the server's words for the type."""


@dataclass(frozen=True, slots=True)
class Differences:
    """Of one run."""

    model_id: int | None
    """None: the run has no model, or it cannot be read."""
    metrics: tuple[MetricChange, ...] = ()
    members: tuple[MemberChange, ...] = ()
    project_description: bool = False
    """The project has none, and the job gives one."""
    changed: tuple[str, ...] = ()
    """What these become, for people; one line each."""
    unchangeable: tuple[str, ...] = ()
    """What no call changes, for people; one line each."""


def differences(job: MappedJob, run: FoundRun, details: Any) -> Differences:  # noqa: ANN401 - a Thrift struct
    """Compares a run with its job. Pure.

    Args:
        job: as it is to be.
        run: with the job's mark.
        details: of the run, as ``getExperimentRunDetails`` answers. A server without a metadata
            store cannot give them.

    Raises:
        ForeignDocument: the model's metadata are another job's.
    """
    found = _Found()
    found.project(job, details.project)
    models = sorted(details.modelResponses, key=lambda each: int(each.id))
    if not models:
        return found.differences(None)
    same = from_details(job, models)
    response = models[0] if same is None else _of_id(models, same.model_id)
    owner = other_owner(response.metadata, job.marker)
    if owner is not None:
        raise ForeignDocument("getExperimentRunDetails", run.run_id, response.id, owner)
    if same is None:
        found.model(job, response)
    found.metrics(job, _stored(response))
    found.document(job, response.metadata)
    return found.differences(response.id)


class _Found:
    """Collects the differences of one run."""

    def __init__(self) -> None:
        self._metrics: list[MetricChange] = []
        self._members: list[MemberChange] = []
        self._project_description = False
        self._changed: list[str] = []
        self._unchangeable: list[str] = []

    def differences(self, model_id: int | None) -> Differences:
        return Differences(
            model_id,
            tuple(self._metrics),
            tuple(self._members),
            self._project_description,
            tuple(self._changed),
            tuple(self._unchangeable),
        )

    def project(self, job: MappedJob, project: Any) -> None:  # noqa: ANN401 - a Thrift struct
        if (project.name, project.author) != (job.project_name, job.project_user):
            self._unchangeable.append(
                f"project {_shown(job.project_name)} of {_shown(job.project_user)}: the run is in "
                f"{_shown(project.name)} of {_shown(project.author)}; no call moves a run"
            )
        elif job.project_description and not project.description:
            self._project_description = True
            self._changed.append(f"description of the project: {_shown(job.project_description)}")
        elif job.project_description and job.project_description != project.description:
            self._unchangeable.append(
                f"description of the project: {_shown(project.description)} stays; the project's "
                "jobs and people share it"
            )

    def model(self, job: MappedJob, response: Any) -> None:  # noqa: ANN401 - a Thrift struct
        """What is stored with the model, in SQL."""
        spec, frame = response.specification, response.trainingDataFrame
        wanted_frame = job.data_frames[0]
        there = {each.name: each.value for each in spec.hyperparameters or ()}
        wanted = dict(job.hyperparameters)
        pairs = [
            ("model type", spec.transformerType or "", job.model_type),
            ("model name", spec.tag or "", job.model_name),
            ("name of the training data", frame.tag or "", wanted_frame.tag),
            ("location of the training data", frame.filepath or "", wanted_frame.filepath),
            *(
                (f"hyperparameter {_shown(key)}", there.get(key), wanted.get(key))
                for key in dict.fromkeys([*wanted, *there])
            ),
        ]
        self._unchangeable += [
            f"{what}: {_stays(old)} instead of {_words(new)}; ModelDB V1 stores it once, with the "
            "model"
            for what, old, new in pairs
            if old != new
        ]

    def metrics(self, job: MappedJob, model: StoredModel) -> None:
        stored = model.metrics or {}
        frames = {0: model.data_frame_id, **_frames_of_channels(job, model)}
        for number, metric in enumerate(job.metrics):
            on = stored.get(metric.name, {})
            frame = frames.get(metric.channel)
            if on and frame not in on:
                frame = min(on)  # the one that ModelDB's web pages show
            old = None if frame is None else on.get(frame)
            if old == float32(metric.value):
                continue
            self._metrics.append(MetricChange(number, frame))
            was = "" if old is None else f" instead of {old!r}"
            self._changed.append(f"metric {_shown(metric.name)}: {metric.value!r}{was}")

    def document(self, job: MappedJob, text: str | None) -> None:
        if job.metadata is None:
            return
        if not text:
            self._unchangeable.append(
                "metadata of the model: it has none; to add them now could store the model twice"
            )
            return
        try:
            there = json.loads(text)
        except (ValueError, RecursionError):
            there = None
        if not isinstance(there, dict):
            self._unchangeable.append(
                "metadata of the model: somebody stored values in them that are no JSON"
            )
            return
        wanted = json.loads(job.metadata)
        changes = list(_member_changes(wanted, there, ()))
        if [path for path, *_ in changes] == [tuple(_VERSION.split("."))]:
            changes = []
        for path, old, new in changes:
            self._member(path, old, new)
        for own in _OWN_MEMBERS:
            for key in _extra(wanted.get(own), there.get(own)):
                self._unchangeable.append(
                    f"metadata {own} {_shown(key)}: {_shown(there[own][key])} stays; no call "
                    "removes it"
                )

    def _member(self, path: Sequence[str], old: object, new: object) -> None:
        what = f"metadata {path[0]}" + "".join(f" {_shown(key)}" for key in path[1:])
        if "" in path or isinstance(new, list | dict):
            self._unchangeable.append(f"{what}: no call changes it")
            return
        self._members.append(_typed(path, new))
        was = "" if old is None else f" instead of {_shown(old)}"
        self._changed.append(f"{what}: {_shown(new)}{was}")


def _member_changes(
    wanted: Mapping[str, Any], there: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], object, object]]:
    """Path, old value (None: absent) and new value of each member that differs. Members within
    members each count for themselves.
    """
    for key, new in wanted.items():
        old = there.get(key)
        if isinstance(new, dict) and (old is None or isinstance(old, dict)):
            yield from _member_changes(new, old or {}, (*path, key))
        elif new != old or isinstance(new, bool) != isinstance(old, bool):
            yield (*path, key), old, new


def _extra(wanted: object, there: object) -> Iterable[str]:
    """Keys that only the stored member has."""
    if not isinstance(wanted, dict) or not isinstance(there, dict):
        return ()
    return [key for key in there if key not in wanted]


def _typed(path: Sequence[str], value: object) -> MemberChange:
    match value:
        case bool():
            text, word = str(value).lower(), "bool"
        case int():
            text, word = str(value), "int" if value in _JAVA_INTEGERS else "long"
        case float():
            text, word = repr(value), "double"
        case _:
            text, word = str(value), "string"
    return MemberChange(".".join(path), text, word)


def _frames_of_channels(job: MappedJob, model: StoredModel) -> dict[int, int]:
    """Ids of the other channels' data frames, as far as metrics on them are stored, whatever their
    values.
    """
    found = data_frames_of_metrics(job, model)
    for metric in job.metrics:
        others = [
            frame
            for frame in (model.metrics or {}).get(metric.name, {})
            if frame != model.data_frame_id
        ]
        if metric.channel and others:
            found.setdefault(metric.channel, min(others))
    return found


def _stored(response: Any) -> StoredModel:  # noqa: ANN401 - a Thrift struct
    metrics = {name: dict(by_frame) for name, by_frame in (response.metrics or {}).items()}
    return StoredModel(
        response.id, response.trainingDataFrame.id, metrics, has_document=bool(response.metadata)
    )


def _of_id(models: Iterable[Any], model_id: int) -> Any:  # noqa: ANN401 - as above
    return next(each for each in models if each.id == model_id)


def _stays(old: str | None) -> str:
    return "there is none" if old is None else f"{_shown(old)} stays"


def _words(new: str | None) -> str:
    return "none" if new is None else _shown(new)


def _shown(value: object) -> str:
    if isinstance(value, str):
        return repr(shortened(value, _CHARACTERS))
    return shortened(json.dumps(value, ensure_ascii=False), _CHARACTERS)
