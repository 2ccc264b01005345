"""Projects, experiments and runs in ModelDB V2's answers: the members that this program reads.

Its JSON leaves empty members out and writes 64-bit integers as strings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SURROGATE = re.compile("[\ud800-\udfff]")
_INT64 = 2**63

Entity = TypeVar("Entity", bound="Project | Experiment | Run")


@dataclass(frozen=True, slots=True)
class Project:
    id: str
    name: str
    description: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    date_created: int = 0
    """Epoch milliseconds, as everywhere in ModelDB."""

    @classmethod
    def parse(cls, found: object) -> Project:
        """Raises ValueError if it is not a project."""
        fields = _object(found)
        return cls(
            _id(fields),
            _text(fields, "name"),
            _text(fields, "description"),
            _attributes(fields),
            _milliseconds(fields, "date_created"),
        )


@dataclass(frozen=True, slots=True)
class Experiment:
    id: str
    name: str
    date_created: int = 0

    @classmethod
    def parse(cls, found: object) -> Experiment:
        """Raises ValueError if it is not an experiment."""
        fields = _object(found)
        return cls(_id(fields), _text(fields, "name"), _milliseconds(fields, "date_created"))


@dataclass(frozen=True, slots=True)
class Run:
    """An experiment run."""

    id: str
    project_id: str
    experiment_id: str
    name: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    date_created: int = 0

    @classmethod
    def parse(cls, found: object) -> Run:
        """Raises ValueError if it is not a run."""
        fields = _object(found)
        return cls(
            _id(fields),
            _text(fields, "project_id"),
            _text(fields, "experiment_id"),
            _text(fields, "name"),
            _attributes(fields),
            _milliseconds(fields, "date_created"),
        )


def _one(member: str, parse: Callable[[object], Entity]) -> Callable[[Mapping[str, Any]], Entity]:
    """Reader of an answer with one entity; raises ValueError for anything else."""

    def read(answer: Mapping[str, Any]) -> Entity:
        if member not in answer:
            raise ValueError(f"no {member}")
        return parse(answer[member])

    return read


def _several(
    member: str, parse: Callable[[object], Entity]
) -> Callable[[Mapping[str, Any]], tuple[Entity, ...]]:
    """Reader of an answer with a list, which it sorts, the oldest first (duplicates can share a
    millisecond): ``{}`` when empty, only the total past the last page; raises ValueError for
    anything else.
    """

    def read(answer: Mapping[str, Any]) -> tuple[Entity, ...]:
        found = answer.get(member, [])
        if not isinstance(found, list) or (
            member not in answer and answer.keys() - {"total_records"}
        ):
            raise ValueError(f"no {member}")
        parsed = map(parse, found)
        return tuple(sorted(parsed, key=lambda entity: (entity.date_created, entity.id)))

    return read


PROJECT = _one("project", Project.parse)
PROJECTS = _several("projects", Project.parse)
EXPERIMENT = _one("experiment", Experiment.parse)
EXPERIMENTS = _several("experiments", Experiment.parse)
RUN = _one("experiment_run", Run.parse)
RUNS = _several("experiment_runs", Run.parse)


def deleted(answer: Mapping[str, Any]) -> None:
    """Reads the answer to a delete; raises ValueError for anything else."""
    if answer.get("status") is not True:
        raise ValueError("no status")


def nothing(_answer: Mapping[str, Any]) -> None:
    """Reads the answer to a call that answers an empty object."""


def _object(found: object) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise ValueError("no object")  # noqa: TRY004 - every wrong shape is a ValueError here
    return found


def _id(fields: Mapping[str, Any]) -> str:
    if not (text := _text(fields, "id")):
        raise ValueError("no id")
    return text


def _text(fields: Mapping[str, Any], member: str) -> str:
    value = fields.get(member, "")
    if not isinstance(value, str):
        raise ValueError(f"{member} is no text")  # noqa: TRY004 - as in _object
    if _SURROGATE.search(value):
        raise ValueError(f"{member} holds a lone surrogate, which protobuf cannot")
    return value


def _milliseconds(fields: Mapping[str, Any], member: str) -> int:
    value = fields.get(member, 0)
    try:
        number = int(value)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{member} is no number") from None
    if not -_INT64 <= number < _INT64:
        raise ValueError(f"{member} is out of range")
    return number


def _attributes(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The first value of each key: ModelDB can store a key twice."""
    found = fields.get("attributes", [])
    if not isinstance(found, list):
        raise ValueError("attributes is no list")  # noqa: TRY004 - as in _object
    attributes: dict[str, Any] = {}
    for each in found:
        key_value = _object(each)
        attributes.setdefault(_text(key_value, "key"), key_value.get("value"))
    return attributes
