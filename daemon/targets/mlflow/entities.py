"""Experiments, runs and model versions in MLflow's answers: the members that this program reads.

Its JSON leaves unset members out. Integers are numbers, or strings as protobuf writes them; floats
that JSON does not have are the strings ``NaN``, ``Infinity`` and ``-Infinity``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SURROGATE = re.compile("[\ud800-\udfff]")
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_INT64 = 2**63
_NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})
_OF_ERRORS = frozenset({"__type", "code", "error", "error_code", "errors", "message"})
"""Members of the answers of gateways, some of which are 200."""
_LIFECYCLE = {"active": False, "deleted": True}

Entity = TypeVar("Entity", bound="Experiment | Run | ModelVersion")


@dataclass(frozen=True, slots=True)
class Experiment:
    id: str
    name: str
    deleted: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, found: object) -> Experiment:
        """Raises ValueError if it is not an experiment."""
        fields = _object(found, "experiment")
        return cls(
            _id(fields, "experiment_id"),
            _given(fields, "name"),
            _deleted(fields),
            _texts(fields, "tags"),
        )


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One value of a metric.

    Attributes:
        key: the metric's.
        value: may be NaN; infinite only when read.
        timestamp: epoch milliseconds.
        step: of the training.
    """

    key: str
    value: float
    timestamp: int
    step: int

    @classmethod
    def parse(cls, found: object) -> MetricPoint:
        """Raises ValueError if it is not a metric."""
        fields = _object(found, "metric")
        return cls(
            _given(fields, "key"),
            _number(fields, "value"),
            _integer(fields, "timestamp"),
            _integer(fields, "step"),
        )


@dataclass(frozen=True, slots=True)
class DatasetInput:
    """A data set that a run read.

    Attributes:
        name: of the data set.
        digest: tells data sets of a name apart.
        source_type: such as ``s3``.
        source: as its type demands it, such as JSON with a URI.
        context: what it was used for, from the tag ``mlflow.data.context``.
    """

    name: str
    digest: str
    source_type: str
    source: str
    context: str

    @classmethod
    def parse(cls, found: object) -> DatasetInput:
        """Raises ValueError if it is not an input."""
        fields = _object(found, "dataset input")
        dataset = _object(_member(fields, "dataset"), "dataset")
        return cls(
            _given(dataset, "name"),
            _text(dataset, "digest"),
            _text(dataset, "source_type"),
            _text(dataset, "source"),
            _texts(fields, "tags").get(CONTEXT_TAG, ""),
        )


CONTEXT_TAG = "mlflow.data.context"


@dataclass(frozen=True, slots=True)
class Run:
    """A run, with the latest value of each metric. Times are epoch milliseconds."""

    id: str
    experiment_id: str
    name: str
    status: str
    deleted: bool = False
    start_time: int = 0
    end_time: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, MetricPoint] = field(default_factory=dict)
    inputs: tuple[DatasetInput, ...] = ()

    @classmethod
    def parse(cls, found: object) -> Run:
        """Raises ValueError if it is not a run."""
        fields = _object(found, "run")
        info = _object(_member(fields, "info"), "info")
        data = _object(fields.get("data", {}), "data")
        inputs = _object(fields.get("inputs", {}), "inputs")
        points = map(MetricPoint.parse, _list(data, "metrics"))
        return cls(
            _id(info, "run_id"),
            _id(info, "experiment_id"),
            _text(info, "run_name"),
            _given(info, "status"),
            _deleted(info),
            _integer(info, "start_time"),
            _integer(info, "end_time") if info.get("end_time") is not None else None,
            _texts(data, "tags"),
            _texts(data, "params"),
            {point.key: point for point in points},
            tuple(map(DatasetInput.parse, _list(inputs, "dataset_inputs"))),
        )


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version of a registered model."""

    name: str
    version: str
    run_id: str = ""
    source: str = ""
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, found: object) -> ModelVersion:
        """Raises ValueError if it is not a model version."""
        fields = _object(found, "model version")
        version = _given(fields, "version")
        if not re.fullmatch(r"[0-9]{1,19}", version):
            raise ValueError("version is no number")
        return cls(
            _id(fields, "name"),
            version,
            _text(fields, "run_id"),
            _text(fields, "source"),
            _text(fields, "description"),
            _texts(fields, "tags"),
        )


def _one(member: str, parse: Callable[[object], Entity]) -> Callable[[Mapping[str, Any]], Entity]:
    """Reader of an answer with one entity; raises ValueError for anything else."""
    return lambda answer: parse(_member(answer, member))


def _page(
    member: str, parse: Callable[[object], Entity]
) -> Callable[[Mapping[str, Any]], tuple[tuple[Entity, ...], str]]:
    """Reader of a page of a search and of the token of the next one (empty after the last); raises
    ValueError for anything else. Nothing found is ``{}``.
    """

    def read(answer: Mapping[str, Any]) -> tuple[tuple[Entity, ...], str]:
        if member not in answer and answer.keys() - {"next_page_token"}:
            raise ValueError(f"no {member}")
        return tuple(map(parse, _list(answer, member))), _text(answer, "next_page_token")

    return read


EXPERIMENT = _one("experiment", Experiment.parse)
EXPERIMENTS = _page("experiments", Experiment.parse)
RUN = _one("run", Run.parse)
RUNS = _page("runs", Run.parse)
MODEL_VERSION = _one("model_version", ModelVersion.parse)
MODEL_VERSIONS = _page("model_versions", ModelVersion.parse)


def experiment_id(answer: Mapping[str, Any]) -> str:
    """Reads the answer to the creation of an experiment; raises ValueError for anything else."""
    return _id(answer, "experiment_id")


def run_status(answer: Mapping[str, Any]) -> str:
    """Reads the status in the answer to an update of a run; raises ValueError for anything else."""
    return _given(_object(_member(answer, "run_info"), "run_info"), "status")


def registered_model(answer: Mapping[str, Any]) -> None:
    """Reads the answer to a registered model; raises ValueError for anything else."""
    _id(_object(_member(answer, "registered_model"), "registered_model"), "name")


def nothing(answer: Mapping[str, Any]) -> None:
    """Reads the answer to a call that answers an empty object; raises ValueError for an error in
    disguise.
    """
    if not _OF_ERRORS.isdisjoint(answer):
        raise ValueError("an error with the status of a success")


def _member(fields: Mapping[str, Any], member: str) -> object:
    if member not in fields:
        raise ValueError(f"no {member}")
    return fields[member]


def _object(found: object, what: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"{what} is no object")  # noqa: TRY004 - every wrong shape is a ValueError
    return found


def _list(fields: Mapping[str, Any], member: str) -> list[Any]:
    found = fields.get(member, [])
    if not isinstance(found, list):
        raise ValueError(f"{member} is no list")  # noqa: TRY004 - as in _object
    return found


def _id(fields: Mapping[str, Any], member: str) -> str:
    if not (text := _given(fields, member)):
        raise ValueError(f"{member} is empty")
    return text


def _given(fields: Mapping[str, Any], member: str) -> str:
    _member(fields, member)
    return _text(fields, member)


def _text(fields: Mapping[str, Any], member: str) -> str:
    value = fields.get(member, "")
    if not isinstance(value, str):
        raise ValueError(f"{member} is no text")  # noqa: TRY004 - as in _object
    if _SURROGATE.search(value):
        raise ValueError(f"{member} holds a lone surrogate, which protobuf cannot")
    return value


def _texts(fields: Mapping[str, Any], member: str) -> dict[str, str]:
    """Texts by key, from a list of keys and values."""
    entries = (_object(found, member) for found in _list(fields, member))
    return {_given(entry, "key"): _text(entry, "value") for entry in entries}


def _deleted(fields: Mapping[str, Any]) -> bool:
    stage = _given(fields, "lifecycle_stage")
    if stage not in _LIFECYCLE:
        raise ValueError("lifecycle_stage is neither active nor deleted")
    return _LIFECYCLE[stage]


def _integer(fields: Mapping[str, Any], member: str) -> int:
    value = fields.get(member, 0)
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if type(value) is not int:
        raise ValueError(f"{member} is no integer")
    if not -_INT64 <= value < _INT64:
        raise ValueError(f"{member} is out of range")
    return value


def _number(fields: Mapping[str, Any], member: str) -> float:
    value = fields.get(member, 0.0)
    of_text = isinstance(value, str) and value in _NOT_FINITE
    if not of_text and type(value) not in {int, float}:
        raise ValueError(f"{member} is no number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{member} is out of range") from None
