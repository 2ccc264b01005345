"""The instances that a job ran on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.training_job.field_readers import sections, text, text_list, whole

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Instances:
    """None: absent, as in serverless jobs."""

    summary: str | None
    """One line, for display."""
    type: str | None
    """For instance groups: their types, joined by commas."""
    count: int | None
    """For instance groups: the total."""
    preferences: str | None = None
    """What the job was allowed to run on, in order of preference."""


def read_instances(resources: Mapping[str, Any]) -> Instances:
    """Reads ResourceConfig: one type and count, instance groups, or preferences. Of preferences the
    selected one counts, which the job ran on and is billed for; without it, nobody says which.
    """
    preferred = [
        (line, text_list(item, "TrainingPlanArns"))
        for item in sections(resources, "InstancePreferences")
        if (line := _line(item))
    ]
    preferences = (
        ", ".join(f"{line} ({', '.join(plans)})" if plans else line for line, plans in preferred)
        or None
    )
    for prefix in ("Selected", ""):
        single = _line(resources, prefix)
        if single is not None:
            return Instances(
                single,
                text(resources, f"{prefix}InstanceType"),
                whole(resources, f"{prefix}InstanceCount"),
                preferences,
            )
    groups = [
        (line, group) for group in sections(resources, "InstanceGroups") if (line := _line(group))
    ]
    if groups:
        names = [
            f"{line} ({text(group, 'InstanceGroupName') or 'unnamed'})" for line, group in groups
        ]
        types = dict.fromkeys(str(text(group, "InstanceType")) for _, group in groups)
        counts = [
            count for _, group in groups if (count := whole(group, "InstanceCount")) is not None
        ]
        total = sum(counts) if len(counts) == len(groups) else None
        return Instances(
            ", ".join(names),
            ", ".join(types),
            whole({"InstanceCount": total}, "InstanceCount"),
            preferences,
        )
    one_of = ", ".join(line for line, _ in preferred)
    return Instances(f"one of {one_of}" if preferred else None, None, None, preferences)


def _line(source: Mapping[str, Any], prefix: str = "") -> str | None:
    instance_type = text(source, f"{prefix}InstanceType")
    count = whole(source, f"{prefix}InstanceCount")
    return instance_type if instance_type is None or count is None else f"{count} x {instance_type}"
