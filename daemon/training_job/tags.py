"""What the tags of a job say: is it ours, and where does it belong?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class TagKeys:
    """The keys of the six tags, as people configured them. Keys of tags are case-sensitive."""

    sync: str = "MODEL_DB_SYNC"
    project_name: str = "MODEL_DB_PROJECT_NAME"
    project_user: str = "MODEL_DB_PROJECT_USER"
    project_description: str = "MODEL_DB_PROJECT_DESC"
    model_name: str = "MODEL_DB_MODEL_NAME"
    model_type: str = "MODEL_DB_MODEL_TYPE"


@dataclass(frozen=True, slots=True)
class JobTags:
    """The values of the five tags that place a job. None of them is blank."""

    project_name: str
    project_user: str
    project_description: str
    model_name: str
    model_type: str


@dataclass(frozen=True, slots=True)
class SyncTagAbsent:
    """The job is not ours, however well it is tagged otherwise."""


@dataclass(frozen=True, slots=True)
class TagsIncomplete:
    """The job is ours, but cannot be placed."""

    missing: tuple[str, ...]
    """The configured keys of the tags that are missing or blank."""


def read_tags(tags: Mapping[str, str], keys: TagKeys) -> JobTags | SyncTagAbsent | TagsIncomplete:
    """Reads the tags of a job.

    The sync tag may have any value, also an empty one. The other values are taken as they are, but
    without outer white space, with a space for a run of control characters and U+FFFD for a lone
    surrogate: SageMaker allows neither, and no target could store them. A value of white space only
    counts as missing.
    """
    if keys.sync not in tags:
        return SyncTagAbsent()
    needed = (
        keys.project_name,
        keys.project_user,
        keys.project_description,
        keys.model_name,
        keys.model_type,
    )
    values = [one_line(tags.get(key, "")) for key in needed]
    missing = tuple(key for key, value in zip(needed, values, strict=True) if not value)
    return TagsIncomplete(missing) if missing else JobTags(*values)
