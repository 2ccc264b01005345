"""All of a run that ModelDB V2 has, as far as this program may have written it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daemon.targets.modeldb_v2.entities import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunContent:
    """A run's members. Each key has all entries that are stored under it: a key can be doubled."""

    run: Run
    description: str = ""
    tags: tuple[str, ...] = ()
    start_time: int = 0
    """Epoch milliseconds; 0: none."""
    end_time: int = 0
    hyperparameters: Mapping[str, Sequence[Entry]] = field(default_factory=dict)
    metrics: Mapping[str, Sequence[Entry]] = field(default_factory=dict)
    attributes: Mapping[str, Sequence[Entry]] = field(default_factory=dict)
    datasets: Mapping[str, Sequence[Entry]] = field(default_factory=dict)
    artifacts: Mapping[str, Sequence[Entry]] = field(default_factory=dict)
    observations: Mapping[str, Sequence[Entry]] = field(default_factory=dict)


def run_content(answer: Mapping[str, Any]) -> RunContent:
    """Reads the answer to getExperimentRunById; raises ValueError if it is none."""
    if "experiment_run" not in answer:
        raise ValueError("no experiment_run")
    found = answer["experiment_run"]
    run = Run.parse(found)
    tags = _list(found, "tags")
    if not all(isinstance(tag, str) for tag in tags):
        raise ValueError("tags are no texts")
    return RunContent(
        run=run,
        description=str(found.get("description", "")),
        tags=tuple(tags),
        start_time=int(found.get("start_time", 0)),
        end_time=int(found.get("end_time", 0)),
        hyperparameters=_by_key(found, "hyperparameters"),
        metrics=_by_key(found, "metrics"),
        attributes=_by_key(found, "attributes"),
        datasets=_by_key(found, "datasets"),
        artifacts=_by_key(found, "artifacts"),
        observations=_by_key(found, "observations", _observed_key),
    )


def _own_key(entry: Entry) -> str:
    return str(entry.get("key", ""))


def _observed_key(entry: Entry) -> str:
    attribute = entry.get("attribute")
    return str(attribute.get("key", "")) if isinstance(attribute, dict) else ""


def _by_key(
    found: Mapping[str, Any], member: str, key_of: Callable[[Entry], str] = _own_key
) -> dict[str, list[Entry]]:
    entries: dict[str, list[Entry]] = {}
    for entry in _list(found, member):
        if not isinstance(entry, dict):
            raise ValueError(f"{member} holds no objects")  # noqa: TRY004 - as in entities.py
        entries.setdefault(key_of(entry), []).append(entry)
    return entries


def _list(found: Mapping[str, Any], member: str) -> list[Any]:
    value = found.get(member, [])
    if not isinstance(value, list):
        raise ValueError(f"{member} is no list")  # noqa: TRY004 - as in entities.py
    return value
