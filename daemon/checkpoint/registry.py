"""The kinds of checkpoint. The daemon, ``check`` and ``history`` all open theirs here.

Adding a kind: its package beside `sqlite`, its configuration in `daemon.config.settings`, a branch
in `open_checkpoint`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.checkpoint.sqlite.file_system import file_system_advice, is_on_network
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.errors import SetupFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.checkpoint.ports import Checkpoint
    from daemon.config.settings import SqliteSettings
    from daemon.targets.place import TargetPlace


async def open_checkpoint(
    settings: SqliteSettings, target: TargetPlace, *, create: bool = True
) -> Checkpoint:
    """Opens the checkpoint; the caller closes it.

    Args:
        settings: the section ``checkpoint``.
        target: whose jobs, claims and name locks the checkpoint is for. `ANY_TARGET`: only to
            be asked what it has of all targets; that changes nothing.
        create: make a new one where there is none.

    Raises:
        SetupFault: it cannot be used, or does not exist and `create` is False.
    """
    if not create and not settings.path.exists():
        raise SetupFault(
            f"checkpoint.path: there is no checkpoint at {settings.path}; has the daemon run with "
            "this configuration?"
        )
    return await open_sqlite_checkpoint(settings.path, target)


def checkpoint_advice(settings: SqliteSettings) -> str:
    """What to know about where the checkpoint is; "" if there is nothing."""
    return file_system_advice(settings.path)


def on_network_disk(settings: SqliteSettings) -> bool:
    """Whether hosts may share the checkpoint's disk, which they must not."""
    return is_on_network(settings.path)


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
