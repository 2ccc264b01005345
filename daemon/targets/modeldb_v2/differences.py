"""How a run in ModelDB V2 differs from what its job would be written as now. Pure.

Only what this program wrote is compared: the keys of the mapping, the tags and the description that
it gave the run. Other keys and tags are people's, and so is a description with lines that this
program did not write. What the run was written with, where tags of the job have changed since,
stands in the run's own attributes, which are therefore to be repaired last.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from daemon.targets.modeldb_v2.description import SEPARATOR, description
from daemon.targets.modeldb_v2.mapping import (
    ARN_ATTRIBUTE,
    CREATION_TIME_ATTRIBUTE,
    NOTES_ATTRIBUTE,
    distinct_run_name,
    run_tags,
)
from daemon.targets.renaming import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from daemon.targets.modeldb_v2.mapping import MappedRun
    from daemon.targets.modeldb_v2.run_content import Entry, RunContent
    from daemon.training_job.training_run import TrainingRun

MEMBERS = {
    "hyperparameters": "hyperparameter",
    "metrics": "metric",
    "datasets": "dataset",
    "artifacts": "artifact",
    "observations": "curve",
    "attributes": "attribute",
}
"""The members of a run that have keys, in the order of their repair, and what people call one."""

_NEVER_CHANGED = frozenset({ARN_ATTRIBUTE, CREATION_TIME_ATTRIBUTE, "sync_version"})
"""The mark, by which the run is found, and the version that created it."""
_OUTDATED = re.compile(r"aws_tag_.*|hyperparameter_.*_(full|exact)", re.DOTALL)
"""Attributes that are this program's, and may end: a tag of the job was removed, a value is now
redacted. What else the mapping lacks may only be unreadable today, so it stays."""
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class KeyChanges:
    """What to do to the entries of one member of a run."""

    delete: tuple[str, ...] = ()
    """Keys; before anything is written."""
    write: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Differences:
    """What to do to a run, and the same for people, who are never shown values."""

    new_tags: tuple[str, ...] = ()
    old_tags: tuple[str, ...] = ()
    description: str | None = None
    """The new one; None: it stays."""
    keys: Mapping[str, KeyChanges] = field(default_factory=dict)
    """By member of the run, in the order of `MEMBERS`; only what changes."""
    changed: tuple[str, ...] = ()
    unchangeable: tuple[str, ...] = ()


def differences(stored: RunContent, mapped: MappedRun, run: TrainingRun) -> Differences:
    """Compares a run with its job.

    Args:
        stored: the run.
        mapped: the job.
        run: the same job, before the mapping.
    """
    before = _as_written(stored, run)
    wanted = [_as_stored(tag) for tag in mapped.body["tags"]]
    new_tags = tuple(tag for tag in wanted if tag not in stored.tags)
    old_tags = tuple(
        tag for tag in run_tags(before, []) if tag in stored.tags and tag not in wanted
    )
    text, kept = _description(stored, mapped, run, before)
    changed = [f"tag {quoted(tag)} (missing)" for tag in new_tags]
    changed += [f"tag {quoted(tag)} (outdated)" for tag in old_tags]
    changed += [] if text is None else ["description (differs)"]
    keys: dict[str, KeyChanges] = {}
    for member, noun in MEMBERS.items():
        words = _compare(member, getattr(stored, member), mapped, keys)
        changed += [f"{noun} {quoted(key)} ({word})" for key, word in words.items()]
    return Differences(
        new_tags, old_tags, text, keys, tuple(changed), (*kept, *_fixed(stored, mapped, run))
    )


def _as_written(stored: RunContent, run: TrainingRun) -> TrainingRun:
    """The job as it was when the run was written, as far as the run's attributes tell."""

    def text(key: str, now: str | None) -> str | None:
        told = _told(stored, key)
        return told if isinstance(told, str) else now

    def seconds(key: str, now: int | None) -> int | None:
        told = _told(stored, key)
        return int(told) if isinstance(told, int | float) else now

    location = "evaluation_output_uri" if run.is_evaluation else "model_artifact_uri"
    return replace(
        run,
        model_name=text("model_name", "") or run.model_name,
        model_type=text("model_type", "") or run.model_type,
        project_user=text("project_user", "") or run.project_user,
        status=text("status", "") or run.status,
        secondary_status=text("secondary_status", run.secondary_status),
        failure_reason=text("failure_reason", run.failure_reason),
        model_location=text(location, run.model_location),
        training_seconds=seconds("training_time_s", run.training_seconds),
        billable_seconds=seconds("billable_time_s", run.billable_seconds),
    )


def _told(stored: RunContent, key: str) -> object:
    entries = stored.attributes.get(key)
    return entries[0].get("value") if entries else None


def _description(
    stored: RunContent, mapped: MappedRun, run: TrainingRun, before: TrainingRun
) -> tuple[str | None, tuple[str, ...]]:
    """The description to write, if any, and what stays."""
    wanted = _as_stored(mapped.body["description"])
    if stored.description == wanted:
        return None, ()
    if run.tuning is None and "tuning_status" in stored.attributes:
        return None, ("description: what SageMaker says of the tuning job cannot be read now",)
    ours = {*wanted.split(SEPARATOR), *_as_stored(description(before)).split(SEPARATOR)}
    tuning = f"Tuning job: {run.tuning_job_name} ("
    edited = any(
        line not in ours and not (line.startswith(tuning) and line.endswith(")"))
        for line in stored.description.split(SEPARATOR)
        if stored.description
    )
    return (None, ("description: edited by people",)) if edited else (wanted, ())


def _compare(
    member: str,
    stored: Mapping[str, Sequence[Entry]],
    mapped: MappedRun,
    keys: dict[str, KeyChanges],
) -> dict[str, str]:
    """Enters the changes of one member, and returns what is wrong with each key."""
    wanted: dict[str, list[Entry]] = {}
    for entry in mapped.body.get(member, ()):
        wanted.setdefault(_key(entry), []).append(entry)
    wrong: dict[str, str] = {}
    for key, entries in wanted.items():
        if member == "attributes" and key in _NEVER_CHANGED:
            continue
        if key not in stored:
            wrong[key] = "missing"
        elif not _same(entries, stored[key]):
            wrong[key] = "differs"
    if member == "attributes":
        wrong |= dict.fromkeys(_outdated(stored, wanted, mapped), "outdated")
    if wrong:
        keys[member] = KeyChanges(
            tuple(key for key, word in wrong.items() if word != "missing"),
            tuple(entry for key in wrong for entry in wanted.get(key, ())),
        )
    return wrong


def _outdated(stored: Iterable[str], wanted: Mapping[str, Any], mapped: MappedRun) -> Iterator[str]:
    for key in stored:
        if key in wanted:
            continue
        if _OUTDATED.fullmatch(key) or (key == NOTES_ATTRIBUTE and not mapped.notes):
            yield key


def _key(entry: Entry) -> str:
    named: Entry = entry.get("attribute", entry)
    return str(named["key"])


def _same(wanted: Sequence[Entry], stored: Sequence[Entry]) -> bool:
    if "attribute" in wanted[0]:
        return sorted(map(_point, wanted)) == sorted(map(_point, stored))
    return len(stored) == 1 and all(
        _equal(value, stored[0].get(name)) for name, value in wanted[0].items()
    )


def _point(observation: Entry) -> tuple[float, float]:
    return float(observation["epoch_number"]), float(observation["attribute"]["value"])


def _equal(wanted: object, stored: object) -> bool:
    """ModelDB has doubles, and no lone surrogates."""
    if isinstance(wanted, str):
        return _as_stored(wanted) == stored
    if isinstance(wanted, int | float) and not isinstance(wanted, bool):
        return (
            isinstance(stored, int | float)
            and not isinstance(stored, bool)
            and float(wanted) == float(stored)
        )
    return wanted == stored


def _as_stored(text: str) -> str:
    return _LONE_SURROGATE.sub("\ufffd", text)


def _fixed(stored: RunContent, mapped: MappedRun, run: TrainingRun) -> Iterator[str]:
    """What ModelDB cannot change, or people have."""
    body = mapped.body
    for member, found in (("start_time", stored.start_time), ("end_time", stored.end_time)):
        if found != body.get(member, 0):
            yield f"{member.replace('_', ' ')}: ModelDB sets it only when a run is created"
    if stored.run.name not in {mapped.run_name, distinct_run_name(mapped.run_name, run.mark)}:
        yield f"name: people have renamed the run to {quoted(stored.run.name)}"
