"""The kinds of checkpoint. The daemon, ``check`` and ``history`` all open theirs here.

Adding a kind: its package beside `sqlite`, its configuration in `daemon.config.settings`, a branch
in `open_checkpoint`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.errors import SetupFault

if TYPE_CHECKING:
    from daemon.checkpoint.ports import Checkpoint
    from daemon.config.settings import SqliteSettings


async def open_checkpoint(settings: SqliteSettings, *, create: bool = True) -> Checkpoint:
    """Opens the checkpoint; the caller closes it.

    Args:
        settings: the section ``checkpoint``.
        create: make a new one where there is none.

    Raises:
        SetupFault: it cannot be used, or does not exist and `create` is False.
    """
    if not create and not settings.path.exists():
        raise SetupFault(
            f"checkpoint.path: there is no checkpoint at {settings.path}; has the daemon run with "
            "this configuration?"
        )
    return await open_sqlite_checkpoint(settings.path)
