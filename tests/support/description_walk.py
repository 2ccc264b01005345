"""A walk over all members of a job's description, as the installed botocore has them: which are
carried into ModelDB, and which are left out on purpose.

A member is carried if its value can be found in what both targets get, or, where it is one word of
few or part of a sum, if another value changes what they get. What is left out, and why, is listed
in `docs/mapping.md`. ``python -m tests.support.description_walk`` prints the table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.session import Session

from daemon.targets.modeldb_v1.mapping import map_job
from daemon.targets.modeldb_v2.mapping import map_run
from daemon.training_job.identity import iso_milliseconds
from tests.support.training_runs import ARN, run_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from botocore.model import ServiceModel, Shape

MAPPING_DOC = Path(__file__).parents[2] / "docs" / "mapping.md"

_START = datetime(2025, 11, 20, 8, 40, tzinfo=UTC)

_IDENTITY: Mapping[str, Any] = {
    "TrainingJobName": "job-1",
    "TrainingJobArn": ARN,
    "CreationTime": _START,
}
"""Not just any value: the job is refused otherwise."""

_CHOSEN: Mapping[str, Any] = {
    "DebugRuleEvaluationStatuses[].RuleEvaluationStatus": "IssuesFound",
    "ProfilerRuleEvaluationStatuses[].RuleEvaluationStatus": "IssuesFound",
    "SecondaryStatusTransitions[].Status": "Training",
    "SecondaryStatusTransitions[].StartTime": _START + timedelta(hours=1),
    "SecondaryStatusTransitions[].EndTime": _START + timedelta(hours=2),
}
"""Values with which the members beside them count."""

_ADDED_UP = frozenset(
    {"SecondaryStatusTransitions[].StartTime", "SecondaryStatusTransitions[].EndTime"}
)
"""Members of which only differences and sums are carried."""

_ONE_OF = frozenset({"InputDataConfig[].DataSource"})
"""Structures of which a job has one member each: the list around them gets an entry for each."""

_SELECTED = ("ResourceConfig.SelectedInstanceType", "ResourceConfig.SelectedInstanceCount")
_SINGLE = ("ResourceConfig.InstanceType", "ResourceConfig.InstanceCount")
_HIDDEN_BY: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_SINGLE, _SELECTED),
    "ResourceConfig.InstanceGroups[].InstanceType": _SELECTED + _SINGLE,
    "ResourceConfig.InstanceGroups[].InstanceCount": _SELECTED + _SINGLE,
    "ResourceConfig.InstanceGroups[].InstanceGroupName": _SELECTED + _SINGLE,
}
"""Members with others that stand for them if a job has both, which no job does."""


@dataclass(frozen=True, slots=True)
class Member:
    """A leaf of the description."""

    path: str
    """Such as `ResourceConfig.InstanceGroups[].InstanceType`, with `{}` for a map."""
    shape: Shape


@dataclass(frozen=True, slots=True)
class Walk:
    """The members by what becomes of them, in the model's order."""

    carried: tuple[str, ...]
    left_out: tuple[str, ...]
    unknown: tuple[str, ...]
    """Neither carried nor listed."""
    listed_in_vain: tuple[str, ...]
    """Listed as left out, but carried or not in the model."""


def described_job_shape() -> Shape:
    """DescribeTrainingJobResponse of the installed botocore."""
    service: ServiceModel = Session().get_service_model("sagemaker")
    return service.shape_for("DescribeTrainingJobResponse")


def members(shape: Shape, path: str = "") -> Iterator[Member]:
    """All leaves of a shape."""
    match shape.type_name:
        case "structure":
            for name, member in shape.members.items():  # type: ignore[attr-defined]
                yield from members(member, f"{path}.{name}" if path else name)
        case "list":
            yield from members(shape.member, f"{path}[]")  # type: ignore[attr-defined]
        case "map":
            yield from members(shape.value, f"{path}{{}}")  # type: ignore[attr-defined]
        case _:
            yield Member(path, shape)


def reasons() -> dict[str, str]:
    """The members that are left out on purpose, with the reason."""
    text = MAPPING_DOC.read_text(encoding="utf-8")
    table = text.partition("\n## What is not copied\n")[2].partition("\n## ")[0]
    return {
        path: cells[1].strip()
        for line in table.split("\n")
        if line.startswith("| `")
        for cells in [line.strip("| ").split(" | ")]
        for path in re.findall(r"`([^`]+)`", cells[0])
    }


def walk(shape: Shape) -> Walk:
    """Tries every member."""
    leaves = list(members(shape))
    carried = tuple(leaf.path for leaf in leaves if _is_carried(leaf, leaves))
    listed = reasons()
    rest = [leaf.path for leaf in leaves if leaf.path not in carried]
    left_out = tuple(path for path in rest if path in listed)
    return Walk(
        carried=carried,
        left_out=left_out,
        unknown=tuple(path for path in rest if path not in listed),
        listed_in_vain=tuple(path for path in listed if path not in left_out),
    )


def _is_carried(leaf: Member, leaves: list[Member]) -> bool:
    """Whether both targets get the member."""
    hidden = _HIDDEN_BY.get(leaf.path, ())
    present = {
        other.path: _value(number, other, 0)
        for number, other in enumerate(leaves)
        if other.path not in hidden
    }
    outputs = _outputs(present)
    if _is_unmistakable(leaf):
        value = present[leaf.path]
        shown = iso_milliseconds(value) if isinstance(value, datetime) else str(value)
        return all(re.search(rf"(?<!\w){re.escape(shown)}(?!\w)", output) for output in outputs)
    changed = present | {leaf.path: _value(leaves.index(leaf), leaf, 1)}
    return all(before != after for before, after in zip(outputs, _outputs(changed), strict=True))


def _is_unmistakable(leaf: Member) -> bool:
    """Whether the member's value is its own, and found as it is wherever it is carried."""
    if leaf.shape.type_name == "boolean" or _words(leaf):
        return False
    return leaf.path not in _ADDED_UP


def _outputs(values: Mapping[str, Any]) -> tuple[str, str]:
    """What each target gets."""
    run = run_of(**_described(values))
    return repr(map_run(run)), repr(map_job(run, metadata_store=True))


def _value(number: int, leaf: Member, variant: int) -> Any:
    """A value that no other member has, as far as its type allows."""
    if leaf.path in _IDENTITY:
        return _IDENTITY[leaf.path]
    if words := _words(leaf):
        first = _CHOSEN.get(leaf.path, words[number % len(words)])
        return [first, *(word for word in [*words, "Another"] if word != first)][variant]
    hour: datetime = _CHOSEN.get(leaf.path, _START + timedelta(hours=number))
    values = {
        "string": f"w{number}v{variant}",
        "boolean": not variant,
        "timestamp": hour + timedelta(minutes=variant),
        **dict.fromkeys(("integer", "long"), 700_000 + 2 * number + variant),
        **dict.fromkeys(("float", "double"), 700_000.5 + 2 * number + variant),
    }
    return values[leaf.shape.type_name]


def _words(leaf: Member) -> list[str]:
    return list(getattr(leaf.shape, "enum", None) or [])


def _described(values: Mapping[str, Any]) -> dict[str, Any]:
    """A description with these values."""
    description: dict[str, Any] = {}
    for path, value in values.items():
        place: Any = description
        parts = re.findall(r"[^.\[\]{}]+|\[\]|\{\}", path)
        so_far = ""
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            so_far += part if part in {"[]", "{}"} else f".{part}"
            key: Any = part
            if part == "[]":
                key = _entry(place, path, so_far.removeprefix("."))
            elif part == "{}":
                key = f"key of {path.removesuffix('{}')}"
            if following is None:
                _put(place, key, value)
            else:
                place = _inner(place, key, [] if following == "[]" else {})
    return description


def _entry(entries: list[Any], path: str, so_far: str) -> int:
    """Which entry of a list a member belongs to: the first, or that of its alternative."""
    for structure in _ONE_OF:
        if structure.startswith(so_far) and path.startswith(f"{structure}."):
            alternative = path.removeprefix(f"{structure}.").partition(".")[0]
            for number, entry in enumerate(entries):
                if next(iter(entry.get("DataSource", {})), alternative) == alternative:
                    return number
            return len(entries)
    return 0


def _put(place: Any, key: Any, value: object) -> None:
    if isinstance(place, list):
        place.append(value)
    else:
        place[key] = value


def _inner(place: Any, key: Any, empty: object) -> Any:
    if isinstance(place, list):
        if key == len(place):
            place.append(empty)
        return place[key]
    return place.setdefault(key, empty)


def main() -> None:
    shape, listed = described_job_shape(), reasons()
    result = walk(shape)
    for member in members(shape):
        if member.path in result.carried:
            outcome = "carried"
        else:
            outcome = f"left out: {listed[member.path]}" if member.path in listed else "UNKNOWN"
        print(f"{member.path:95} {outcome}")
    print(
        f"\ncarried {len(result.carried)}, left out with the reason {len(result.left_out)}, "
        f"unknown {len(result.unknown)}, listed in vain {len(result.listed_in_vain)}"
    )


if __name__ == "__main__":
    main()
