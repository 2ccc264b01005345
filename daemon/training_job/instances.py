"""The instances that a job ran on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.training_job.field_readers import sections, text, whole

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


def read_instances(resources: Mapping[str, Any]) -> Instances:
    """Reads ResourceConfig: one type and count, instance groups, or preferences (the response does
    not say which one was used).
    """
    single = _line(resources)
    if single is not None:
        return Instances(single, text(resources, "InstanceType"), whole(resources, "InstanceCount"))
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
            ", ".join(names), ", ".join(types), whole({"InstanceCount": total}, "InstanceCount")
        )
    preferences = [
        line for item in sections(resources, "InstancePreferences") if (line := _line(item))
    ]
    return Instances(f"one of {', '.join(preferences)}" if preferences else None, None, None)


def _line(source: Mapping[str, Any]) -> str | None:
    instance_type, count = text(source, "InstanceType"), whole(source, "InstanceCount")
    return instance_type if instance_type is None or count is None else f"{count} x {instance_type}"
