"""The kinds of checkpoint. The daemon, ``check`` and ``history`` all open theirs here.

Adding a kind: its package beside `sqlite`, its configuration in `daemon.config.settings`, a branch
in `open_checkpoint`. The modules of a table are imported when a table is configured: others save
the memory and the time.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from daemon.aws.errors import unobserved
from daemon.checkpoint.sqlite.file_system import file_system_advice, is_on_network
from daemon.checkpoint.sqlite.reader import SqliteReader
from daemon.checkpoint.sqlite.schema import MIGRATIONS
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.checkpoint.sqlite.story_reader import SqliteStoryReader
from daemon.config.settings import DynamoDbSettings
from daemon.errors import SetupFault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from daemon.aws.errors import Observe
    from daemon.checkpoint.ports import Checkpoint
    from daemon.checkpoint.reading import CheckpointReader
    from daemon.config.settings import CheckpointSettings, SqliteSettings
    from daemon.operations.job_story import StoryReader
    from daemon.targets.place import TargetPlace

SCHEMA_VERSION = len(MIGRATIONS)
"""Of a SQLite checkpoint that is open; opening migrates an older one."""


async def open_checkpoint(
    settings: CheckpointSettings,
    target: TargetPlace,
    *,
    create: bool = True,
    observe: Observe = unobserved,
) -> Checkpoint:
    """Opens the checkpoint; the caller closes it.

    Args:
        settings: the section ``checkpoint``.
        target: whose jobs, claims and name locks the checkpoint is for. `ANY_TARGET`: only to
            be asked what it has of all targets; that changes nothing.
        create: make a new file where there is none. A table is never made here.
        observe: called after each call of a service.

    Raises:
        SetupFault: it cannot be used, or does not exist and `create` is False.
        EdgeFault: the table is missing or cannot be asked now.
    """
    if isinstance(settings, DynamoDbSettings):
        from daemon.checkpoint.dynamodb import opening  # noqa: PLC0415 - see the module's docstring

        return await opening.open_checkpoint(settings, target, observe)
    if not create:
        _require_one(settings)
    return await open_sqlite_checkpoint(settings.path, target)


def checkpoint_is_missing(settings: CheckpointSettings) -> str:
    """Where there is none, in words; "" where there is one, or only opening it can tell."""
    if isinstance(settings, DynamoDbSettings) or settings.path.exists():
        return ""
    return f"there is no checkpoint at {settings.path}"


def rows_are_cheap(settings: CheckpointSettings) -> bool:
    """Whether all rows may be counted often: a table charges for each entry that is read."""
    return not isinstance(settings, DynamoDbSettings)


def checkpoint_reader(
    settings: CheckpointSettings, observe: Observe = unobserved
) -> CheckpointReader:
    """A reader for the status page, beside the daemon's own calls; the caller closes it."""
    if isinstance(settings, DynamoDbSettings):
        from daemon.checkpoint.dynamodb import opening  # noqa: PLC0415 - see the module's docstring

        return opening.reader(settings, observe)
    return SqliteReader(settings.path)


def _require_one(settings: SqliteSettings) -> None:
    if missing := checkpoint_is_missing(settings):
        raise SetupFault(f"checkpoint.path: {missing}; has the daemon run with this configuration?")


@asynccontextmanager
async def open_story_reader(
    settings: CheckpointSettings, target: TargetPlace
) -> AsyncIterator[StoryReader]:
    """Reads what the checkpoint has of single jobs, and changes nothing.

    Args:
        settings: the section ``checkpoint``.
        target: whose jobs are asked about; `ANY_TARGET`: those of all targets.

    Raises:
        SetupFault: there is no checkpoint.
        EdgeFault: an AWS file cannot be used now.
    """
    if isinstance(settings, DynamoDbSettings):
        from daemon.checkpoint.dynamodb import opening  # noqa: PLC0415 - see the module's docstring

        async with opening.open_story_reader(settings, target) as reader:
            yield reader
    else:
        _require_one(settings)
        yield SqliteStoryReader(settings.path, target)


def checkpoint_advice(settings: CheckpointSettings) -> str:
    """What to know about where the checkpoint is; "" if there is nothing."""
    if isinstance(settings, DynamoDbSettings):
        return ""
    return file_system_advice(settings.path)


def on_network_disk(settings: CheckpointSettings) -> bool:
    """Whether hosts may share the checkpoint's disk, which they must not."""
    return not isinstance(settings, DynamoDbSettings) and is_on_network(settings.path)


def jobs_of_others(counts: Mapping[TargetPlace, int], target: TargetPlace) -> str:
    """What a checkpoint has of other targets, for people; "" if there is nothing.

    Args:
        counts: from `Checkpoint.job_counts`.
        target: the one that works with this checkpoint.
    """
    others = {
        place: jobs
        for place, jobs in counts.items()
        if place != target and (place.place or place.kind not in {target.kind, ""})
    }
    unplaced = sum(counts.values()) - sum(others.values()) - counts.get(target, 0)
    said = []
    if others:
        listed = ", ".join(f"{place} ({jobs})" for place, jobs in others.items())
        said.append(f"{sum(others.values())} jobs recorded for other targets: {listed}")
    if unplaced:
        said.append(
            f"{unplaced} jobs recorded by a version that did not note the address: those that are "
            "synced are looked up in the target if they come again"
        )
    return "; ".join(said)
