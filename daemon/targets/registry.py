"""The targets that exist. Adding one: its package, its configuration in `daemon.config`, one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.targets.modeldb_v2.target import open_modeldb_v2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from daemon.config import ModelDbV2Settings
    from daemon.targets.base import Target

KINDS: Mapping[str, Callable[[ModelDbV2Settings, Callable[[str, str], None]], Target]] = {"modeldb-v2": open_modeldb_v2}


def open_target(settings: ModelDbV2Settings, observe: Callable[[str, str], None] = lambda _operation, _result: None) -> Target:
    """The configured target, not yet connected.

    Args:
        settings: the section ``target``.
        observe: told (operation, result) of each request.

    Raises:
        SetupFault: a file that the settings name cannot be used.
    """
    return KINDS[settings.kind](settings, observe)
