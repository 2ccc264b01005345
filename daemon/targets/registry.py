"""The kinds of target. Adding one: its package, its settings class, its line in `TARGET_KINDS`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon.targets.modeldb_v1.kind import MODELDB_V1
from daemon.targets.modeldb_v2.kind import MODELDB_V2
from daemon.targets.ports import NoPermit

if TYPE_CHECKING:
    from daemon.targets.kind import Observe, TargetKind
    from daemon.targets.ports import Target, WritePermit
    from daemon.targets.settings import TargetSettings

TARGET_KINDS: dict[str, TargetKind[Any]] = {kind.name: kind for kind in (MODELDB_V2, MODELDB_V1)}
DEFAULT_KIND = MODELDB_V2.name


def register(kind: TargetKind[Any]) -> None:
    """Adds a kind, before `daemon.config.settings` is imported: its sections come from here."""
    TARGET_KINDS[kind.name] = kind


def open_target(
    settings: TargetSettings,
    observe: Observe = lambda _operation, _result: None,
    permit: WritePermit | None = None,
) -> Target:
    """The configured target, not yet connected.

    Args:
        settings: the section ``target``.
        observe: called with (operation, result) of each request.
        permit: to write, for a kind that takes one writer only; None: nothing will be written.

    Raises:
        SetupFault: a file that the settings name cannot be used.
    """
    return TARGET_KINDS[settings.kind].open(settings, observe, permit or NoPermit())
