"""Reads the tags of a job: whether it is synced, and into which project and model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping


DESCRIBED_BY_TAGS = (
    "project_name",
    "project_user",
    "project_description",
    "model_name",
    "model_type",
)
"""What the tags besides the sync tag describe: names of `TagKeys` and `JobTags`."""


@dataclass(frozen=True, slots=True)
class TagKeys:
    """The configured keys of the six tags; case-sensitive."""

    sync: str = "MODEL_DB_SYNC"
    project_name: str = "MODEL_DB_PROJECT_NAME"
    project_user: str = "MODEL_DB_PROJECT_USER"
    project_description: str = "MODEL_DB_PROJECT_DESC"
    model_name: str = "MODEL_DB_MODEL_NAME"
    model_type: str = "MODEL_DB_MODEL_TYPE"


@dataclass(frozen=True, slots=True)
class JobTags:
    """The values of the five tags that describe project and model. None of them is blank."""

    project_name: str
    project_user: str
    project_description: str
    model_name: str
    model_type: str
    defaulted: tuple[str, ...] = field(default=(), kw_only=True)
    """The names above whose values are configured defaults."""

    @property
    def notes(self) -> tuple[str, ...]:
        """For the run."""
        names = ", ".join(name.replace("_", " ") for name in self.defaulted)
        return (f"by jobs.tag_defaults, for lack of a tag: {names}",) if names else ()


@dataclass(frozen=True, slots=True)
class SyncTagAbsent:
    """Without the sync tag a job is ignored, whatever its other tags."""


@dataclass(frozen=True, slots=True)
class TagsIncomplete:
    """The job has the sync tag but lacks others."""

    missing: tuple[str, ...]
    """The configured keys of the tags that are missing or blank."""
    details: tuple[str, ...] = ()
    """Why their defaults do not help."""


def read_tags(tags: Mapping[str, str], keys: TagKeys) -> JobTags | SyncTagAbsent | TagsIncomplete:
    """Reads the tags of a job.

    The sync tag may have any value, even an empty one. The other values are normalised with
    `one_line`; a value that is blank afterwards counts as missing.
    """
    if keys.sync not in tags:
        return SyncTagAbsent()
    needed = [getattr(keys, name) for name in DESCRIBED_BY_TAGS]
    values = [one_line(tags.get(key, "")) for key in needed]
    missing = tuple(key for key, value in zip(needed, values, strict=True) if not value)
    return TagsIncomplete(missing) if missing else JobTags(*values)
