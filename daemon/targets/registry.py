"""The kinds of target. Adding one: its package, its settings class, its line in `TARGET_KINDS`; or
a package of its own (`daemon.targets.plugins`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon.errors import DaemonError, SetupFault
from daemon.targets.kind import TargetContext
from daemon.targets.mlflow.kind import MLFLOW
from daemon.targets.modeldb_v1.kind import MODELDB_V1
from daemon.targets.modeldb_v2.kind import MODELDB_V2
from daemon.targets.plugins import TARGET_MEMBERS, load_plug_ins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.targets.kind import TargetKind
    from daemon.targets.plugins import PlugIn
    from daemon.targets.ports import Target
    from daemon.targets.settings import TargetSettings

TARGET_KINDS: dict[str, TargetKind[Any]] = {
    kind.name: kind for kind in (MODELDB_V2, MODELDB_V1, MLFLOW)
}
DEFAULT_KIND = MODELDB_V2.name
PLUG_INS: Sequence[PlugIn] = load_plug_ins(TARGET_KINDS)
"""Those of other packages, whether they can be used or not."""
TARGET_KINDS |= {plug_in.name: plug_in.kind for plug_in in PLUG_INS if plug_in.kind is not None}
NO_CONTEXT = TargetContext()
"""Of a caller that has nothing to give, not even the permit to write."""


def plug_in_of(kind: str) -> PlugIn | None:
    """The plug-in that brings a kind; None: a built-in kind, or an unknown one."""
    return next((each for each in PLUG_INS if each.kind is not None and each.name == kind), None)


def unusable_plug_in(kind: object) -> PlugIn | None:
    """The plug-in that ``target.kind`` names and that cannot be used; None: there is none."""
    return next(
        (each for each in PLUG_INS if each.fault and kind in {each.name, each.word or each.name}),
        None,
    )


def open_target(settings: TargetSettings, context: TargetContext = NO_CONTEXT) -> Target:
    """The configured target, not yet connected.

    Args:
        settings: the section ``target``.
        context: what the daemon gives it.

    Raises:
        SetupFault: a file that the settings name cannot be used, or a plug-in makes no target.
    """
    plug_in = plug_in_of(settings.kind)
    try:
        target = TARGET_KINDS[settings.kind].open(settings, context)
    except DaemonError:
        raise
    except Exception as error:
        if plug_in is None:
            raise
        raise SetupFault(plug_in.failure(error)) from error
    lacks = [name for name in TARGET_MEMBERS if not hasattr(target, name)]
    if plug_in is not None and lacks:
        raise SetupFault(
            f"the plug-in {plug_in} makes no daemon.targets.ports.Target: it lacks "
            f"{', '.join(lacks)}"
        )
    return target
